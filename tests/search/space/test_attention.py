"""Heads, MLP width, hidden states and shuffled channels: cut equals masked in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from search.graph.onnx import read
from tests.search.graph.nets import Net
from tests.search.space.laws import couple, cut_against_masked

WIDTH, HEADS, DEPTH = 12, 3, 4


def _linear(net: Net, x: str, c_in: int, c_out: int) -> str:
    return net.op("Add", net.op("MatMul", x, net.weight(c_in, c_out)), net.weight(c_out))


def _split_heads(net: Net, x: str, heads: int) -> str:
    """(N, T, heads * d) to (N, heads, T, d), the sizes computed from the shape as exporters do."""
    shape = net.op("Shape", x)
    sizes = [net.op("Gather", shape, net.constant([axis])) for axis in (0, 1)]
    target = net.op("Concat", *sizes, net.constant([heads]), net.constant([-1]), axis=0)
    return net.op("Transpose", net.op("Reshape", x, target), perm=[0, 2, 1, 3])


def _merge_heads(net: Net, x: str) -> str:
    return net.op("Reshape", net.op("Transpose", x, perm=[0, 2, 1, 3]), net.constant([0, 0, -1]))


def _attend(net: Net, q: str, k: str, v: str) -> str:
    scores = net.op("MatMul", q, net.op("Transpose", k, perm=[0, 1, 3, 2]))
    scores = net.op("Div", scores, net.constant(2.0, np.float32))
    return net.op("MatMul", net.op("Softmax", scores, axis=-1), v)


def _norm(net: Net, x: str) -> str:
    return net.op("LayerNormalization", x, net.weight(WIDTH), net.weight(WIDTH), axis=-1)


def _block(attend: Callable[[Net, str], str], opset: int = 17) -> Net:
    """A pre-norm transformer block around an attention, and a classifier of every token."""
    net = Net(("N", 6, WIDTH), opset=opset)
    x = _linear(net, "x", WIDTH, WIDTH)
    x = net.op("Add", x, attend(net, _norm(net, x)))
    y = (
        net.op("Gelu", _linear(net, _norm(net, x), WIDTH, 20))
        if opset >= 20
        else net.op("Relu", _linear(net, x, WIDTH, 20))
    )
    _linear(net, net.op("Add", x, _linear(net, y, 20, WIDTH)), WIDTH, 5)
    return net


def _separate(net: Net, x: str) -> str:
    q, k, v = (_split_heads(net, _linear(net, x, WIDTH, WIDTH), HEADS) for _ in range(3))
    return _linear(net, _merge_heads(net, _attend(net, q, k, v)), WIDTH, WIDTH)


def _packed(net: Net, x: str) -> str:
    packed = net.op("Reshape", _linear(net, x, WIDTH, 3 * WIDTH), net.constant([0, 0, 3, HEADS, DEPTH]))
    packed = net.op("Transpose", packed, perm=[2, 0, 3, 1, 4])
    q, k, v = (net.op("Gather", packed, net.constant(i), axis=0) for i in range(3))
    return _linear(net, _merge_heads(net, _attend(net, q, k, v)), WIDTH, WIDTH)


def _grouped(net: Net, x: str) -> str:
    """Six query heads of width 2 read three key heads."""
    q = _split_heads(net, _linear(net, x, WIDTH, WIDTH), 6)
    spread = []
    for _ in range(2):
        one = net.op("Unsqueeze", _split_heads(net, _linear(net, x, WIDTH, 6), 3), net.constant([2]))
        wide = net.op("Expand", one, net.constant([1, 3, 2, 6, 2]))
        spread.append(net.op("Reshape", wide, net.constant([0, 6, 6, 2])))
    return _linear(net, _merge_heads(net, _attend(net, q, *spread)), WIDTH, WIDTH)


def _operator(net: Net, x: str) -> str:
    q, k, v = (_linear(net, x, WIDTH, width) for width in (WIDTH, 6, 6))
    return _linear(net, net.op("Attention", q, k, v, q_num_heads=6, kv_num_heads=3), WIDTH, WIDTH)


def _gated() -> Net:
    net = Net(("N", 6, WIDTH))
    gate = net.op("MatMul", "x", net.weight(WIDTH, 20))
    up = net.op("MatMul", "x", net.weight(WIDTH, 20))
    net.op("MatMul", net.op("Mul", net.op("Mul", gate, net.op("Sigmoid", gate)), up), net.weight(20, WIDTH))
    return net


def _recurrent(op: str, gates: int, direction: str) -> Net:
    net = Net((7, "N", 5))
    both = 2 if direction == "bidirectional" else 1
    weights = [net.weight(both, gates * 6, 5), net.weight(both, gates * 6, 6), net.weight(both, 2 * gates * 6)]
    y = net.op(op, _linear(net, "x", 5, 5), *weights, hidden_size=6, direction=direction)
    y = net.op("Reshape", net.op("Transpose", y, perm=[0, 2, 1, 3]), net.constant([0, 0, -1]))
    net.op("MatMul", net.op("Gather", y, net.constant(-1), axis=0), net.weight(6 * both, 3))
    return net


def _shuffle() -> Net:
    """Half of the channels pass, half are convolved, then the two are shuffled; twice."""
    net = Net()
    x = net.op("Relu", net.conv("x", 3, 8))
    for _ in range(2):
        left = net.op("Slice", x, net.constant([0]), net.constant([4]), net.constant([1]))
        right = net.op("Slice", x, net.constant([4]), net.constant([8]), net.constant([1]))
        right = net.conv(net.conv(net.op("Relu", net.conv(right, 4, 4, 1)), 4, 4, 3, groups=4), 4, 4, 1)
        x = net.op("Concat", left, net.op("Relu", right), axis=1)
        x = net.op("Reshape", x, net.constant([0, 2, 4, 8, 8]))
        x = net.op("Reshape", net.op("Transpose", x, perm=[0, 2, 1, 3, 4]), net.constant([0, 8, 8, 8]))
    net.classifier(x, 8)
    return net


def _grouped_convolution(groups: int, width: int) -> Net:
    net = Net()
    channels = groups * width
    x = net.op("Relu", net.conv(net.op("Relu", net.conv("x", 3, channels)), channels, channels, 3, groups=groups))
    net.classifier(net.conv(x, channels, 6, 1), 6)
    return net


NETS: dict[str, tuple[Callable[[], Net], tuple[int, ...]]] = {
    "separate q, k, v": (lambda: _block(_separate), (HEADS, 20)),
    "packed q, k, v": (lambda: _block(_packed), (HEADS, 20)),
    "grouped queries": (lambda: _block(_grouped), (3, 20)),
    "attention as an operator": (lambda: _block(_operator, 23), (3, 20)),
    "gated MLP": (_gated, (20,)),
    "RNN": (lambda: _recurrent("RNN", 1, "forward"), (5, 6)),
    "GRU": (lambda: _recurrent("GRU", 3, "forward"), (5, 6)),
    "LSTM in both directions": (lambda: _recurrent("LSTM", 4, "bidirectional"), (5, 6)),
    "channel shuffle": (_shuffle, (8, 4, 4, 4, 4, 6)),
    "many narrow groups": (lambda: _grouped_convolution(4, 2), (4, 6)),
    "few wide groups": (lambda: _grouped_convolution(2, 4), (4, 4, 6)),
}
"""Builder, and the sizes of the groups that can be cut, by hand."""


@pytest.mark.parametrize("name", NETS)
def test_cut_equals_masked(name: str) -> None:
    """Three random removals; the groups are as wide as the network's construction says."""
    build, sizes = NETS[name]
    data = build().bytes()
    for seed in range(3):
        _, error, found = cut_against_masked(data, seed=seed)
        assert error < 1e-5
        if name != "channel shuffle":
            assert tuple(len(group) for group in found.prunable) == sizes, found.frozen


def test_a_shuffle_couples_nothing() -> None:
    """As one Gather, a shuffle leaves every channel free: all ten layers but the last can be cut."""
    found = couple(read.load(_shuffle().bytes()))
    assert sum(len(group) for group in found.prunable) >= 8 + 2 * (4 + 4)


def test_a_head_goes_as_a_whole() -> None:
    """q, k and v lose the four columns of a head, the output projection its four rows."""
    cut, _, found = cut_against_masked(_block(_separate).bytes(), share=0.0)
    model = onnx.load_from_string(cut)
    shapes = [tuple(tensor.dims) for tensor in model.graph.initializer]
    assert found.prunable[0].slots[0].ids.size == WIDTH
    assert shapes.count((WIDTH, DEPTH)) == 3
    assert (DEPTH, WIDTH) in shapes


def test_the_norm_keeps_the_residual_width() -> None:
    """A layer norm mixes the residual's channels: they stay, and the reason says so."""
    found = couple(read.load(_block(_separate).bytes()))
    assert any("LayerNormalization" in group.reason for group in found.frozen)
