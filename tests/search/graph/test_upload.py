"""A file as it is: where its nodes stand once functions are inlined, and what stands beside it."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from search.graph.upload import Upload

OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]


def _function(name: str, *nodes: onnx.NodeProto) -> onnx.FunctionProto:
    return helper.make_function("own", name, ["a"], ["b"], nodes, OPSETS)


def _model(nodes: list[onnx.NodeProto], *tensors: TensorProto) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], list(tensors))
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=8)


def test_every_node_of_the_flat_file_knows_its_place() -> None:
    """Calls side by side, a function that calls another one, and nodes between them."""
    inner = _function("Inner", helper.make_node("Relu", ["a"], ["m"]), helper.make_node("Neg", ["m"], ["b"]))
    outer = _function(
        "Outer", helper.make_node("Inner", ["a"], ["m"], domain="own"), helper.make_node("Abs", ["m"], ["b"])
    )
    calls = [("Inner", "own"), ("Outer", "own"), ("Sigmoid", ""), ("Inner", "own"), ("Tanh", "")]
    names = ["x", "a", "b", "c", "d", "y"]
    model = _model(
        [helper.make_node(op, [names[i]], [names[i + 1]], domain=domain) for i, (op, domain) in enumerate(calls)]
    )
    model.functions.extend([inner, outer])
    upload = Upload(model.SerializeToString())
    assert [node.op_type for node in upload.flat().graph.node] == [
        "Relu", "Neg", "Relu", "Neg", "Abs", "Sigmoid", "Relu", "Neg", "Tanh",
    ]  # fmt: skip
    assert upload.positions == (None, None, None, None, None, 2, None, None, 4)


def test_what_stood_outside_stands_outside_again() -> None:
    """Initializers, Constants, and tensors within a body alike; what the file held stays in the file."""
    values = {name: np.arange(4, dtype=np.float32) + i for i, name in enumerate(("w", "inline", "k", "inner"))}
    tensors = {name: numpy_helper.from_array(value, name) for name, value in values.items()}
    content = bytearray()
    for name in ("w", "k", "inner"):
        for key, value in (("location", "all.bin"), ("offset", len(content)), ("length", 16)):
            tensors[name].external_data.add(key=key, value=str(value))
        content += tensors[name].raw_data
        tensors[name].ClearField("raw_data")
        tensors[name].data_location = TensorProto.EXTERNAL
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "inner"], ["o"])], "body", [],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)], [tensors["inner"]],
    )  # fmt: skip
    nodes = [
        helper.make_node("Constant", [], ["k"], value=tensors["k"]),
        helper.make_node("Sum", ["x", "w", "k", "inline"], ["s"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=body, else_branch=body),
    ]
    flag = numpy_helper.from_array(np.array(True), "flag")
    model = _model(nodes, tensors["w"], tensors["inline"], flag)
    upload = Upload(model.SerializeToString(), {"all.bin": bytes(content)})
    file, data = upload.packed(upload.whole, "again.data")
    assert data is not None
    again = Upload(file, {"again.data": data})
    assert again.whole == upload.whole
    outside = {t.name for t in onnx.ModelProto.FromString(file).graph.initializer if t.external_data}
    assert outside == {"w"}
    assert b"inner" in file
    assert values["inner"].tobytes() not in file
    assert values["k"].tobytes() not in file
