"""Budgets of a front: within reach, of use, and near what the client asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from search.allocate.goals import BEYOND_THE_GOAL, MOST_TIMED, NEAR_THE_GOAL, USELESS, Goals
from search.space.blocks import Variant
from search.space.plan import Candidate, Plan
from search.wire.request import JobSpec, Objective, SearchOptions
from tests.search.allocate.test_knapsack import interacting

NOTHING = Variant(*[None] * 2)  # type: ignore[arg-type]


def test_budgets_end_where_nothing_is_left() -> None:
    """With errors ten times as large the fastest budget is slower, and no plan at a budget costs more than is of use."""
    problem = interacting(1)
    harsh = dataclasses.replace(problem, errors={name: 10 * e for name, e in problem.errors.items()})
    mild = dataclasses.replace(problem, errors={name: e / 10 for name, e in problem.errors.items()})
    assert min(Goals(JobSpec()).budgets_s(harsh)) > min(Goals(JobSpec()).budgets_s(mild))
    assert min(Goals(JobSpec()).budgets_s(mild)) == pytest.approx(problem.seconds(problem.fastest()))
    assert mild.error(problem.fastest()) < USELESS < harsh.error(problem.fastest())


def test_the_objective_has_its_own_budgets() -> None:
    """A latency that was asked for is a budget, and so are some just below it, however much they lose."""
    problem = interacting(1)
    harsh = dataclasses.replace(problem, errors={name: 10 * e for name, e in problem.errors.items()})
    goal_s = 1.2 * problem.seconds(problem.fastest())
    found = Goals(JobSpec(objective=Objective(max_latency_ms=1e3 * goal_s))).budgets_s(harsh)
    assert np.isclose(found[-len(NEAR_THE_GOAL) :], goal_s * np.array(NEAR_THE_GOAL)).any()


def test_a_front_ends_beyond_the_objective() -> None:
    """Who asks for a speed and for training gets a front to a multiple of that speed; without training it goes on."""
    problem = interacting(1)
    mild = dataclasses.replace(problem, errors={name: e / 10 for name, e in problem.errors.items()})
    dense_s, fastest_s = problem.latency_s({}), problem.seconds(problem.fastest())
    speedup = (dense_s / fastest_s) ** 0.5 / BEYOND_THE_GOAL**0.5
    assert speedup > 1
    spec = JobSpec(objective=Objective(speedup=speedup), search=SearchOptions(finetune_minutes=1))
    found = Goals(spec).budgets_s(mild, beyond=False)
    assert min(found) == pytest.approx(dense_s / speedup / BEYOND_THE_GOAL)
    assert min(found) > fastest_s
    untrained = dataclasses.replace(spec, search=SearchOptions())
    assert min(Goals(untrained).budgets_s(mild)) == pytest.approx(fastest_s)


def test_speeds_that_points_are_wanted_at_have_their_own_budgets() -> None:
    """By hand: twice as fast, less a margin of 3 %, is 0.485 of dense; nothing beyond the fastest of them is searched for."""
    problem = interacting(1)
    dense_s, fastest_s = problem.latency_s({}), problem.seconds(problem.fastest())
    speedups = (1 + 0.2 * (dense_s / fastest_s - 1), 1 + 0.6 * (dense_s / fastest_s - 1), 2 * dense_s / fastest_s)
    spec = JobSpec(search=SearchOptions(at_speedups=speedups))
    problem = dataclasses.replace(problem, named_s=Goals(spec).prices_s(problem))
    found = Goals(spec).near_s(problem)
    assert found == pytest.approx([0.97 * dense_s / s for s in speedups[:2]])
    assert Goals(spec).budgets_s(problem)[-2:] == found
    assert Goals(spec).fastest_searched_s(problem) == pytest.approx(0.97 * dense_s / speedups[2])
    both = dataclasses.replace(spec, objective=Objective(speedup=10 * speedups[2]))
    assert Goals(both).fastest_searched_s(problem) == pytest.approx(dense_s / (20 * speedups[2]))
    assert Goals(JobSpec()).fastest_searched_s(interacting(1)) == 0


def test_a_mispriced_network_gets_other_prices_for_the_speeds_named() -> None:
    """By hand: where plans are 1.1 times as fast as priced, 1.1 times the latency is allowed; the objective counts as well."""
    problem = interacting(1)
    dense_s = problem.latency_s({})
    spec = JobSpec(objective=Objective(speedup=1.2), search=SearchOptions(at_speedups=(1.1,)))

    def measured(plans: Sequence[Plan]) -> list[float]:
        return [1.1 * dense_s / problem.latency_s(plan) for plan in plans]

    assert Goals(spec).prices_s(problem) == pytest.approx([0.97 * dense_s / 1.1, 0.97 * dense_s / 1.2])
    assert Goals(spec).prices_s(problem, measured) == pytest.approx([0.97 * dense_s, 1.1 * 0.97 * dense_s / 1.2])
    assert Goals(JobSpec()).prices_s(problem, measured) == []


def test_candidates_about_a_named_speed_are_timed_until_none_better_can_have_it() -> None:
    """By hand: the first is as slow as priced, the next 1.2 times as fast as priced, so that slower ones may do; one does."""
    latencies_s = {9: 1.0, 8: 0.59, 7: 0.56, 6: 0.52, 5: 0.51, 4: 0.48, 3: 0.45}
    faster = {5: 1.0, 4: 1.2, 6: 1.2, 7: 1.0}
    problem = dataclasses.replace(interacting(1), latency_s=lambda plan: latencies_s[plan["g0"]], named_s=[0.5])
    candidates = [Candidate({"g0": n}, NOTHING, {}, {}, 1 / n, "obs") for n in latencies_s]
    asked: list[int] = []

    def measured(plans: Sequence[Plan]) -> list[float]:
        asked.extend(int(plan["g0"]) for plan in plans)
        return [faster[asked[-1]] / latencies_s[asked[-1]]]

    found = Goals(JobSpec(search=SearchOptions(at_speedups=(2.0,)))).timed(problem, candidates, measured)
    assert asked == [5, 4, 6, 7]
    [price_s] = found.named_s
    enough = {n for n in latencies_s if found.latency_s({"g0": n}) <= price_s}
    assert enough == {6, 4, 3}
    lack = {n: latencies_s[n] / 0.5 / faster[n] / 0.985 for n in asked}
    assert {n: found.latency_s({"g0": n}) / price_s for n in asked} == pytest.approx(lack)
    assert price_s == pytest.approx(0.5 * 0.985 * 0.97 * (1 + 1.2) / 2)


def test_many_slow_candidates_do_not_keep_a_fast_one_from_being_timed() -> None:
    """All prices are 4 % too low, and many better candidates are about the price: by then those priced lower are timed."""
    latencies_s = {n: 0.44 + 0.0001 * n for n in range(1, 800)}
    problem = dataclasses.replace(interacting(1), latency_s=lambda plan: latencies_s[plan["g0"]], named_s=[0.5])
    candidates = [Candidate({"g0": n}, NOTHING, {}, {}, 1 / n, "obs") for n in latencies_s]
    asked: list[Plan] = []

    def measured(plans: Sequence[Plan]) -> list[float]:
        asked.extend(plans)
        return [1 / 1.04 / latencies_s[plan["g0"]] for plan in plans]

    found = Goals(JobSpec(search=SearchOptions(at_speedups=(2.0,)))).timed(problem, candidates, measured)
    assert len(asked) <= MOST_TIMED
    best = min((c for c in candidates if found.latency_s(c.plan) <= found.named_s[0]), key=lambda c: c.divergence)
    assert 1.04 * latencies_s[best.plan["g0"]] <= 0.985 * 0.5 < 1.04 * 1.02 * latencies_s[best.plan["g0"]]


def test_no_budget_where_nothing_is_faster() -> None:
    """With dense options alone there is nothing to allocate."""
    problem = interacting(1)
    alone = dataclasses.replace(
        problem,
        options={n: o[:1] for n, o in problem.options.items()},
        errors={n: e[:1] for n, e in problem.errors.items()},
        tables=problem.tables.at(dict.fromkeys(problem.options, np.zeros(1, np.int64))),
    )
    assert Goals(JobSpec()).budgets_s(alone) == []
