"""Files that ask for too much or contradict themselves, each a few kilobytes at most."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.search.graph.nets import Net, resnet


def _model(nodes: list[onnx.NodeProto], shape: list[int], initializers: dict[str, list[int]], output: str) -> bytes:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["any"])],
        [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in initializers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def constant_bomb() -> bytes:
    """ConstantOfShape of 2^40 elements."""
    return _model([helper.make_node("ConstantOfShape", ["s"], ["y"])], [1], {"s": [1 << 20, 1 << 20]}, "y")


def expand_bomb() -> bytes:
    """Expand of the input to 2^40 elements."""
    return _model([helper.make_node("Expand", ["x", "s"], ["y"])], [1], {"s": [1 << 20, 1 << 20]}, "y")


def tile_bomb() -> bytes:
    """Tile by 2^31."""
    return _model([helper.make_node("Tile", ["x", "s"], ["y"])], [8], {"s": [1 << 31]}, "y")


def concat_bomb() -> bytes:
    """Forty doublings of the input."""
    nodes = [helper.make_node("Concat", [f"v{i}"] * 2, [f"v{i + 1}"], axis=0) for i in range(40)]
    return _model([helper.make_node("Relu", ["x"], ["v0"]), *nodes], [1], {}, "v40")


def constant_concat_bomb() -> bytes:
    """Forty doublings of a constant, which folding would compute."""
    nodes = [helper.make_node("Concat", [f"v{i}"] * 2, [f"v{i + 1}"], axis=0) for i in range(40)]
    start = helper.make_node("Constant", [], ["v0"], value_floats=[1.0])
    return _model([start, *nodes, helper.make_node("Add", ["x", "v40"], ["y"])], [1], {}, "y")


def outer_product_bomb() -> bytes:
    """A column times a row."""
    nodes = [
        helper.make_node("Expand", ["x", "s"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"]),
        helper.make_node("MatMul", ["a", "b"], ["y"]),
    ]
    return _model(nodes, [1, 1], {"s": [1 << 20, 1]}, "y")


def broadcast_bomb() -> bytes:
    """A column plus a row."""
    nodes = [
        helper.make_node("Expand", ["x", "s"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    return _model(nodes, [1, 1], {"s": [1 << 20, 1]}, "y")


def pad_bomb() -> bytes:
    """Padding by 2^40."""
    return _model([helper.make_node("Pad", ["x", "s"], ["y"])], [1], {"s": [0, 1 << 40]}, "y")


def resize_bomb() -> bytes:
    """An image of 2^20 by 2^20."""
    nodes = [helper.make_node("Resize", ["x", "", "", "s"], ["y"], mode="nearest")]
    return _model(nodes, [1, 1, 2, 2], {"s": [1, 1, 1 << 20, 1 << 20]}, "y")


def resize_beside_nothing() -> bytes:
    """Resize of one axis to 2^36, beside an axis of nothing: the product is nothing, the positions are not."""
    node = helper.make_node("Resize", ["x", "", "", "s"], ["y"], mode="nearest")
    return _model([node], [1, 1, 2, 2], {"s": [1, 1 << 36, 0, 1]}, "y")


def resize_to_the_largest() -> bytes:
    """One axis of Resize names 2^20, and the others follow it."""
    node = helper.make_node("Resize", ["x", "", "", "s"], ["y"], keep_aspect_ratio_policy="not_smaller")
    model = onnx.ModelProto.FromString(_model([node], [1, 1, 2, 2], {"s": [1, 1, 2, 1 << 20]}, "y"))
    model.opset_import[0].version = 18  # the attribute is as new as that
    return bytes(model.SerializeToString())


def unknown_type() -> bytes:
    """An initializer of a type that ONNX does not have."""
    model = onnx.ModelProto.FromString(resize_bomb())
    model.graph.initializer[0].data_type = 48
    return bytes(model.SerializeToString())


def endless_version() -> bytes:
    """An operator set of a number that fits no int."""
    model = onnx.ModelProto.FromString(_model([helper.make_node("F", ["x"], ["y"], domain="d")], [1], {}, "y"))
    model.opset_import.append(helper.make_opsetid("d", 1 << 40))
    return bytes(model.SerializeToString())


def function_of_nothing() -> bytes:
    """A local function whose body reads a name that is nowhere."""
    body = helper.make_function(
        "d", "F", ["a"], ["b"], [helper.make_node("Add", ["a", "c"], ["b"])], [helper.make_opsetid("", 17)]
    )
    model = onnx.ModelProto.FromString(_model([helper.make_node("F", ["x"], ["y"], domain="d")], [1], {}, "y"))
    model.opset_import.append(helper.make_opsetid("d", 1))
    model.functions.append(body)
    return bytes(model.SerializeToString())


def range_from_nothing() -> bytes:
    """A Range whose start is an empty constant."""
    node = helper.make_node("Range", ["a", "b", "b"], ["y"])
    return _model([node], [1], {"a": [], "b": [1]}, "y")


def range_bomb() -> bytes:
    """The numbers up to 2^40."""
    nodes = [
        helper.make_node("Range", ["a", "b", "c"], ["r"]),
        helper.make_node("Cast", ["r"], ["y"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["any"])],
        [numpy_helper.from_array(np.array(v, np.int64), n) for n, v in {"a": 0, "b": 1 << 40, "c": 1}.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def huge_input() -> bytes:
    """An input of 2^40 elements."""
    return _model([helper.make_node("Relu", ["x"], ["y"])], [1 << 20, 1 << 20], {}, "y")


def wide_convolution_pad() -> bytes:
    """A convolution padded by 2^30."""
    net = Net((1, 1, 4, 4))
    net.op("Conv", "x", net.weight(1, 1, 3, 3), pads=[1 << 30] * 4)
    return net.bytes()


def endless_loop() -> bytes:
    """A loop of 2^62 turns whose condition stays true."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Relu", ["v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("d", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [1]),
        ],
    )
    return _model([helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)], [1], {"n": [1 << 62]}, "y")


def _functions(functions: dict[str, list[str]]) -> bytes:
    """Local functions that call others, by name."""
    made = []
    for name, calls in functions.items():
        nodes = [helper.make_node(call, ["a"], [f"b{i}"], domain="f") for i, call in enumerate(calls)]
        nodes.append(helper.make_node("Identity", [f"b{len(calls) - 1}" if calls else "a"], ["z"]))
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
        made.append(helper.make_function("f", name, ["a"], ["z"], nodes, opsets))
    graph = helper.make_graph(
        [helper.make_node(next(iter(functions)), ["x"], ["y"], domain="f")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, functions=made, ir_version=8).SerializeToString())


def recursive_functions() -> bytes:
    """Two local functions that call each other."""
    return _functions({"p": ["q"], "q": ["p"]})


def exponential_functions() -> bytes:
    """Thirty local functions that call the next one twice: 2^30 nodes once inlined."""
    return _functions({f"p{i}": [f"p{i + 1}"] * 2 if i < 30 else [] for i in range(31)})


def external_initializer() -> bytes:
    """A weight that is a path out of the directory."""
    model = resnet().proto()
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    model.graph.initializer[0].external_data.add(key="location", value="../../etc/passwd")
    return bytes(model.SerializeToString())


def external_in_a_body() -> bytes:
    """A path in the constant of a subgraph."""
    tensor = helper.make_tensor("t", TensorProto.FLOAT, [1], [1.0])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    output = helper.make_tensor_value_info("o", TensorProto.FLOAT, [1])
    body = helper.make_graph([helper.make_node("Constant", [], ["o"], value=tensor)], "b", [], [output])
    nodes = [helper.make_node("Cast", ["x"], ["c"], to=TensorProto.BOOL)]
    nodes.append(helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body))
    return _model(nodes, [1], {}, "y")


def lying_dimensions() -> bytes:
    """A weight that says it has a million rows."""
    model = resnet().proto()
    model.graph.initializer[0].dims[0] = 1_000_000
    return bytes(model.SerializeToString())


def channel_mismatch() -> bytes:
    """A convolution of 4 channels that reads 3, which the checker does not see."""
    net = Net()
    net.conv("x", 4, 4)
    graph = helper.make_graph(
        net.nodes,
        "g",
        net.inputs,
        [helper.make_tensor_value_info(net.nodes[-1].output[0], TensorProto.FLOAT, ["any"])],
        [numpy_helper.from_array(value, name) for name, value in net.initializers.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


HOSTILE: dict[str, Callable[[], bytes]] = {
    function.__name__: function
    for function in (
        constant_bomb, expand_bomb, tile_bomb, concat_bomb, constant_concat_bomb, outer_product_bomb, broadcast_bomb,
        pad_bomb, resize_bomb, resize_beside_nothing, resize_to_the_largest, unknown_type,
        endless_version, function_of_nothing, range_from_nothing,
        range_bomb, huge_input, wide_convolution_pad, endless_loop,
        recursive_functions, exponential_functions, external_initializer, external_in_a_body, lying_dimensions,
        channel_mismatch,
    )
}  # fmt: skip
