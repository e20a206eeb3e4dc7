"""Small files with nodes that only ONNX Runtime runs, for tests, and samples for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.search.graph.nets import Array, Net, images

RANDOM = np.random.default_rng(0)
File = tuple[bytes, dict[str, Array]]
_info = helper.make_tensor_value_info


def _weight(*shape: int) -> Array:
    return (RANDOM.standard_normal(shape) / 3).astype(np.float32)


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, Any],
) -> bytes:
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def _dense(source: str, width: int, classes: int = 3) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    """Two layers; the value `y`."""
    nodes = [
        helper.make_node("Gemm", [source, "w1"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2"], ["y"], transB=1),
    ]
    return nodes, {"w1": _weight(8, width), "w2": _weight(classes, 8)}


def _pooled(net: Net) -> str:
    return net.op("Flatten", net.op("GlobalAveragePool", net.op("Relu", net.conv("x", 3, 8))))


def branch_of_weights() -> File:
    """An If in the middle, each branch with a weight from outside."""
    net = Net()
    x = _pooled(net)
    larger = net.op("Greater", net.op("Gather", net.op("Shape", "x"), net.constant(2)), net.constant(4))

    def branch(name: str) -> onnx.GraphProto:
        node = helper.make_node("Gemm", [x, net.weight(5, 8)], [name], transB=1)
        return helper.make_graph([node], name, [], [_info(name, TensorProto.FLOAT, ["N", 5])])

    chosen = net.op("If", larger, then_branch=branch("t"), else_branch=branch("e"))
    net.gemm(net.op("Relu", net.gemm(chosen, 5, 8)), 8, 7)
    return net.bytes(), {"x": images(3, 3, 8, 8)}


def loop() -> File:
    """Three turns of a product with a weight from outside, beside a shortcut."""
    net = Net()
    x, weight = _pooled(net), net.weight(8, 8)
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["v", weight], ["m"]),
            helper.make_node("Tanh", ["m"], ["v2"]),
            helper.make_node("Identity", ["c"], ["c2"]),
        ],
        "body",
        [_info("i", TensorProto.INT64, []), _info("c", TensorProto.BOOL, []), _info("v", TensorProto.FLOAT, ["N", 8])],
        [_info("c2", TensorProto.BOOL, []), _info("v2", TensorProto.FLOAT, ["N", 8])],
    )
    turned = net.op("Loop", net.constant(3), "", x, body=body)
    net.gemm(net.op("Relu", net.gemm(net.op("Add", turned, x), 8, 8)), 8, 5)
    return net.bytes(), {"x": images(3, 3, 8, 8)}


def sequence() -> File:
    """A sequence made before a layer and read after it."""
    net = Net()
    x = _pooled(net)
    made = net.op("SequenceConstruct", x, net.op("Relu", x))
    layer = net.gemm(net.op("SequenceAt", made, net.constant(0)), 8, 8)
    longer = net.op("SequenceInsert", made, net.op("Relu", layer))
    net.gemm(net.op("Relu", net.gemm(net.op("ConcatFromSequence", longer, axis=1), 24, 9)), 9, 4)
    return net.bytes(), {"x": images(3, 3, 8, 8)}


def sized_by_data() -> File:
    """NonZero in the middle: how many there are scales a map."""
    net = Net()
    x = net.op("Relu", net.conv("x", 3, 8))
    count = net.op("Gather", net.op("Shape", net.op("NonZero", x)), net.constant(1))
    share = net.op("Div", net.op("Cast", count, to=TensorProto.FLOAT), net.constant(1000.0, np.float32))
    net.classifier(net.op("Relu", net.conv(net.op("Mul", x, share), 8, 8)), 8)
    return net.bytes(), {"x": images(3, 3, 8, 8)}


def words() -> File:
    """Text is looked up in front of the network."""
    nodes, weights = _dense("all", 11)
    nodes[:0] = [
        helper.make_node(
            "LabelEncoder",
            ["s"],
            ["i"],
            domain="ai.onnx.ml",
            keys_strings=["0", "1"],
            values_int64s=[0, 1],
            default_int64=2,
        ),
        helper.make_node("Gather", ["table", "i"], ["e"]),
        helper.make_node("Concat", ["e", "x"], ["all"], axis=1),
    ]
    inputs = [_info("s", TensorProto.STRING, ["N"]), _info("x", TensorProto.FLOAT, ["N", 6])]
    outputs = [_info("y", TensorProto.FLOAT, ["N", 3])]
    return _model(nodes, inputs, outputs, {"table": _weight(3, 5), **weights}), {
        "s": np.array(["0", "1", "x"], object),
        "x": _weight(3, 6),
    }


def hashed() -> File:
    """Ids are multiplied beyond 32 bits and divided again in front of the network."""
    nodes, weights = _dense("p", 5)
    nodes[:0] = [
        helper.make_node("Mul", ["t", "k"], ["m"]),
        helper.make_node("Mod", ["m", "q"], ["i"]),
        helper.make_node("Gather", ["table", "i"], ["e"]),
        helper.make_node("ReduceMean", ["e"], ["p"], axes=[1], keepdims=0),
    ]
    inputs, outputs = [_info("t", TensorProto.INT64, ["N", 7])], [_info("y", TensorProto.FLOAT, ["N", 3])]
    constants = {"table": _weight(50, 5), "k": np.array(2654435761), "q": np.array(50), **weights}
    return _model(nodes, inputs, outputs, constants), {"t": RANDOM.integers(0, 1000, (3, 7))}


def labels() -> File:
    """Classes as text and a list of dictionaries behind the network, as converters of classical models write them."""
    nodes, weights = _dense("x", 6)
    nodes += [
        helper.make_node("Softmax", ["y"], ["p"]),
        helper.make_node("ZipMap", ["p"], ["named"], domain="ai.onnx.ml", classlabels_strings=["a", "b", "c"]),
    ]
    kind = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    outputs = [helper.make_value_info("named", helper.make_sequence_type_proto(kind))]
    return _model(nodes, [_info("x", TensorProto.FLOAT, ["N", 6])], outputs, weights), {"x": _weight(3, 6)}


def boxes() -> File:
    """Suppression of boxes behind the network, whose number depends on the data."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["o"]),
        helper.make_node("Reshape", ["o", "shape"], ["flat"]),
        helper.make_node("Split", ["flat", "sizes"], ["b", "scores"], axis=1),
        helper.make_node("Transpose", ["b"], ["boxes"], perm=[0, 2, 1]),
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "overlap", "least"], ["chosen"]),
    ]
    constants = {
        "w": _weight(8, 3, 3, 3), "w2": _weight(7, 8, 1, 1), "shape": np.array([0, 7, -1]), "sizes": np.array([4, 3]),
        "most": np.array([10]), "overlap": np.array([0.5], np.float32), "least": np.array([0.1], np.float32),
    }  # fmt: skip
    inputs, outputs = [_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])], [_info("chosen", TensorProto.INT64, ["K", 3])]
    return _model(nodes, inputs, outputs, constants), {"x": images(3, 3, 8, 8)}


def contrib() -> File:
    """Fused operators of ONNX Runtime, one of them in the branch of a residual."""
    net = Net()
    x = net.op("Relu", net.conv("x", 3, 8))
    fused = net.op("BiasGelu", net.conv(x, 8, 8), net.weight(8), domain="com.microsoft")
    net.classifier(net.op("Relu", net.conv(net.op("Add", fused, net.conv(x, 8, 8)), 8, 8)), 8)
    return net.bytes(), {"x": images(3, 3, 8, 8)}


def classical() -> File:
    """A scaler and a linear classifier: nothing of it is for us."""
    nodes = [
        helper.make_node("Scaler", ["x"], ["s"], domain="ai.onnx.ml", offset=[0.1] * 6, scale=[2.0] * 6),
        helper.make_node(
            "LinearClassifier", ["s"], ["label", "p"], domain="ai.onnx.ml", classlabels_ints=[0, 1, 2],
            coefficients=_weight(18).tolist(), intercepts=[0.0] * 3, post_transform="SOFTMAX",
        ),
    ]  # fmt: skip
    outputs = [_info("label", TensorProto.INT64, ["N"]), _info("p", TensorProto.FLOAT, ["N", 3])]
    return _model(nodes, [_info("x", TensorProto.FLOAT, ["N", 6])], outputs, {}), {"x": _weight(3, 6)}


MIDDLE: dict[str, Callable[[], File]] = {
    function.__name__: function for function in (branch_of_weights, loop, sequence, sized_by_data, contrib)
}
