"""ONNX bytes to a normalised `Graph`. Nothing is allocated before the file has been looked through."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import google.protobuf.message  # type: ignore[import-untyped]
import numpy as np
import onnx
import onnx.inliner
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from search.errors import ExternalDataRefused, InvalidModel, UnsupportedOperator, UnsupportedOpset
from search.graph.ir import Graph, Node, TensorInfo
from search.graph.normalise import normalise

OLDEST_OPSET = 7
NEWEST_OPSET = onnx.defs.onnx_opset_version()
STANDARD_DOMAINS = ("", "ai.onnx")


def load(data: bytes) -> Graph:
    """Read a model file.

    Raises:
        InvalidModel: not ONNX, empty, or contradicting itself.
        ExternalDataRefused: weights outside the file.
        UnsupportedOpset: an operator set outside what we read.
        UnsupportedOperator: an operator that ONNX does not define; names the node.
    """
    return normalise(read(data))


def read(data: bytes) -> Graph:
    """As `load`, without normalisation."""
    proto = _parse(data)
    _refuse_external_data(proto)
    opsets = _opsets(proto)
    _refuse_unknown_operators(proto, opsets)
    try:
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise InvalidModel(
            f"the ONNX checker refuses the model: {_first_line(error)}; check it with onnx.checker.check_model"
        ) from error
    return _graph(proto, opsets)


def _parse(data: bytes) -> onnx.ModelProto:
    if not data:
        raise InvalidModel("the model file is empty; upload an .onnx file")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except google.protobuf.message.DecodeError as error:
        kind = _describe(data)
        raise InvalidModel(f"the file is not an ONNX model ({kind}); upload a complete .onnx file") from error
    if not proto.graph.node:
        raise InvalidModel(f"the model has no nodes ({_describe(data)}); upload a complete .onnx file")
    return proto


def _describe(data: bytes) -> str:
    """What the first bytes look like, for the message."""
    known = {
        b"\x89PNG": "it is a PNG image",
        b"PK": "it is a zip archive",
        b"\xff\xd8": "it is a JPEG image",
        b"\x80\x02": "it is a pickle",
    }
    found = next((text for magic, text in known.items() if data.startswith(magic)), "truncated or another format")
    return f"{found}, {len(data)} bytes"


def _tensors(message: Any) -> Iterator[TensorProto]:
    """Every tensor anywhere below a protobuf message: initializers, constants, subgraphs, functions."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for item in value if field.is_repeated else [value]:
            if isinstance(item, TensorProto):
                yield item
            yield from _tensors(item)


def _refuse_external_data(proto: onnx.ModelProto) -> None:
    for tensor in _tensors(proto):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise ExternalDataRefused(
                f"tensor `{tensor.name}` is stored outside the file; save the model with save_as_external_data=False",
                tensor=tensor.name,
            )


def _opsets(proto: onnx.ModelProto) -> dict[str, int]:
    opsets = {"" if item.domain in STANDARD_DOMAINS else item.domain: item.version for item in proto.opset_import}
    version = opsets.get("", 0)
    if not OLDEST_OPSET <= version <= NEWEST_OPSET:
        raise UnsupportedOpset(
            f"the model uses operator set {version}; {OLDEST_OPSET} to {NEWEST_OPSET} are read; "
            "convert it with onnx.version_converter",
            found=version,
            oldest=OLDEST_OPSET,
            newest=NEWEST_OPSET,
        )
    return opsets


def _refuse_unknown_operators(proto: onnx.ModelProto, opsets: dict[str, int]) -> None:
    functions = {(function.domain, function.name) for function in proto.functions}
    for index, node in enumerate(proto.graph.node):
        domain = "" if node.domain in STANDARD_DOMAINS else node.domain
        known = onnx.defs.has(node.op_type, opsets.get(domain, 1), domain) or (node.domain, node.op_type) in functions
        if not known:
            name = node.name or f"{node.op_type}_{index}"
            operator = f"{domain}::{node.op_type}" if domain else node.op_type
            raise UnsupportedOperator(
                f"node `{name}`: no runtime here knows the operator {operator}; "
                "export the model with standard ONNX operators",
                node=name,
                operator=operator,
            )


def _graph(proto: onnx.ModelProto, opsets: dict[str, int]) -> Graph:
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    graph = proto.graph
    try:
        initializers = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    except (ValueError, TypeError) as error:
        raise InvalidModel(f"an initializer cannot be read: {_first_line(error)}; the file may be truncated") from error
    nodes = tuple(_node(node, index) for index, node in enumerate(graph.node))
    return Graph(
        nodes=_unique(nodes),
        initializers=initializers,
        inputs=tuple(_info(value) for value in graph.input if value.name not in initializers),
        outputs=tuple(_info(value) for value in graph.output),
        opsets=opsets,
        ir_version=max(proto.ir_version, 4),  # from 4 on, initializers need not be inputs
        name=graph.name or "graph",
    )


def _unique(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    seen: dict[str, int] = {}
    result = []
    for node in nodes:
        count = seen.get(node.name, 0)
        seen[node.name] = count + 1
        result.append(
            node
            if not count
            else Node(f"{node.name}_{count}", node.op, node.inputs, node.outputs, node.attributes, node.domain)
        )
    return tuple(result)


def _node(node: onnx.NodeProto, index: int) -> Node:
    domain = "" if node.domain in STANDARD_DOMAINS else node.domain
    attributes = {attribute.name: _attribute(node.op_type, attribute) for attribute in node.attribute}
    return Node(
        node.name or f"{node.op_type}_{index}", node.op_type, tuple(node.input), tuple(node.output), attributes, domain
    )


def _attribute(op: str, attribute: AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    if attribute.type == AttributeProto.TENSOR:
        return numpy_helper.to_array(value)
    if attribute.name == "to" and op == "Cast":
        return np.dtype(helper.tensor_dtype_to_np_dtype(value))
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if attribute.type == AttributeProto.STRINGS:
        return [item.decode(errors="replace") for item in value]
    return list(value) if attribute.type in (AttributeProto.INTS, AttributeProto.FLOATS) else value


def _info(value: onnx.ValueInfoProto) -> TensorInfo:
    tensor = value.type.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type) if tensor.elem_type else np.dtype(object)
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in tensor.shape.dim)
    return TensorInfo(value.name, np.dtype(dtype), shape)


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
