"""Operators that ONNX defines by a body of simpler ones: computed by running that body."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import onnx
from onnx import helper

from search.graph.ir import Graph, Node
from search.graph.ops.compute import compute
from search.graph.ops.lower import Inputs, Lower, Value
from search.graph.proto import from_node, to_graph


def by_body(opset: int) -> Lower:
    """Lower an operator of the standard set through the body that its schema gives."""

    def lower(node: Node, inputs: Inputs) -> Value:
        given = tuple(
            (f"i{i}", str(value.dtype), tuple(value.shape)) if value is not None else None
            for i, value in enumerate(inputs)
        )
        outputs = tuple(f"o{i}" if name else "" for i, name in enumerate(node.outputs))
        names = tuple(entry[0] if entry else "" for entry in given)
        plain = Node("node", node.op, names, outputs, node.attributes, node.domain)
        graph = _body(from_node(plain).SerializeToString(deterministic=True), given, opset)
        values = {**graph.initializers, **{n: v for n, v in zip(names, inputs, strict=True) if n}}
        for step in graph.nodes:
            made = compute(step, [values[name] if name else None for name in step.inputs], graph.opset)
            values.update(zip(step.outputs, made, strict=False))
        return tuple(values[name] if name else None for name in outputs)

    return lower


@functools.lru_cache(maxsize=256)
def _body(node: bytes, given: tuple[Any, ...], opset: int) -> Graph:
    """The body for inputs of given types and shapes.

    Raises:
        NotImplementedError: the schema has no body for them.
    """
    proto = onnx.NodeProto.FromString(node)
    schema = onnx.defs.get_schema(proto.op_type, _schema_version(proto.domain, opset), proto.domain)
    function = _function(schema, proto, [_type(entry) for entry in given], opset)
    function.domain, function.name = "body", "body"
    defaults = [a.default_value for a in schema.attributes.values() if a.default_value.type]
    named = {attribute.name for attribute in proto.attribute}
    call = helper.make_node("body", proto.input, proto.output, domain="body")
    call.attribute.extend([*proto.attribute, *(a for a in defaults if a.name not in named)])
    found = {item.domain: item.version for item in function.opset_import}
    found[""] = found.get("", opset)
    inputs = [onnx.ValueInfoProto(name=name, type=_type(entry)) for name, entry in zip(proto.input, given, strict=True)]
    graph = helper.make_graph([call], "body", [item for item in inputs if item.name], _outputs(proto))
    opsets = [helper.make_opsetid(domain, version) for domain, version in {**found, "body": 1}.items()]
    return to_graph(helper.make_model(graph, opset_imports=opsets, functions=[function]), found)


def _schema_version(domain: str, opset: int) -> int:
    return opset if not domain else 1


def _type(entry: Any) -> onnx.TypeProto:
    """Element type and shape; an input that is left out has an empty type."""
    if entry is None:
        return onnx.TypeProto()
    _, dtype, shape = entry
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)


def _outputs(proto: onnx.NodeProto) -> list[onnx.ValueInfoProto]:
    return [onnx.ValueInfoProto(name=name) for name in proto.output if name]


def _function(schema: Any, proto: onnx.NodeProto, types: list[onnx.TypeProto], opset: int) -> onnx.FunctionProto:
    """The newest body that is not newer than the model's operator set."""
    node, known = proto.SerializeToString(), [item.SerializeToString() for item in types]
    for version in sorted(schema.function_opset_versions, reverse=True):
        if version <= opset or proto.domain:
            return _parsed(schema.get_function_with_opset_version(version))
    for version in sorted(schema.context_dependent_function_opset_versions, reverse=True):
        if version <= opset or proto.domain:
            data = schema.get_context_dependent_function_with_opset_version(version, node, known)
            if data:
                return _parsed(data)
    raise NotImplementedError("the standard gives no body for these inputs")


def _parsed(data: bytes) -> onnx.FunctionProto:
    function = onnx.FunctionProto()
    function.ParseFromString(data)
    return function
