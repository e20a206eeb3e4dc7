"""Importance criteria: one test each, against brute force or a hand formula."""

from __future__ import annotations

import numpy as np
import pytest

from search.criteria import CRITERIA
from search.criteria.base import Evidence
from search.graph.onnx_import import load
from search.prune.groups import find_groups
from search.recover.least_squares import DAMPING, Repairer
from tests.search.graph.nets import Net, images


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    """Two convolutions and a classifier."""
    net = Net(seed=3)
    hidden = net.op("Relu", net.conv("x", 3, 6))
    net.classifier(net.op("Relu", net.conv(hidden, 6, 4)), 4)
    graph = load(net.bytes())
    groups = find_groups(graph, {"x": (1, 3, 8, 8)})
    repairer = Repairer(graph, groups, {"x": images(32, 3, 8, 8)}, rng=np.random.default_rng(0))
    return Evidence(graph, groups, repairer.targets)


@pytest.mark.parametrize("name", sorted(CRITERIA))
def test_every_criterion_gives_a_permutation(evidence: Evidence, name: str) -> None:
    """Each unit stands in the order exactly once."""
    for group in evidence.groups.prunable:
        assert sorted(CRITERIA[name](group, evidence).tolist()) == list(range(len(group)))


@pytest.mark.parametrize(("name", "power"), [("l1", 1), ("l2", 2)])
def test_norms_order_by_filter_norm(evidence: Evidence, name: str, power: int) -> None:
    """The order is that of the filters' own norms where one node produces the group."""
    group = evidence.groups.prunable[0]
    weight = next(evidence.graph.initializers[s.weight] for s in group.slots if s.role == "produces")
    norms = (np.abs(weight.astype(float)) ** power).reshape(6, -1).sum(1)
    assert CRITERIA[name](group, evidence).tolist() == np.argsort(norms).tolist()


def test_obs_removes_what_a_refit_misses_least(evidence: Evidence) -> None:
    """The whole greedy order equals trying every unit, refitting by ridge regression, and taking the least loss."""
    group = evidence.groups.prunable[0]
    slot = next(s for s in group.slots if s.role == "consumes")
    moments = evidence.targets[slot.node].moments
    gram, cross = moments.gram[0].astype(float), moments.cross[0].astype(float)
    hessian = gram + (DAMPING * np.trace(gram) / len(gram) + 1e-12) * np.eye(len(gram))
    taps = len(gram) // 6

    def fit_value(units: list[int]) -> float:
        """Explained sum of squares C' H^-1 C of the best weights on these units: loss is a constant minus this."""
        columns = np.concatenate([np.arange(u * taps, (u + 1) * taps) for u in units]) if units else np.zeros(0, int)
        c = cross[columns]
        return float((c * np.linalg.solve(hessian[np.ix_(columns, columns)], c)).sum()) if units else 0.0

    left, expected = list(range(6)), []
    while left:
        best = max(left, key=lambda u: fit_value([v for v in left if v != u]))
        expected.append(best)
        left.remove(best)
    assert CRITERIA["obs"](group, evidence).tolist() == expected
