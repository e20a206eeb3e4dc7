"""The search around a front: its children keep the latencies asked for, learn, repeat with the seed, and come to an end."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from search.allocate.base import Problem
from search.allocate.refine import PATIENCE, refine
from search.space.plan import Plan
from tests.search.allocate.test_knapsack import interacting

FASTEST: Plan = {f"g{i}": 1 for i in range(4)}


@dataclasses.dataclass(frozen=True)
class Measured:
    """A candidate whose divergence is a given function of its plan."""

    plan: Plan
    divergence: float


def superadditive(plan: Plan) -> Measured:
    """What was cut in neighbouring layers hurts together: nothing that a sum over elements could say."""
    cut = [4 - int(plan.get(f"g{i}", 4)) for i in range(4)]
    return Measured(plan, float(sum(cut) + 3 * sum(a * b for a, b in zip(cut, cut[1:], strict=False))))


def everything(problem: Problem) -> list[Measured]:
    """All choices of a problem."""
    positions = itertools.product(*(range(len(options)) for options in problem.options.values()))
    return [superadditive(problem.plan(dict(zip(problem.options, each, strict=True)))) for each in positions]


def children(seed: int, evaluations: int = 40) -> list[Measured]:
    """Children of one parent, the knapsack's own answer being replaced by a bad plan of the same latency class."""
    problem = interacting(3)
    parent = superadditive({"g1": 1, "g2": 2})
    return list(refine(problem, [parent], superadditive, evaluations=evaluations, rng=np.random.default_rng(seed)))


def test_children_are_new_and_as_fast_and_get_better() -> None:
    """Every child is faster than dense, none is known before, and some child beats the parent where it stands."""
    problem = interacting(3)
    parent = superadditive({"g1": 1, "g2": 2})
    found = children(0)
    assert all(problem.latency_s(child.plan) < problem.latency_s({}) for child in found)
    assert len({tuple(sorted(child.plan.items())) for child in found}) == len(found)
    within = [child for child in found if problem.latency_s(child.plan) <= problem.latency_s(parent.plan) + 1e-9]
    assert min(child.divergence for child in within) < parent.divergence


@pytest.mark.parametrize("seed", range(5))
def test_every_second_child_is_for_a_goal(seed: int) -> None:
    """With one goal half of the children keep its latency, and one of them is the best that there is."""
    problem = interacting(seed)
    goal_s = 0.6 * problem.latency_s({})
    parent, rng = superadditive(FASTEST), np.random.default_rng(seed)
    found = list(refine(problem, [parent], superadditive, evaluations=30, rng=rng, goals_s=[goal_s]))
    within = [child.divergence for child in found if problem.latency_s(child.plan) <= goal_s]
    assert len(within) >= len(found) / 2
    assert min(within) == min(c.divergence for c in everything(problem) if problem.latency_s(c.plan) <= goal_s)


def test_nothing_is_searched_beyond_the_fast_end() -> None:
    """Whatever is allocated for the fast end itself is priced at most there, and nothing is much faster."""
    problem = interacting(3)
    fastest_s, goal_s = 0.5 * problem.latency_s({}), 0.7 * problem.latency_s({})
    rng = np.random.default_rng(0)
    options = {"fastest_s": fastest_s, "goals_s": [goal_s]}
    free = list(refine(problem, [superadditive(FASTEST)], superadditive, evaluations=12, rng=rng, goals_s=[goal_s]))
    bound = list(refine(problem, [superadditive(FASTEST)], superadditive, evaluations=12, rng=rng, **options))
    assert min(problem.latency_s(c.plan) for c in free) < 0.4 * problem.latency_s({})
    assert min(problem.latency_s(c.plan) for c in bound) > 0.4 * problem.latency_s({})


def test_coefficients_are_learned() -> None:
    """Where one element moves ten times what its error says, the children soon take other elements instead."""
    problem = interacting(3)

    def tenfold(plan: Plan) -> Measured:
        choice = problem.choice(plan)
        return Measured(plan, sum(problem.errors[e][k] * (10.0 if e == "g1" else 1.0) for e, k in choice.items()))

    parent = tenfold(FASTEST)
    found = list(refine(problem, [parent], tenfold, evaluations=30, rng=np.random.default_rng(0)))
    early, late = found[:8], found[-8:]
    assert sum("g1" in child.plan for child in late) < sum("g1" in child.plan for child in early)


def test_the_seed_repeats() -> None:
    """Equal seeds give equal children in equal order."""
    assert children(7) == children(7)


def test_it_stops_when_the_front_stands_still() -> None:
    """With a parent that nothing beats, the search ends after its patience, not after its evaluations."""

    def worse(plan: Plan) -> Measured:
        return Measured(plan, 100.0)

    problem = interacting(3)
    parent = Measured(FASTEST, 0.0)
    found = list(refine(problem, [parent], worse, evaluations=40, rng=np.random.default_rng(0)))
    assert len(found) == PATIENCE


def test_without_parents_there_are_no_children() -> None:
    """A target that nothing was found for is not searched around."""
    assert list(refine(interacting(3), [], superadditive, evaluations=4, rng=np.random.default_rng(0))) == []
