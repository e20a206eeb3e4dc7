"""Operators that ONNX defines by a body of simpler ones: computed by running that body."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from onnx import helper

from search.graph.ir import Graph, Node
from search.graph.lower import Inputs, Lower, Value
from search.graph.proto import from_node, to_graph


def by_body(opset: int) -> Lower:
    """Lower an operator of the standard set through the body that its schema gives."""

    def lower(node: Node, inputs: Inputs) -> Value:
        from search.graph import execute  # the interpreter refers to the table, and this entry to it  # noqa: PLC0415

        given = tuple(
            (f"i{i}", str(value.dtype), tuple(value.shape)) if value is not None else None
            for i, value in enumerate(inputs)
        )
        outputs = tuple(f"o{i}" if name else "" for i, name in enumerate(node.outputs))
        names = tuple(entry[0] if entry else "" for entry in given)
        plain = Node("node", node.op, names, outputs, node.attributes, node.domain)
        graph = _body(from_node(plain).SerializeToString(deterministic=True), given, opset)
        values = {**graph.initializers, **{n: v for n, v in zip(names, inputs, strict=True) if n}}
        execute.walk(graph, values)
        return tuple(values[name] if name else None for name in outputs)

    return lower


@functools.lru_cache(maxsize=256)
def _body(node: bytes, given: tuple[Any, ...], opset: int) -> Graph:
    """The body for inputs of given types and shapes.

    Raises:
        NotImplementedError: the schema has no body for them.
    """
    proto = onnx.NodeProto.FromString(node)
    inputs = [
        helper.make_tensor_value_info(entry[0], helper.np_dtype_to_tensor_dtype(np.dtype(entry[1])), entry[2])
        for entry in given
        if entry
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in proto.output if name]
    graph = helper.make_graph([proto], "body", inputs, outputs)
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(proto.domain, 1)] if proto.domain else [])]
    model = onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=opsets))
    inlined = onnx.inliner.inline_selected_functions(
        model, [(proto.domain, proto.op_type)], exclude=False, inline_schema_functions=True
    )
    if any(item.op_type == proto.op_type and item.domain == proto.domain for item in inlined.graph.node):
        raise NotImplementedError("the standard gives no body for these inputs")
    found = {item.domain: item.version for item in inlined.opset_import}
    return to_graph(inlined, {**found, "": found.get("", opset)})
