"""How many samples a candidate is looked at with."""

from __future__ import annotations

from search.graph.onnx.read import load
from search.space.plan import FEWEST_LOOKED_AT, LOOK_MACS, MOST_LOOKED_AT, Knobs
from tests.search.graph.nets import Net


def knobs(size: int, channels: int) -> Knobs:
    """One 3x3 convolution from 3 channels on an image of so many pixels a side, then the classifier."""
    net = Net(("N", 3, size, size))
    net.classifier(net.op("Relu", net.conv("x", 3, channels)), channels)
    return Knobs(load(net.bytes()), {"x": (1, 3, size, size)})


def test_macs_are_those_of_one_run() -> None:
    """Positions x outputs x inputs x taps, and the 5 classes."""
    assert knobs(8, 16).macs == 64 * 16 * 3 * 9 + 16 * 5


def test_a_larger_network_is_looked_at_with_fewer_samples() -> None:
    """As many multiplications, never more samples than asked for, never fewer than the fewest; half for half the question."""
    assert knobs(8, 16).looked_at(MOST_LOOKED_AT) == MOST_LOOKED_AT
    large = knobs(256, 512)
    wanted = LOOK_MACS // (256 * 256 * 512 * 27 + 512 * 5)
    assert FEWEST_LOOKED_AT < wanted < MOST_LOOKED_AT
    assert large.looked_at(MOST_LOOKED_AT) == wanted
    assert large.looked_at(MOST_LOOKED_AT // 2) == max(FEWEST_LOOKED_AT, wanted // 2)
    assert large.looked_at(4) == 4
