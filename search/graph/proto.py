"""Between protobuf messages and our graph, both ways; no checks, no rewrites."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.inliner
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from search.graph.ir import Graph, Node, TensorInfo
from search.graph.sampling import Sampling

STANDARD_DOMAINS = ("", "ai.onnx")


def to_graph(proto: onnx.ModelProto, opsets: dict[str, int]) -> Graph:
    """The graph of a checked model, its local functions inlined.

    Raises:
        ValueError: an initializer's bytes do not match its dimensions.
        TypeError: an initializer has a type that numpy does not know.
    """
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    graph = proto.graph
    initializers = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    inputs = tuple(_to_info(value) for value in graph.input if value.name not in initializers)
    outputs = tuple(_to_info(value) for value in graph.output)
    return Graph(
        nodes=_unique(tuple(_to_node(node, index) for index, node in enumerate(graph.node))),
        initializers=initializers,
        inputs=inputs,
        outputs=outputs,
        opsets=opsets,
        ir_version=max(proto.ir_version, 4),  # from 4 on, initializers need not be inputs
        name=graph.name or "graph",
        sampling=Sampling.declared(inputs, outputs),
    )


def _unique(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    seen: dict[str, int] = {}
    result = []
    for node in nodes:
        count = seen.get(node.name, 0)
        seen[node.name] = count + 1
        result.append(node.renamed(f"{node.name}_{count}") if count else node)
    return tuple(result)


def _to_node(node: onnx.NodeProto, index: int) -> Node:
    domain = "" if node.domain in STANDARD_DOMAINS else node.domain
    attributes = {attribute.name: _to_attribute(node.op_type, attribute) for attribute in node.attribute}
    name = node.name or f"{node.op_type}_{index}"
    return Node(name, node.op_type, tuple(node.input), tuple(node.output), attributes, domain)


def _to_attribute(op: str, attribute: AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    if attribute.type == AttributeProto.TENSOR:
        return numpy_helper.to_array(value)
    if attribute.name == "to" and op in ("Cast", "BitCast"):
        return np.dtype(helper.tensor_dtype_to_np_dtype(value))
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if attribute.type == AttributeProto.STRINGS:
        return [item.decode(errors="replace") for item in value]
    return list(value) if attribute.type in (AttributeProto.INTS, AttributeProto.FLOATS) else value


def _to_info(value: onnx.ValueInfoProto) -> TensorInfo:
    tensor = value.type.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type) if tensor.elem_type else np.dtype(object)
    shape = tuple(_size(dim) for dim in tensor.shape.dim)
    return TensorInfo(value.name, np.dtype(dtype), shape)


def _size(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    """A number, a name, or None; some exporters write a free size as -1."""
    if dim.HasField("dim_value"):
        return dim.dim_value if dim.dim_value >= 0 else None
    return dim.dim_param or None


def from_graph(graph: Graph) -> onnx.ModelProto:
    """The graph as a model; the same graph gives the same message."""
    proto = helper.make_graph(
        [from_node(node) for node in graph.nodes],
        graph.name,
        [from_info(info) for info in graph.inputs],
        [from_info(info) for info in graph.outputs],
        [numpy_helper.from_array(np.asarray(value, order="C"), name) for name, value in graph.initializers.items()],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in graph.opsets.items()]
    return helper.make_model(proto, opset_imports=opsets, ir_version=graph.ir_version, producer_name="secateur")


def from_node(node: Node) -> onnx.NodeProto:
    """One operator as a message."""
    attributes = {name: _from_attribute(node, name, value) for name, value in sorted(node.attributes.items())}
    return helper.make_node(node.op, node.inputs, node.outputs, name=node.name, domain=node.domain, **attributes)


def _from_attribute(node: Node, name: str, value: object) -> Any:
    if isinstance(value, np.dtype):
        return helper.np_dtype_to_tensor_dtype(value)
    if isinstance(value, np.ndarray):
        return numpy_helper.from_array(value, f"{node.name}.{name}")
    return value


def from_info(info: TensorInfo) -> onnx.ValueInfoProto:
    """A typed, shaped name as a message."""
    dtype = helper.np_dtype_to_tensor_dtype(info.dtype) if info.dtype != np.dtype(object) else TensorProto.STRING
    return helper.make_tensor_value_info(info.name, dtype, info.shape)
