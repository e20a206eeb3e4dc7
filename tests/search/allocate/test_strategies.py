"""The allocators beside the knapsack: what each rule says, by hand, and the laws that all of them keep."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprofiles.registry import load_profile
from search.allocate.base import Allocator, Problem
from search.allocate.erk import ErdosRenyiKernel, density
from search.allocate.evolution import Evolution
from search.allocate.global_threshold import GlobalThreshold
from search.allocate.knapsack import knapsack
from search.allocate.price import Pricer
from search.allocate.strategies import RULES
from search.allocate.strategies import allocator as named
from search.allocate.tables import Tables
from search.allocate.uniform import Uniform
from search.graph.ir import Array
from search.graph.onnx.read import load
from search.space.groups import find_groups
from search.space.options import options_for
from search.space.plan import Knobs, Plan, blocks_of
from search.wire.request import AllocatorName
from tests.search.allocate.test_knapsack import interacting
from tests.search.graph.nets import Net, resnet

FULL = {f"g{i}": 4 for i in range(4)}
Seeds = st.integers(0, 2**32 - 1)


def allocators(seed: int) -> dict[str, Allocator]:
    """One of each, on four groups of four units."""
    rng = np.random.default_rng(seed)
    return {
        "uniform": Uniform(FULL),
        "global": GlobalThreshold({group: rng.random(4) for group in FULL}),
        "erk": ErdosRenyiKernel(FULL, {group: float(d) for group, d in zip(FULL, rng.random(4) + 0.1, strict=True)}),
        "evolution": Evolution(knapsack, seed=seed, generations=20),
    }


@settings(max_examples=25, deadline=None)
@given(Seeds, st.floats(0.05, 1.0))
def test_every_allocator_keeps_its_budget(seed: int, share: float) -> None:
    """Whatever can be reached is kept; what cannot is answered with the narrowest network."""
    problem = interacting(seed)
    least, dense = problem.seconds(problem.fastest()), problem.latency_s({})
    budget = least + share * (dense - least)
    for name, allocator in allocators(seed).items():
        reached, unreachable = allocator(problem, [budget, 0.0])
        assert problem.seconds(reached) <= budget + 1e-9, name
        assert problem.seconds(unreachable) <= least + 1e-9, name


def widths(problem: Problem, allocator: Allocator, budget_s: float) -> list[int]:
    """What every group keeps."""
    [choice] = allocator(problem, [budget_s])
    plan = problem.plan(choice)
    return [int(plan.get(group, FULL[group])) for group in FULL]


def test_uniform_keeps_the_same_share_everywhere() -> None:
    """All groups have one width: the largest that keeps the budget."""
    problem = interacting(1)
    for width in (4, 3, 2, 1):
        budget = problem.latency_s(dict.fromkeys(FULL, width)) + 1e-9
        assert widths(problem, Uniform(FULL), budget) == [width] * 4


def test_global_threshold_cuts_the_lowest_scores_of_all() -> None:
    """At the budget of a threshold exactly the units below it are gone."""
    problem = interacting(2)
    scores = {
        "g0": np.array([9, 8, 7, 6]),
        "g1": np.array([1, 2, 9, 9]),
        "g2": np.array([9, 9, 9, 3]),
        "g3": np.ones(4) * 9,
    }
    budget = problem.latency_s({"g1": 2, "g2": 3}) + 1e-9
    assert widths(problem, GlobalThreshold(scores), budget) == [4, 2, 3, 4]


def test_erk_keeps_small_layers_denser() -> None:
    """Shares are in proportion to the densities, at most 1."""
    problem = interacting(3)
    rule = ErdosRenyiKernel(FULL, {"g0": 0.1, "g1": 0.2, "g2": 0.3, "g3": 0.4})
    budget = problem.latency_s({"g0": 1, "g1": 2, "g2": 3}) + 1e-9
    assert widths(problem, rule, budget) == [1, 2, 3, 4]


def test_density_is_the_papers_formula() -> None:
    """(c_in + c_out + k_h + k_w) / (c_in c_out k_h k_w) of the convolution that makes the group."""
    net = Net()
    net.classifier(net.op("Relu", net.conv("x", 3, 6)), 6)
    graph = load(net.bytes())
    [group] = find_groups(graph, {"x": (1, 3, 8, 8)}).prunable
    assert np.isclose(density(group, graph.initializers), (3 + 6 + 3 + 3) / (3 * 6 * 3 * 3))


@pytest.mark.parametrize("seed", range(5))
def test_evolution_finds_what_no_sum_shows(seed: int) -> None:
    """With layers that interact it gets from the worst start to the best of all 81 choices, by brute force."""
    rng = np.random.default_rng(seed)
    alone = rng.random((4, 3))
    table: Array = rng.random((3, 3, 3, 3)) / 2
    for axis, errors in enumerate(alone):
        table += errors.reshape([-1 if i == axis else 1 for i in range(4)])
    options: dict[str, Sequence[Plan]] = {group: [{}, {group: 3}, {group: 2}] for group in FULL}
    zero = {group: np.zeros(3) for group in FULL}
    problem = Problem(options, zero, lambda _: 1.0, Tables(dict.fromkeys(FULL, 3), 1.0, []))

    def fitness(choice: dict[str, int]) -> float:
        return float(table[tuple(choice[group] for group in FULL)])

    def worst(_: Problem, budgets_s: Sequence[float]) -> list[dict[str, int]]:
        index = np.unravel_index(table.argmax(), table.shape)
        return [dict(zip(FULL, map(int, index), strict=True)) for _ in budgets_s]

    [found] = Evolution(worst, fitness=fitness, generations=60, seed=seed)(problem, [2.0])
    best = min(table[c] for c in itertools.product(range(3), repeat=4))
    assert fitness(found) == pytest.approx(best)


@settings(max_examples=15, deadline=None)
@given(Seeds, st.floats(0.1, 0.9))
def test_evolution_never_loses_to_its_start(seed: int, share: float) -> None:
    """The sum of errors is at most the knapsack's, at the same budget."""
    problem = interacting(seed)
    least, dense = problem.seconds(problem.fastest()), problem.latency_s({})
    budget = least + share * (dense - least)
    [start], [found] = (allocate(problem, [budget]) for allocate in (knapsack, Evolution(knapsack, generations=20)))
    assert problem.error(found) <= problem.error(start)


def test_every_name_of_a_request_is_a_strategy() -> None:
    """Each allocates a real network within a budget that its widths reach; the rules leave the blocks alone."""
    knobs = Knobs(load(resnet().bytes()), {"x": (1, 3, 8, 8)})
    pricer = Pricer(knobs, load_profile("pixel4-1large-tflite-fp32"))
    options = options_for(knobs, pricer.profile, ("channel", "depth"))
    errors = {element: np.linspace(0, 1, len(plans)) for element, plans in options.items()}
    problem = Problem(options, errors, pricer.latency_s, pricer.tables(options))
    widths_alone = options_for(knobs, pricer.profile, ("channel",))
    budget = (pricer.latency_s({}) + pricer.latency_s(pricer.fastest(widths_alone))) / 2
    for name in get_args(AllocatorName):
        [choice] = named(name, knobs, 0)(problem, [budget])
        assert problem.seconds(choice) <= budget * (1 + 1e-9), name
        if name in RULES:
            assert not blocks_of(problem.plan(choice)), name
