"""Which candidates a target may put on its front, and which of them are worth more work."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.allocate import pareto
from search.allocate.base import Problem
from search.allocate.goals import WITH_MARGIN, Goals
from search.space.plan import Candidate, PlanKey, plan_key

MISPREDICTED = 0.9
"""Part of the objective's latency at which a second candidate is kept: it still meets it where the first was priced too low."""


def promising(
    problem: Problem, candidates: Sequence[Candidate], most: int, goals: Goals, *, trained: bool = True
) -> list[Candidate]:
    """Candidates that a target may put on its front, those near the latencies that are named among them."""
    latencies = [problem.latency_s(c.plan) for c in candidates]
    goal = goals.latency_s(problem.latency_s({}))
    goals_s = goals.wanted_s(problem, *((1 / WITH_MARGIN, 1.0) if trained else (1.0,)))
    goals_s += [MISPREDICTED * goal] if goal else []
    moved = [c.divergence for c in candidates]
    fastest_s = goals.fastest_searched_s(problem)
    chosen = along_front(latencies, moved, most, goals_s, trained=trained, fastest_s=fastest_s)
    return [candidates[i] for i in chosen]


def worth_training(
    problems: Sequence[Problem], candidates: Sequence[Candidate], count: int, goals: Goals
) -> list[Candidate]:
    """Candidates that some target would put on its front, in the order given."""
    kept = {id(c) for problem in problems for c in promising(problem, candidates, count, goals, trained=False)}
    return [c for c in candidates if id(c) in kept]


def worth_blocks(problems: Sequence[Problem], candidates: Sequence[Candidate], goals: Goals) -> list[Candidate]:
    """Of every target and each latency that is named, the candidate that moved least within it.

    Prices of speed-ups have a margin: there it is the best one without it as well, which may have the speed-up once it is
    finished.
    """
    found: dict[PlanKey, Candidate] = {}
    for problem in problems:
        for most_s in goals.wanted_s(problem, 1 / WITH_MARGIN, 1.0):
            within = [c for c in candidates if problem.latency_s(c.plan) <= most_s]
            if within:
                best = min(within, key=lambda c: c.divergence)
                found[plan_key(best.plan)] = best
    return list(found.values())


def along_front(
    latencies_s: Sequence[float],
    divergences: Sequence[float],
    count: int,
    goals_s: Sequence[float] = (),
    *,
    trained: bool = True,
    fastest_s: float = 0.0,
) -> list[int]:
    """Positions of the candidates worth finishing: undominated on the search split, spread over the front.

    The best one within each of ``goals_s`` is among them. Those yet to be ``trained`` are the bends of the front: training, whose
    time is short, goes to candidates that are hardly worse than slower ones, and much better than faster ones; of those within
    ``fastest_s`` only to the best.
    """
    kept = pareto.front(latencies_s, [-float(d) for d in divergences])
    if not trained:
        kept = kept[max(0, sum(latencies_s[i] <= fastest_s for i in kept) - 1) :]
    costs, moved = [latencies_s[i] for i in kept], np.array([divergences[i] for i in kept], float)
    within = [[i for i, seconds in enumerate(costs) if seconds <= goal] for goal in goals_s]
    goals = {each[-1] for each in within if each}  # ascending latency is descending divergence
    if trained:
        chosen = pareto.thin(costs, count, list(-np.log1p(moved)), goals)
    else:
        chosen = pareto.most_area(costs, list(-np.sqrt(moved)), count, goals)
    return [kept[i] for i in chosen]
