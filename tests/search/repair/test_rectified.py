"""Least squares through an activation, against the error behind that activation itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.graph.onnx.read import load
from search.repair.moments import Moments, ridge
from search.repair.rectified import Bounds
from tests.search.graph.nets import Net


def clipped(low: float | None, high: float | None) -> bytes:
    """A convolution behind which a Clip with these bounds stands."""
    net = Net()
    bounds = ["" if bound is None else net.constant(np.float32(bound)) for bound in (low, high)]
    net.op("Clip", net.conv("x", 3, 4, 3), *bounds)
    return net.bytes()


@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (None, 6.0), (0.0, None), (None, None)])
def test_bounds_are_those_of_the_clip(low: float | None, high: float | None) -> None:
    """A bound that is left out cuts nothing off."""
    graph = load(clipped(low, high))
    expected = Bounds(-np.inf if low is None else low, np.inf if high is None else high)
    assert Bounds.behind(graph, graph.nodes[0].outputs[0]) == expected


def test_a_value_that_others_read_has_no_bounds() -> None:
    """What a Relu cuts off still matters where a sum reads the value too; where the Relu alone reads it, it does not."""
    net = Net()
    value = net.conv("x", 3, 4, 3)
    net.op("Add", net.op("Relu", value), value)
    graph = load(net.bytes())
    assert Bounds.behind(graph, graph.nodes[0].outputs[0]) is None
    alone = Net()
    alone.op("Relu", alone.conv("x", 3, 4, 3))
    graph = load(alone.bytes())
    assert Bounds.behind(graph, graph.nodes[0].outputs[0]) == Bounds(0.0, np.inf)
    assert Bounds.behind(graph, graph.nodes[-1].outputs[0]) is None  # the model's output


def bound_of_error(predicted: np.ndarray, wanted: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """The convex bound that a round lowers: beyond the bounds, only what is let through counts."""
    error = np.where(wanted <= low, np.maximum(predicted - low, 0), predicted - wanted)
    error = np.where(wanted >= high, np.minimum(predicted - high, 0), error)
    return float((error**2).sum())


@given(st.integers(0, 10_000), st.sampled_from([(0.0, np.inf), (0.0, 1.0), (-0.5, 0.5)]))
def test_a_round_lowers_the_error_behind_the_activation(seed: int, cut: tuple[float, float]) -> None:
    """Whatever the data and what is added before the activation, as majorisation promises."""
    rng = np.random.default_rng(seed)
    x, added = rng.normal(size=(1, 60, 5)), rng.normal(size=(1, 60, 3))
    wanted = np.tanh(x @ rng.normal(size=(5, 3))) + 0.3 * rng.normal(size=(1, 60, 3)) - added
    bounds, prior = Bounds(*cut), np.zeros((1, 5, 3))

    def fitted(moments: Moments) -> np.ndarray:
        solution, offset = ridge(moments, prior, damping=0.0, intercept=True)
        return x @ solution + offset[:, None]

    moments = Moments.of(x, wanted)
    before = fitted(moments)
    after = fitted(moments.with_outputs(x, bounds.reachable(wanted, before, added)))
    low, high = bounds.low - added, bounds.high - added
    assert bound_of_error(after, wanted, low, high) <= bound_of_error(before, wanted, low, high) * (1 + 1e-9)
