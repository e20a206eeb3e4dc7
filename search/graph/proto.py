"""Between protobuf messages and our graph, both ways; no checks, no rewrites."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.inliner
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from search.graph.ir import Array, Graph, Node, TensorInfo
from search.graph.messages import rename
from search.graph.sampling import Sampling
from search.graph.sources import Stored, Tensor
from search.graph.upload import overridable

STANDARD_DOMAINS = ("", "ai.onnx")
_PLAIN: dict[int, np.dtype[Any]] = {
    TensorProto.FLOAT: np.dtype("<f4"),
    TensorProto.DOUBLE: np.dtype("<f8"),
    TensorProto.INT32: np.dtype("<i4"),
    TensorProto.INT64: np.dtype("<i8"),
}
"""Types whose raw data are what numpy has in memory."""


def to_graph(proto: onnx.ModelProto, opsets: dict[str, int]) -> Graph:
    """The graph of a checked model, its local functions inlined.

    Raises:
        ValueError: an initializer's bytes do not match its dimensions.
        TypeError: an initializer has a type that numpy does not know.
    """
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    graph = proto.graph
    read = _read(graph) | {value.name for value in graph.output}
    given = {tensor.name for tensor in graph.initializer}
    initializers = {tensor.name: to_array(tensor) for tensor in graph.initializer if tensor.name in read}
    inputs = tuple(_to_info(value) for value in graph.input if value.name not in given)
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
        sources={name: Stored(Tensor(name), value) for name, value in initializers.items()},
        fixed=overridable(proto),
    )


def _read(graph: onnx.GraphProto) -> set[str]:
    """Names that nodes read, those in bodies of control flow among them."""
    found: set[str] = set()
    for node in graph.node:
        found.update(node.input)
        for attribute in node.attribute:
            for body in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                found |= _read(body) | {value.name for value in body.output}
    return found


def to_array(tensor: TensorProto) -> Array:
    """As `onnx.numpy_helper.to_array`, which takes 20 microseconds a tensor; a file may have a million of them.

    Raises:
        ValueError: the bytes do not match the dimensions.
    """
    plain = _PLAIN.get(tensor.data_type)
    if plain is None or not tensor.HasField("raw_data"):
        return numpy_helper.to_array(tensor)
    return np.frombuffer(tensor.raw_data, plain).reshape(tuple(tensor.dims))


def _unique(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    taken = {node.name for node in nodes}
    seen: set[str] = set()
    counts: dict[str, int] = {}
    result = []
    for node in nodes:
        name = node.name
        while name in seen or (name != node.name and name in taken):
            counts[node.name] = counts.get(node.name, 0) + 1
            name = f"{node.name}_{counts[node.name]}"
        seen.add(name)
        result.append(node if name == node.name else node.renamed(name))
    return tuple(result)


def _to_node(node: onnx.NodeProto, index: int) -> Node:
    domain = "" if node.domain in STANDARD_DOMAINS else node.domain
    attributes = {attribute.name: _to_attribute(node.op_type, attribute) for attribute in node.attribute}
    name = node.name or f"{node.op_type}_{index}"
    return Node(name, node.op_type, tuple(node.input), tuple(node.output), attributes, domain, origin=index)


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
    taken = {info.name for info in graph.inputs} | {name for node in graph.nodes for name in node.outputs}
    taken.update(graph.initializers)
    proto = helper.make_graph(
        [made for node in graph.nodes for made in (_spliced(node, taken) if node.is_carried else [from_node(node)])],
        graph.name,
        [from_info(info) for info in graph.inputs],
        [from_info(info) for info in graph.outputs],
        [numpy_helper.from_array(np.asarray(value, order="C"), name) for name, value in graph.initializers.items()],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in graph.opsets.items()]
    return helper.make_model(proto, opset_imports=opsets, ir_version=graph.ir_version, producer_name="secateur")


def _spliced(node: Node, taken: set[str]) -> list[onnx.NodeProto]:
    """The nodes that a carried one stands for; inner values whose names are taken get others."""
    model = onnx.ModelProto.FromString(node.attributes["model"]).graph
    outer = {info.name: name for info, name in zip(model.input, node.inputs, strict=True)}
    outer |= {info.name: name for info, name in zip(model.output, node.outputs, strict=True)}
    inner = [name for made in model.node for name in made.output if name and name not in outer]
    names = outer | {name: f"{node.name}/{name}" for name in inner if name in taken}
    taken.update(names.get(name, name) for name in inner)
    rename(model.node, names)
    for made in model.node:
        made.name = f"{node.name}/{made.output[0]}"  # ONNX Runtime wants them unique, and a part may be there twice
    return list(model.node)


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
