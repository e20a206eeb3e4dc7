"""LiteRT files against ONNX Runtime: the same network, the same input, the same output."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, shape_inference

from search.formats.litert.write import export_tflite
from search.graph.onnx.traced import Traced, trace
from search.measure.benchmark import open_session
from search.measure.calibrate.builder import Builder
from search.measure.calibrate.micronets import KINDS
from search.measure.runtimes.litert import open_interpreter, plain_call
from search.wire.errors import UnsupportedOperator
from tests.benchmarks.sparse_litert import sparse_file
from tests.benchmarks.zeros import unstructured, with_zeros

Array = NDArray[Any]
ROUNDING = 2e-5
"""Both sum float32 products in an order of their own; relative to the largest output."""


def litert_outputs(network: Traced, x: Array) -> list[Array]:
    """What LiteRT computes; images go in as NHWC."""
    interpreter = open_interpreter(export_tflite(network.graph, network.shapes, network.static))
    return plain_call(interpreter, x.transpose(0, 2, 3, 1) if x.ndim == 4 else x)()


def assert_same(model: bytes) -> Traced:
    """The LiteRT form of a one-input, one-output model computes what ONNX Runtime does."""
    network = trace(model)
    info = network.graph.inputs[0]
    x = np.random.default_rng(0).standard_normal(network.shapes[info.name], dtype=np.float32)
    (expected,) = open_session(model).run(None, {info.name: x})
    (found,) = litert_outputs(network, x)
    found = found.transpose(0, 3, 1, 2) if found.ndim == 4 else found
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= ROUNDING * np.abs(expected).max()
    return network


def model_of(nodes: list[Any], shape: tuple[int, ...], **constants: Array) -> bytes:
    """A model from ``x`` of ``shape`` to the last node's output, whose shape ONNX infers."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "test", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(shape_inference.infer_shapes(model).SerializeToString())


def node(op: str, *inputs: str, out: str = "y", **attributes: Any) -> Any:
    """One ONNX node."""
    return helper.make_node(op, list(inputs), [out], name=out, **attributes)


def random(*shape: int) -> Array:
    """Weights."""
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_random_networks_compute_the_same_in_litert(kind: str) -> None:
    """Networks of every kind that calibrations time equal ONNX Runtime's, and XNNPACK runs each of them as a whole."""
    for seed in range(2):
        network = assert_same(KINDS[kind](np.random.default_rng(seed)).build(kind).model)
        interpreter = open_interpreter(export_tflite(network.graph, network.shapes, network.static))
        operators = collections.Counter(op["op_name"] for op in interpreter._get_ops_details())
        assert operators["DELEGATE"] == 1


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize(
    ("kernel", "stride", "pads", "dilation"),
    [
        (1, 1, (0, 0, 0, 0), 1),
        (1, 2, (0, 0, 0, 0), 1),
        (3, 1, (1, 1, 1, 1), 1),
        (3, 2, (1, 1, 1, 1), 1),
        (3, 2, (0, 0, 1, 1), 1),
        (3, 1, (2, 2, 2, 2), 2),
        (5, 1, (2, 1, 0, 2), 1),
        (3, 1, (0, 0, 0, 0), 1),
    ],
)
def test_convolutions_pad_as_onnx_says(
    kernel: int, stride: int, pads: tuple[int, ...], dilation: int, size: int
) -> None:
    """Whole, grouped and depthwise convolutions with every padding, where LiteRT's own names fit and where they do not."""
    for groups in (1, 2, 6):
        conv = node("Conv", "x", "w", kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads, group=groups,
                    dilations=[dilation] * 2)  # fmt: skip
        assert_same(model_of([conv], (1, 6, size, size), w=random(12, 6 // groups, kernel, kernel)))


@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 1, 0)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("op", "attributes"),
    [("MaxPool", {}), ("AveragePool", {}), ("AveragePool", {"count_include_pad": 1})],
    ids=["max", "average", "average with padding"],
)
def test_pools_leave_padding_out_as_onnx_does(
    op: str, attributes: dict[str, int], stride: int, pads: tuple[int, ...]
) -> None:
    """Negative maps too, so that padding with 0 would be seen in the maximum."""
    pool = node(op, "shifted", kernel_shape=[3, 3], strides=[stride] * 2, pads=pads, **attributes)
    shifted = node("Sub", "x", "low", out="shifted")
    assert_same(model_of([shifted, pool], (1, 3, 8, 9), low=np.float32([5])))


@pytest.mark.parametrize(
    "perm", [(0, 2, 3, 1), (0, 3, 1, 2), (0, 1, 3, 2), (0, 2, 1, 3)], ids=lambda perm: "".join(map(str, perm))
)
def test_every_transposition_of_a_map(perm: tuple[int, ...]) -> None:
    """A map is stored channels last; what ONNX says of its axes holds all the same, and after a product too."""
    conv = node("Conv", "x", "w", out="map", kernel_shape=[1, 1])
    turned = node("Transpose", "map", out="turned", perm=perm)
    shape = tuple((1, 5, 3, 4)[axis] for axis in perm)
    flat = node("Reshape", "turned", "target", out="flat")
    product = node("MatMul", "flat", "v")
    assert_same(model_of([conv, turned, flat, product], (1, 2, 3, 4), w=random(5, 2, 1, 1), v=random(shape[3], 7),
                         target=np.array([shape[1] * shape[2], shape[3]])))  # fmt: skip


@pytest.mark.parametrize(
    "target",
    [(1, 60), (1, 5, 12), (1, 15, 4), (5, 12), (1, 12, 5), (1, 5, 1, 12)],
    ids=lambda target: "x".join(map(str, target)),
)
def test_every_reshape_of_a_map(target: tuple[int, ...]) -> None:
    """Splitting, merging and flattening of channels and positions, in ONNX's order."""
    conv = node("Conv", "x", "w", out="map", kernel_shape=[1, 1])
    assert_same(model_of([conv, node("Reshape", "map", "target")], (1, 2, 3, 4), w=random(5, 2, 1, 1),
                         target=np.array(target)))  # fmt: skip


@pytest.mark.parametrize(
    "order",
    [[0, 3, 1, 4, 2, 5], [0, 2, 4, 1, 3, 5], [5, 0, 0, 2], [-1, 0], [0, 1, 2, 3, 4, 5]],
    ids=["two groups", "three groups", "some", "from the end", "all"],
)
@pytest.mark.parametrize("axis", [1, 2])
def test_selections_of_channels_and_rows(order: list[int], axis: int) -> None:
    """Shuffles of channels, which become a transposition, and other selections, which do not."""
    conv = node("Conv", "x", "w", out="map", kernel_shape=[1, 1])
    gather = node("Gather", "map", "order", axis=axis)
    assert_same(model_of([conv, gather], (1, 2, 6, 3), w=random(6, 2, 1, 1), order=np.array(order)))


@pytest.mark.parametrize(
    ("other", "op"),
    [((5, 1, 1), "Mul"), ((1, 5, 1, 1), "Add"), ((1,), "Sub"), ((4,), "Div"), ((3, 4), "Mul"), ((1, 5, 3, 4), "Add")],
    ids=str,
)
def test_arithmetic_broadcasts_as_onnx_does(other: tuple[int, ...], op: str) -> None:
    """Constants of every shape meet a map that is stored channels last, from both sides."""
    for inputs in (("map", "c"), ("c", "map")):
        conv = node("Conv", "x", "w", out="map", kernel_shape=[1, 1])
        both = [conv, node(op, *inputs, out="sum"), node("Relu", "sum")]
        assert_same(model_of(both, (1, 2, 3, 4), w=random(5, 2, 1, 1), c=random(*other)))


@pytest.mark.parametrize(
    "operators",
    [["Sigmoid"], ["Tanh"], ["HardSwish"], ["Relu"], ["Identity"], ["GlobalAveragePool"], ["Flatten"], ["Softmax"]],
    ids=str,
)
def test_operators_of_one_map(operators: list[str]) -> None:
    """What has one input and no weights."""
    attributes = {"Softmax": {"axis": 1}}
    nodes = [node("Conv", "x", "w", out="map", kernel_shape=[1, 1])]
    nodes += [node(op, nodes[-1].output[0], **attributes.get(op, {})) for op in operators]
    assert_same(model_of(nodes, (1, 2, 3, 4), w=random(5, 2, 1, 1)))


@pytest.mark.parametrize("high", [6.0, 4.0])
def test_a_clip_is_a_relu6_or_is_refused(high: float) -> None:
    """From 0 to 6 LiteRT has an operator of its own; another bound is refused by the node's name."""
    model = model_of([node("Clip", "x", "low", "high")], (1, 2, 3, 4), low=np.float32(0), high=np.float32(high))
    if high == 6.0:
        assert_same(model)
    else:
        with pytest.raises(UnsupportedOperator, match=r"node `y` \(Clip"):
            assert_same(model)


def test_products_with_matrices() -> None:
    """Gemm with factors and transposition, and a product with a bias that is added after it."""
    gemm = node("Gemm", "x", "w", "b", alpha=0.5, beta=2.0)
    assert_same(model_of([gemm], (3, 4), w=random(4, 5), b=random(5)))
    product = [node("MatMul", "x", "w", out="product"), node("Add", "b", "product", out="sum"), node("Relu", "sum")]
    network = assert_same(model_of(product, (1, 3, 4), w=random(4, 5), b=random(5)))
    assert operators_of(network) == ["FULLY_CONNECTED"]


def operators_of(network: Traced) -> list[str]:
    """Operators of the file, those that XNNPACK takes over included."""
    interpreter = open_interpreter(export_tflite(network.graph, network.shapes, network.static))
    return [op["op_name"] for op in interpreter._get_ops_details() if op["op_name"] != "DELEGATE"]


def test_activations_run_inside_convolutions_and_sums() -> None:
    """As in files of LiteRT's converter, a ReLU is no operator of its own."""
    builder = Builder(np.random.default_rng(0), 8, 6)
    shortcut = builder.value
    builder.conv(8)
    builder.conv(8, relu=False)
    builder._node("Add", [builder.value, shortcut])
    builder._node("Relu", [builder.value])
    builder.head(flatten=False)
    found = operators_of(assert_same(builder.build("test").model))
    assert [op for op in found if op != "RESHAPE"] == ["CONV_2D", "CONV_2D", "ADD", "MEAN", "FULLY_CONNECTED"]


def gelu(*last: tuple[str, str], first: str = "Div") -> list[Any]:
    """The chain of operators that makes a GELU, its last three in the order given."""
    nodes = [node(first, "x", "root", out="scaled"), node("Erf", "scaled", out="erf")]
    for position, (op, other) in enumerate(last):
        nodes.append(node(op, nodes[-1].output[0], other, out=f"step{position}"))
    return nodes


@pytest.mark.parametrize(
    "nodes",
    [
        gelu(("Add", "one"), ("Mul", "x"), ("Mul", "half")),
        gelu(("Add", "one"), ("Mul", "half"), ("Mul", "x")),
        gelu(("Add", "one"), ("Mul", "x"), ("Mul", "half"), first="Mul"),
    ],
    ids=["half last", "x last", "times"],
)
def test_the_chain_of_a_gelu_becomes_one_operator(nodes: list[Any]) -> None:
    """As exporters write it; the value is that of the whole chain."""
    root = np.float32(2**0.5 if nodes[0].op_type == "Div" else 0.5**0.5)
    model = model_of(nodes, (1, 4), one=np.float32(1), half=np.float32(0.5), root=root)
    assert operators_of(assert_same(model)) == ["GELU"]


@pytest.mark.parametrize(
    "last",
    [
        [("Add", "one"), ("Mul", "x")],
        [("Mul", "half"), ("Add", "one"), ("Mul", "x")],
        [("Add", "half"), ("Mul", "x"), ("Mul", "half")],
    ],
    ids=["no half", "another order", "another sum"],
)
def test_what_only_resembles_a_gelu_is_refused(last: list[tuple[str, str]]) -> None:
    """LiteRT has no error function: a chain with another value is refused by the node's name, never exported as a GELU."""
    model = model_of(gelu(*last), (1, 4), one=np.float32(1), half=np.float32(0.5), root=np.float32(2**0.5))
    with pytest.raises(UnsupportedOperator, match=r"node `erf` \(Erf"):
        assert_same(model)


@pytest.mark.parametrize(
    ("build", "shape", "why"),
    [
        (lambda: [node("Conv", "x", "w", auto_pad="SAME_UPPER")], (1, 2, 4, 4), "auto_pad"),
        (lambda: [node("MaxPool", "x", kernel_shape=[2, 2], ceil_mode=1)], (1, 2, 4, 4), "ceil_mode"),
        (lambda: [node("Gemm", "x", "w2", transA=1)], (3, 4), "not transposed"),
        (lambda: [node("Softmax", "x", axis=1)], (1, 2, 3), "last"),
        (lambda: [node("Det", "x")], (3, 3), "has no operator"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_litert_cannot_do_is_refused_by_name(
    build: Callable[[], list[Any]], shape: tuple[int, ...], why: str
) -> None:
    """The error names the node and says what is allowed."""
    network = trace(model_of(build(), shape, w=random(4, 2, 3, 3), w2=random(3, 5)))
    with pytest.raises(UnsupportedOperator, match=f"node `y` .*{why}"):
        export_tflite(network.graph, network.shapes, network.static)


def test_weights_that_are_stored_sparse_are_the_same_weights() -> None:
    """Kernels of 90 % zeros as compressed rows behind DENSIFY give ONNX Runtime's outputs; what is dense stays as it is."""
    builder = Builder(np.random.default_rng(0), 8, 6)
    for kernel in (1, 3, 1):
        builder.conv(16, kernel)
    builder.head(flatten=False)
    model = with_zeros(builder.build("test").model, unstructured, 0.9)
    x = np.random.default_rng(0).standard_normal((1, 8, 6, 6), dtype=np.float32)
    interpreter = open_interpreter(sparse_file(trace(model)))
    (found,) = plain_call(interpreter, x.transpose(0, 2, 3, 1))()
    (expected,) = open_session(model).run(None, {"x": x})
    assert np.abs(found - expected).max() <= ROUNDING * np.abs(expected).max()
    assert [op["op_name"] for op in interpreter._get_ops_details()].count("DENSIFY") == 2
