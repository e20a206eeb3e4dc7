"""Prices that timing corrects, on targets that are this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from search.allocate.base import Problem
from search.allocate.goals import Goals
from search.allocate.problem import Sensitivities, build_problem
from search.allocate.targets import Target
from search.candidates.make import Maker
from search.graph.edit.patch import file_of
from search.measure.stopwatch import stopwatch
from search.space.plan import Candidate, Plan


def problems_of(target: Target, errors: Sensitivities, maker: Maker, goals: Goals, cache_dir: Path) -> list[Problem]:
    """One for each state of a target, with prices of the speed-ups that the request names, found by timing where it can be."""
    measured = _measured(target, maker, cache_dir)
    found = []
    for options in target.states:
        problem = build_problem(target.pricer, options, errors)
        prices_s = goals.prices_s(problem)
        with maker.survival.without("timing of plans", target.profile.id, "prices are those of the latency model"):
            prices_s = goals.prices_s(problem, measured)
        found.append(dataclasses.replace(problem, named_s=prices_s))
    return found


def timed(
    target: Target, problem: Problem, candidates: Sequence[Candidate], maker: Maker, goals: Goals, cache_dir: Path
) -> Problem:
    """The problem with prices of the candidates that count found by timing, where that can be."""
    measured = _measured(target, maker, cache_dir)
    if measured is not None and not maker.progress.stopping:
        with maker.survival.without("timing of candidates", target.profile.id, "prices are those of the latency model"):
            return goals.timed(problem, candidates, measured)
    return problem


def _measured(target: Target, maker: Maker, cache_dir: Path) -> Callable[[Sequence[Plan]], list[float]] | None:
    """Plans to the measured speed-ups of their networks; None where the target is another machine."""
    if not target.profile.measurable_here:
        return None

    def measured(plans: Sequence[Plan]) -> list[float]:
        watch = stopwatch(target.profile, maker.splits.search, maker.knobs.graph.sampling, cache_dir / "measurements")
        files = [file_of(maker.knobs.graph), *map(maker.untrained, plans)]
        return [found.speedup for found in watch(files)[1:]]

    return measured
