"""The knapsack against brute force."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from search.allocate.base import Problem
from search.allocate.chain import chain_order
from search.allocate.knapsack import cheapest, knapsack
from search.allocate.tables import Kernel, Part, Tables
from search.graph.ir import Array
from search.space.plan import Plan

Seeds = st.integers(0, 2**32 - 1)


def random_tables(seed: int) -> tuple[dict[str, Array], dict[str, Array]]:
    """Whole-numbered seconds and errors of three groups with three options each, the first option dense."""
    rng = np.random.default_rng(seed)
    times = {f"g{i}": np.sort(rng.integers(0, 20, 3))[::-1].astype(float) for i in range(3)}
    errors = {name: np.sort(rng.random(3)) for name in times}
    return times, errors


def brute_force(times: dict[str, Array], errors: dict[str, Array], budget: float) -> float:
    """Least total error over all combinations that fit."""
    return min(
        (
            sum(errors[g][k] for g, k in zip(times, combination, strict=True))
            for combination in itertools.product(*(range(len(t)) for t in times.values()))
            if sum(times[g][k] for g, k in zip(times, combination, strict=True)) <= budget
        ),
        default=np.inf,
    )


@given(Seeds, st.integers(1, 60))
def test_cheapest_equals_brute_force(seed: int, budget: int) -> None:
    """With one bucket a second the table is exact: the same error as trying everything."""
    times, errors = random_tables(seed)
    choice = cheapest(times, errors, float(budget), buckets=budget)
    best = brute_force(times, errors, budget)
    if choice is None:
        assert best == np.inf
    else:
        assert np.isclose(sum(errors[g][k] for g, k in choice.items()), best)
        assert sum(times[g][k] for g, k in choice.items()) <= budget


def interacting(seed: int, *, ring: bool = False) -> Problem:
    """Four widths whose layers cost width times width, as convolutions do: a chain, or with its ends linked a ring."""
    rng = np.random.default_rng(seed)
    options: dict[str, list[Plan]] = {f"g{i}": [{}, *({f"g{i}": k} for k in (3, 2, 1))] for i in range(4)}
    errors = {g: np.concatenate([[0.0], np.cumsum(rng.random(3))]) for g in options}
    scale = rng.uniform(0.5, 2.0, 5)
    ends = [(None, "g0"), ("g0", "g1"), ("g1", "g2"), ("g2", "g3"), ("g3", "g0" if ring else None)]

    def latency_s(plan: Plan) -> float:
        sides = [(int(plan.get(a, 4)) if a else 3, int(plan.get(b, 4)) if b else 5) for a, b in ends]
        return float(sum(s * c_in * c_out for s, (c_in, c_out) in zip(scale, sides, strict=True)))

    tables = Tables(dict.fromkeys(options, 4), latency_s({}), [layer(*ends[i], scale[i]) for i in range(5)])
    return Problem(options, errors, latency_s, tables)


def layer(source: str | None, sink: str | None, scale: float) -> Kernel:
    """A kernel between two widths of 4, 3, 2 or 1; 3 channels come in and 5 go out where there is none."""
    widths = np.array([4, 3, 2, 1])
    parts = {g: Part(side * widths, np.ones(4)) for g, side in ((source, 1), (sink, 1j)) if g}
    return Kernel((0 if source else 3) + (0 if sink else 5j), parts, lambda c_in, c_out: scale * c_in * c_out)


@settings(max_examples=60, deadline=None)
@given(Seeds, st.floats(0.15, 0.95))
def test_answers_keep_the_budget_and_come_close_to_the_best(seed: int, share: float) -> None:
    """Where a layer costs the product of its widths, every answer keeps its budget, and its error is near brute force's."""
    problem = interacting(seed, ring=True)
    assert chain_order(problem.tables.neighbours) is None
    dense, least = problem.latency_s({}), problem.seconds(problem.fastest())
    budget = least + share * (dense - least)
    [answer] = knapsack(problem, [budget])
    assert problem.seconds(answer) <= budget + 1e-9
    combinations = (dict(zip(problem.options, c, strict=True)) for c in itertools.product(range(4), repeat=4))
    best = min(problem.error(choice) for choice in combinations if problem.seconds(choice) <= budget)
    worst = problem.error(problem.fastest())
    assert problem.error(answer) <= best + 0.2 * worst


@settings(max_examples=60, deadline=None)
@given(Seeds, st.floats(0.05, 0.95))
def test_chains_are_exact(seed: int, share: float) -> None:
    """Where each layer costs the product of the widths at its two ends, the chain's table has brute force's error."""
    problem = interacting(seed)
    names = list(problem.options)
    assert chain_order(problem.tables.neighbours) is not None
    dense, least = problem.latency_s({}), problem.seconds(problem.fastest())
    budget = least + share * (dense - least)
    [answer] = knapsack(problem, [budget])
    combinations = (dict(zip(names, c, strict=True)) for c in itertools.product(range(4), repeat=4))
    # buckets are rounded up four times: the table may miss what fits by less than that
    rounding = 4 * (dense - least) / 1_000
    best = min(problem.error(choice) for choice in combinations if problem.seconds(choice) <= budget - rounding)
    assert problem.seconds(answer) <= budget + 1e-9
    assert problem.error(answer) <= best + 1e-12


def test_only_chains_are_ordered() -> None:
    """A star and a ring are no chains; two chains and a single element are."""
    assert chain_order({"m": frozenset("abc"), "a": frozenset("m"), "b": frozenset("m"), "c": frozenset("m")}) is None
    assert chain_order({"a": frozenset("bc"), "b": frozenset("ac"), "c": frozenset("ab")}) is None
    pairs = {"a": frozenset("b"), "b": frozenset("a"), "s": frozenset[str](), "c": frozenset("d"), "d": frozenset("c")}
    assert chain_order(pairs) == ["a", "b", "c", "d", "s"]


def test_unreachable_budget_gives_the_fastest() -> None:
    """A budget below the fastest network is answered with the fastest network."""
    problem = interacting(0)
    assert knapsack(problem, [0.0]) == [dict.fromkeys(problem.options, 3)]


def test_a_vanishing_budget_still_has_its_exact_answer() -> None:
    """Times of 10^25 buckets do not overflow: only the options that cost nothing fit."""
    times = {"a": np.array([1.0, 0.0]), "b": np.array([0.0])}
    errors = {"a": np.array([0.0, 1.0]), "b": np.array([0.0])}
    for budget in (1e-21, 0.0):
        assert cheapest(times, errors, budget) == {"a": 1, "b": 0}


@given(st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_a_plan_gives_back_its_choice(positions: list[int]) -> None:
    """Choice to plan and back; settings that no option knows are passed over."""
    problem = interacting(0)
    choice = dict(zip(problem.options, positions, strict=True))
    assert problem.choice(problem.plan(choice)) == choice
    assert problem.choice({**problem.plan(choice), "elsewhere": 7}) == choice
