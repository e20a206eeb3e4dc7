"""Peak memory of small graphs, against sums by hand."""

from __future__ import annotations

from search.graph.onnx.read import load
from search.judge.memory import peak_memory_bytes
from tests.search.graph.nets import Net

SHAPES = {"x": (1, 3, 8, 8)}
X, WIDE, NARROW = 4 * 3 * 64, 4 * 16 * 64, 4 * 2 * 64


def weights(*shapes: tuple[int, ...]) -> int:
    """Bytes of kernels and biases."""
    return sum(4 * (out * into * kernel * kernel + out) for out, into, kernel in shapes)


def test_a_chain_keeps_a_value_and_the_one_before() -> None:
    """The widest pair of neighbours counts, not the sum of all."""
    net = Net()
    net.op("Relu", net.conv(net.conv("x", 3, 16, 3), 16, 2, 1))
    assert peak_memory_bytes(load(net.bytes()), SHAPES) == weights((16, 3, 3), (2, 16, 1)) + max(
        X + WIDE, WIDE + NARROW
    )


def test_a_shortcut_stays_alive_over_its_branch() -> None:
    """It is read again at the sum."""
    net = Net()
    stem = net.conv("x", 3, 16, 3)
    net.op("Add", net.conv(net.conv(stem, 16, 2, 1), 2, 16, 1), stem)
    expected = weights((16, 3, 3), (2, 16, 1), (16, 2, 1)) + 3 * WIDE
    assert peak_memory_bytes(load(net.bytes()), SHAPES) == expected
