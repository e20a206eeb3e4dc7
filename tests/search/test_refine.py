"""The local search: its children keep their parents' latency, repeat with the seed, and stop when nothing moves."""

from __future__ import annotations

import dataclasses

import numpy as np

from search.plan import Plan
from search.refine import PATIENCE, refine
from tests.search.test_knapsack import interacting


@dataclasses.dataclass(frozen=True)
class Measured:
    """A candidate whose divergence is a given function of its plan."""

    plan: Plan
    divergence: float


def superadditive(plan: Plan) -> Measured:
    """What was cut in neighbouring layers hurts together: nothing that a sum over elements could say."""
    cut = [4 - int(plan.get(f"g{i}", 4)) for i in range(4)]
    return Measured(plan, float(sum(cut) + 3 * sum(a * b for a, b in zip(cut, cut[1:], strict=False))))


def children(seed: int, evaluations: int = 40) -> list[Measured]:
    """Children of one parent, the knapsack's own answer being replaced by a bad plan of the same latency class."""
    problem = interacting(3)
    parent = superadditive({"g1": 1, "g2": 2})
    return list(refine(problem, [parent], superadditive, evaluations=evaluations, rng=np.random.default_rng(seed)))


def test_children_keep_the_latency_and_get_better() -> None:
    """Every child is at most as slow as the slowest parent, none is known before, and some child beats the parent."""
    problem = interacting(3)
    parent = superadditive({"g1": 1, "g2": 2})
    found = children(0)
    assert all(problem.latency_s(child.plan) <= problem.latency_s(parent.plan) + 1e-9 for child in found)
    assert len({tuple(sorted(child.plan.items())) for child in found}) == len(found)
    assert min(child.divergence for child in found) < parent.divergence


def test_the_seed_repeats() -> None:
    """Equal seeds give equal children in equal order."""
    assert children(7) == children(7)


def test_it_stops_when_the_front_stands_still() -> None:
    """With a parent that nothing beats, the search ends after its patience, not after its evaluations."""

    def worse(plan: Plan) -> Measured:
        return Measured(plan, 100.0)

    problem = interacting(3)
    parent = Measured({"g1": 1, "g2": 2}, 0.0)
    found = list(refine(problem, [parent], worse, evaluations=40, rng=np.random.default_rng(0)))
    assert len(found) == PATIENCE


def test_without_parents_there_are_no_children() -> None:
    """A target that nothing was found for is not searched around."""
    assert list(refine(interacting(3), [], superadditive, evaluations=4, rng=np.random.default_rng(0))) == []
