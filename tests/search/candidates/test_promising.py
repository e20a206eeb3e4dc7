"""Which candidates a front may have, and which are worth more work."""

from __future__ import annotations

import dataclasses

from search.allocate.goals import Goals
from search.candidates.promising import along_front, promising, worth_blocks
from search.space.blocks import Variant
from search.space.plan import Candidate
from search.wire.request import JobSpec, Objective
from tests.search.allocate.test_knapsack import interacting

NOTHING = Variant(*[None] * 2)  # type: ignore[arg-type]


def test_blocks_are_worth_a_repair_at_each_named_speed_with_its_margin_and_without() -> None:
    """By hand: 0.5 s is named, so the best within 0.5 and within 0.515, and both are finished; 0.59 s is the objective's."""
    latencies_s = {8: 0.7, 7: 0.59, 6: 0.51, 5: 0.505, 4: 0.48, 3: 0.4}
    problem = dataclasses.replace(interacting(1), latency_s=lambda plan: latencies_s[plan.get("g0", 8)], named_s=[0.5])
    candidates = [Candidate({"g0": n}, NOTHING, {}, {}, 1 / n, "obs") for n in latencies_s]
    spec = JobSpec(objective=Objective(max_latency_ms=590))
    worth = worth_blocks([problem], candidates, Goals(spec))
    assert [c.plan["g0"] for c in worth] == [7, 6, 4]
    assert [c.plan["g0"] for c in worth_blocks([problem], candidates, Goals(JobSpec()))] == [6, 4]
    finished = promising(problem, candidates, 1, Goals(JobSpec()))
    assert {6, 4} <= {c.plan["g0"] for c in finished}


def test_points_to_be_trained_are_the_bends_of_the_front() -> None:
    """17 adds no area, 4 adds 0.09 = log(10 / 4) * (1 - 0.9), 10 adds 0.21, 1 adds 0.81 = log(1.5) * 2, 1.5 adds 0.98."""
    latencies = [1.0, 1.5, 4.0, 10.0, 17.0]
    lost = [4.0, 1.0, 0.81, 0.25, 0.0]
    assert along_front(latencies, lost, 3, trained=False) == [0, 1, 3]


def test_of_points_beyond_what_is_wanted_the_best_is_trained() -> None:
    """Of 1 and 1.5, both within 2, the time goes to 1.5; where they are trained already both may stay; 0.9 has neither."""
    latencies, lost = [1.0, 1.5, 4.0, 10.0], [4.0, 1.0, 0.81, 0.25]
    assert along_front(latencies, lost, 4, [2.0], trained=False, fastest_s=2.0) == [1, 2, 3]
    assert along_front(latencies, lost, 4, [2.0], trained=True, fastest_s=2.0) == [0, 1, 2, 3]
    assert along_front(latencies, lost, 4, trained=False, fastest_s=0.9) == [0, 1, 2, 3]


def test_points_that_are_done_are_spread_along_the_curve() -> None:
    """By hand: the crowded 1.5 and 4 go, where next to nothing is gained over 1; 10, where little is lost, stays."""
    assert along_front([1.0, 1.5, 4.0, 10.0, 17.0], [8.0, 7.9, 7.8, 0.1, 0.0], 3) == [0, 3, 4]


def test_the_best_within_a_goal_is_kept_and_the_dominated_are_not() -> None:
    """A goal keeps the costliest that meets it; what costs more and moved more is never spread over."""
    latencies, lost = [1.0, 2.0, 2.1, 3.0, 4.0], [5.0, 1.0, 2.0, 0.5, 0.0]
    assert 1 in along_front(latencies, lost, 3, [2.5], trained=False)
    assert 3 in along_front(latencies, lost, 3, [3.5], trained=False)
    assert 2 not in along_front(latencies, lost, 5, trained=False)
