"""Cut equals masked, in ONNX Runtime, on networks with one way of coupling each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from search.graph.onnx import read
from search.space.groups import removable_parameters
from tests.search.graph.nets import Net, resnet
from tests.search.space.laws import couple, cut_against_masked


def _plain() -> Net:
    net = Net()
    x = net.op("Relu", net.conv("x", 3, 8))
    net.classifier(net.op("Relu", net.conv(x, 8, 10)), 10)
    return net


def _unfolded_batch_norm() -> Net:
    net = Net()
    x = net.op("Relu", net.conv("x", 3, 8))
    net.classifier(net.op("Relu", net.conv(net.batch_norm(x, 8), 8, 10)), 10)
    return net


def _depthwise() -> Net:
    net = Net()
    x = net.op("Clip", net.conv("x", 3, 8, 1), net.constant(0, np.float32), net.constant(6, np.float32))
    x = net.conv(net.op("Relu", net.conv(x, 8, 8, 3, groups=8)), 8, 6, 1)
    net.classifier(x, 6)
    return net


def _concat() -> Net:
    net = Net()
    x = net.op("Relu", net.conv("x", 3, 6))
    y = net.op("Relu", net.conv(x, 6, 4))
    z = net.op("Concat", x, y, axis=1)
    net.classifier(net.op("Relu", net.conv(z, 10, 7)), 7)
    return net


def _dense_block() -> Net:
    net = Net()
    x = net.conv("x", 3, 6)
    for width in (6, 10, 14):
        new = net.conv(net.op("Relu", net.batch_norm(x, width)), width, 4)
        x = net.op("Concat", x, new, axis=1)
    net.classifier(net.op("Relu", net.batch_norm(x, 18)), 18)
    return net


def _flatten() -> Net:
    net = Net()
    x = net.op("MaxPool", net.op("Relu", net.conv("x", 3, 8)), kernel_shape=[2, 2], strides=[2, 2])
    x = net.op("Relu", net.gemm(net.op("Flatten", x), 8 * 16, 12))
    net.gemm(x, 12, 5)
    return net


def _reshape_to_rows() -> Net:
    net = Net()
    x = net.op("Relu", net.conv("x", 3, 8))
    net.gemm(net.op("Reshape", x, net.constant([0, 8 * 64])), 8 * 64, 5)
    return net


def _squeeze_excite() -> Net:
    net = Net()
    x = net.op("Relu", net.conv("x", 3, 8))
    gate = net.op("GlobalAveragePool", x)
    gate = net.op("Sigmoid", net.conv(net.op("Relu", net.conv(gate, 8, 4, 1)), 4, 8, 1))
    net.classifier(net.conv(net.op("Mul", x, gate), 8, 6), 6)
    return net


def _pad_slice() -> Net:
    net = Net()
    x = net.op("Relu", net.conv("x", 3, 8))
    part = net.op(
        "Slice", x, net.constant([0, 0]), net.constant([2**31 - 1] * 2), net.constant([2, 3]), net.constant([2, 2])
    )
    short = net.op("Pad", part, net.constant([0, 4, 0, 0, 0, 4, 0, 0]), net.constant(0.0, np.float32))
    y = net.conv(net.op("Relu", net.conv(x, 8, 16, stride=2)), 16, 16)
    net.classifier(net.op("Relu", net.op("Add", y, short)), 16)
    return net


def _split() -> Net:
    net = Net()
    x = net.op("Relu", net.conv("x", 3, 8))
    left = net.op("Split", x, net.constant([3, 5]), outputs=2, axis=1)
    y = net.op("Concat", net.conv(left, 3, 4), net.conv(f"{left}_1", 5, 4), axis=1)
    net.classifier(y, 8)
    return net


def _u_net() -> Net:
    net = Net()
    x = net.op("Relu", net.conv("x", 3, 6))
    y = net.op("Relu", net.conv(net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), 6, 8))
    up = net.op("ConvTranspose", y, net.weight(8, 5, 2, 2), net.weight(5), strides=[2, 2], kernel_shape=[2, 2])
    net.conv(net.op("Relu", net.conv(net.op("Concat", up, x, axis=1), 11, 7)), 7, 2)
    return net


def _mlp() -> Net:
    net = Net(("N", 10))
    x = net.op("Add", net.op("MatMul", "x", net.weight(10, 16)), net.weight(16))
    net.op("Add", net.op("MatMul", net.op("Relu", x), net.weight(16, 4)), net.weight(4))
    return net


def _padded_rows() -> Net:
    net = Net()
    x = net.op("Relu", net.conv("x", 3, 8))
    x = net.op("Pad", x, net.constant([0, 0, 1, 1, 0, 0, 1, 1]))
    net.classifier(net.op("Relu", net.conv(x, 8, 10)), 10)
    return net


def _added_input() -> Net:
    net = Net(("N", 8, 8, 8))
    x = net.op("Add", net.conv(net.op("Relu", net.conv("x", 8, 6)), 6, 8), "x")
    net.classifier(net.op("Relu", net.conv(x, 8, 10)), 10)
    return net


def _sizes(net: Net, of: str, channels: int) -> str:
    """The batch, height and width of one value with a channel count as a constant, put together as exporters do."""
    shape = net.op("Shape", of)
    batch = net.op("Slice", shape, net.constant([0]), net.constant([1]))
    extent = net.op("Slice", shape, net.constant([2]), net.constant([4]))
    return net.op("Concat", batch, net.constant([channels]), extent, axis=0)


def _resized_to_another() -> Net:
    net = Net(("N", 3, "H", "W"))
    a = net.op("Relu", net.conv("x", 3, 6))
    b = net.op("Relu", net.conv(a, 6, 8, stride=2))
    up = net.op("Resize", b, "", "", _sizes(net, a, 8), mode="nearest", nearest_mode="floor")
    net.classifier(net.op("Relu", net.conv(net.op("Concat", up, a, axis=1), 14, 7)), 7)
    return net


def _expanded_to_another() -> Net:
    net = Net(("N", 3, "H", "W"))
    a = net.op("Relu", net.conv("x", 3, 6))
    b = net.op("Relu", net.conv(a, 6, 8))
    wide = net.op("Expand", net.op("GlobalAveragePool", b), _sizes(net, a, 8))
    net.classifier(net.op("Relu", net.conv(net.op("Concat", wide, a, axis=1), 14, 7)), 7)
    return net


def _expanded_to_its_own_shape() -> Net:
    net = Net(("N", 3, "H", "W"))
    a = net.op("Relu", net.conv("x", 3, 6))
    net.classifier(
        net.op("Relu", net.conv(net.op("Expand", net.op("GlobalAveragePool", a), net.op("Shape", a)), 6, 7)), 7
    )
    return net


def _one_size_of_two() -> Net:
    """The same constant names the channels of two values that are cut on their own."""
    net = Net(("N", 3, "H", "W"))
    a = net.op("Relu", net.conv("x", 3, 6))
    b, c = (net.op("Relu", net.conv(a, 6, 6, stride=2)) for _ in range(2))
    sizes = _sizes(net, a, 6)
    up = [net.op("Resize", v, "", "", sizes, mode="nearest", nearest_mode="floor") for v in (b, c)]
    net.classifier(net.op("Relu", net.conv(net.op("Concat", *up, axis=1), 12, 7)), 7)
    return net


def _picked() -> Net:
    """One channel, by a negative scalar, beside all of them."""
    net = Net()
    x = net.op("Relu", net.conv("x", 3, 8))
    gate = net.op("Unsqueeze", net.op("Gather", x, net.constant(-2), axis=1), net.constant([1]))
    net.classifier(net.op("Relu", net.op("Mul", net.conv(x, 8, 6), net.op("Sigmoid", net.conv(gate, 1, 1, 1)))), 6)
    return net


def _laid_out() -> Net:
    """Channels spread over two axes by a matrix of indices: their number stays."""
    net = Net()
    x = net.op("Relu", net.conv("x", 3, 8))
    pairs = net.op("Gather", x, net.constant(np.arange(8).reshape(2, 4)), axis=1)
    net.classifier(net.op("Relu", net.conv(net.op("ReduceMean", pairs, axes=[1], keepdims=0), 4, 6)), 6)
    return net


NETS: dict[str, tuple[Callable[[], Net], int]] = {
    "plain": (_plain, 2),
    "residual": (resnet, 4),
    "unfolded batch norm": (_unfolded_batch_norm, 2),
    "depthwise": (_depthwise, 2),
    "concat": (_concat, 3),
    "dense block": (_dense_block, 4),
    "flatten": (_flatten, 2),
    "reshape to rows": (_reshape_to_rows, 1),
    "squeeze-excite": (_squeeze_excite, 3),
    "pad and slice": (_pad_slice, 3),
    "split": (_split, 3),
    "u-net": (_u_net, 4),
    "mlp": (_mlp, 1),
    "padded rows": (_padded_rows, 2),
    "added input": (_added_input, 2),
    "resized to another": (_resized_to_another, 3),
    "expanded to another": (_expanded_to_another, 3),
    "expanded to its own shape": (_expanded_to_its_own_shape, 2),
    "one size of two": (_one_size_of_two, 2),
    "picked": (_picked, 2),
    "laid out": (_laid_out, 1),
}
"""Builder, and how many groups can be cut, counted by hand."""


@pytest.mark.parametrize("name", NETS)
def test_cut_equals_masked(name: str) -> None:
    """Three random removals; float32 sums in another order are off by 1e-6 or so, a wrong cut by 1e-1."""
    build, expected = NETS[name]
    data = build().bytes()
    for seed in range(3):
        cut, error, found = cut_against_masked(data, seed=seed)
        assert error < 1e-5
        assert len(found.prunable) == expected, found.frozen
        assert len(cut) < len(data) or seed


@pytest.mark.parametrize("name", NETS)
def test_a_cut_file_stays_dynamic(name: str) -> None:
    """The batch dimension is still a name."""
    cut, _, _ = cut_against_masked(NETS[name][0]().bytes())
    assert onnx.load_from_string(cut).graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


def test_the_residual_group_holds_both_sides() -> None:
    """Units that meet in an addition are one group, of the width by hand."""
    found = couple(read.load(resnet().bytes()))
    assert [len(group) for group in found.prunable] == [8, 6, 12, 12]


def test_outputs_are_frozen_with_the_reason() -> None:
    """The classes of the last layer stay, and the report says why."""
    found = couple(read.load(resnet().bytes()))
    assert any("output of the model" in group.reason for group in found.frozen)


def test_a_node_named_as_its_output_keeps_what_it_mixes() -> None:
    """A mean over channels that is an output, made by a node of the output's name: both reasons hold."""
    net = Net()
    x = net.op("Relu", net.conv("x", 3, 8))
    scores = net.classifier(x, 8)
    level = net.op("ReduceMean", x, keepdims=0)
    net.nodes[-1].name = level
    found = couple(read.load(net.bytes(scores, level)))
    assert not found.prunable
    assert any("ReduceMean mixes" in group.reason for group in found.frozen)


def test_removable_parameters_of_a_plain_layer() -> None:
    """All but one of 8 filters: 7 (27 + 1) there and 7 x 9 x 10 in the next layer."""
    graph = read.load(_plain().bytes())
    group = couple(graph).prunable[0]
    assert removable_parameters(group, graph.initializers) == 7 * 28 + 7 * 90


def _unrolled(steps: int) -> Net:
    """The same weight in every time step, as exporters unroll a recurrence."""
    net = Net(("N", 6))
    weight = net.weight(8, 8)
    x = net.op("Relu", net.gemm("x", 6, 8))
    for _ in range(steps):
        x = net.op("Tanh", net.op("Gemm", x, weight, transB=1))
    net.gemm(x, 8, 4)
    return net


def test_a_weight_counts_once_however_often_it_is_used() -> None:
    """Seven steps with one weight have the parameters of one."""
    counts = {steps: read.load(_unrolled(steps).bytes()).parameter_count for steps in (1, 7)}
    assert counts[1] == counts[7] == 6 * 8 + 8 + 8 * 8 + 8 * 4 + 4


def test_a_weight_that_is_cut_along_both_axes_goes_once() -> None:
    """A recurrence of 8 units loses 7 of 8 rows of each gate and 7 of 8 columns: 63 of 64 numbers of its square weight."""
    net = Net((5, 1, 6))
    net.op("RNN", "x", net.weight(1, 8, 6), net.weight(1, 8, 8), outputs=2, hidden_size=8)
    net.gemm(net.op("Reshape", net.op("Transpose", "rnn0_1", perm=[1, 0, 2]), net.constant([1, 8])), 8, 4)
    graph = read.load(net.bytes())
    [group] = couple(graph).prunable
    assert removable_parameters(group, graph.initializers) == 7 * 6 + 63 + 7 * 4


def test_excluded_patterns_freeze() -> None:
    """A shell pattern over node names keeps a layer as it is."""
    from search.space.groups import find_groups

    graph = read.load(_plain().bytes())
    found = find_groups(graph, {"x": (1, 3, 8, 8)}, exclude=("n_conv0*",))
    assert len(found.prunable) == 1
    assert any("excluded" in group.reason for group in found.frozen)


@pytest.mark.parametrize("name", NETS)
def test_a_cut_file_holds_nothing_unused(name: str) -> None:
    """Constants that were rewritten leave with the old ones: every initializer of the file is read by a node."""
    cut, _, _ = cut_against_masked(NETS[name][0]().bytes(), seed=0)
    graph = onnx.load_from_string(cut).graph
    read = {value for node in graph.node for value in node.input}
    assert {tensor.name for tensor in graph.initializer} <= read


def test_padded_channels_stay_where_the_fill_is_left_out() -> None:
    """A Pad without a value fills with zeros of nobody's: what is added to them keeps its width."""
    net = Net(("N", 3, 5, 5))
    x = net.op("Pad", net.op("Tanh", net.conv("x", 3, 4)), net.constant([0, 0, 0, 0, 0, 1, 0, 0]))
    y = net.conv(net.op("Relu", net.conv(x, 5, 6)), 6, 5)
    net.gemm(net.op("Flatten", net.op("Add", x, y)), 125, 4)
    _, error, found = cut_against_masked(net.bytes(), share=0.0)
    assert error < 1e-6
    assert [len(group) for group in found.prunable] == [6]
    assert any("fixed width" in group.reason for group in found.frozen)
