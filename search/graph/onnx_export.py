"""Graph to ONNX bytes, deterministically."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from search.graph.ir import Graph, Node, TensorInfo


def export(graph: Graph) -> bytes:
    """The graph as a checked ONNX file; the same graph gives the same bytes."""
    nodes = [_node(node) for node in graph.nodes]
    proto = helper.make_graph(
        nodes,
        graph.name,
        [_info(info) for info in graph.inputs],
        [_info(info) for info in graph.outputs],
        [numpy_helper.from_array(np.asarray(value, order="C"), name) for name, value in graph.initializers.items()],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in graph.opsets.items()]
    model = helper.make_model(proto, opset_imports=opsets, ir_version=graph.ir_version, producer_name="secateur")
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _node(node: Node) -> onnx.NodeProto:
    attributes = {name: _attribute(node, name, value) for name, value in sorted(node.attributes.items())}
    return helper.make_node(node.op, node.inputs, node.outputs, name=node.name, domain=node.domain, **attributes)


def _attribute(node: Node, name: str, value: object) -> Any:
    if isinstance(value, np.dtype):
        return helper.np_dtype_to_tensor_dtype(value)
    if isinstance(value, np.ndarray):
        return numpy_helper.from_array(value, f"{node.name}.{name}")
    return value


def _info(info: TensorInfo) -> onnx.ValueInfoProto:
    dtype = helper.np_dtype_to_tensor_dtype(info.dtype) if info.dtype != np.dtype(object) else TensorProto.STRING
    return helper.make_tensor_value_info(info.name, dtype, info.shape)
