"""Search around an allocated front: errors of elements do not simply add, so finished candidates teach what each one counts.

A candidate's divergence is modelled as the sum of its elements' errors, each times a coefficient (the layer coefficients of
SPDY, Frantar & Alistarh 2022, there perturbed blindly). The candidates so far say what the coefficients may be, and how well
that is known; a child is the knapsack's answer at some latency under coefficients drawn from there (Thompson sampling,
Thompson 1933). So children take both what looks best and what little is known of, and each of them teaches the next.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np
from scipy import linalg

from search.allocate.base import Problem
from search.allocate.knapsack import knapsack
from search.graph.ir import Array
from search.space.plan import Plan, plan_key

SPREAD = 0.7
"""Standard deviation of the logarithm of a coefficient that nothing is known of: a factor of two is nothing unusual."""
NOISE = 0.2
"""Standard deviation of the logarithm of a divergence about what the coefficients say."""
REACH = 0.3
"""Logarithm of a latency beyond which candidates say little: what counts is not the same where much was cut."""
LEAST = 1e-4
"""Divergences below this are noise."""
PATIENCE = 16
"""Children in a row without one on the front after which it has stopped moving."""
ATTEMPTS = 32
"""Draws for a child that is not known yet, before the search is given up."""
NEWTON_STEPS = 20
BEYOND = 1.1
"""Where the spread latencies would end, the fast end being 1: that end, which is always on the front, gets its share of them."""
EVENLY = (5**0.5 - 1) / 2
"""Multiples of the golden ratio, without their whole part, cover what lies between 0 and 1 evenly at any number of them."""


class Evaluated(Protocol):
    """A candidate that was repaired and measured."""

    @property
    def plan(self) -> Plan:
        """What was turned."""

    @property
    def divergence(self) -> float:
        """How far it moved."""


Found = TypeVar("Found", bound=Evaluated)


def refine(
    problem: Problem,
    found: Sequence[Found],
    evaluate: Callable[[Plan], Found | None],
    *,
    evaluations: int,
    rng: np.random.Generator,
    fastest_s: float = 0.0,
    goals_s: Sequence[float] = (),
) -> Iterator[Found]:
    """Yield the evaluated children, until the front stops moving or the evaluations are spent.

    Args:
        problem: the target's options, errors and prices.
        found: evaluated candidates; no child is asked to be faster than the fastest of them.
        evaluate: repairs a plan and measures how far it moves; None where that fails.
        evaluations: most children.
        rng: the seed's own; equal seeds give equal children.
        fastest_s: nor is it asked to be faster than this.
        goals_s: latencies that matter most: every second child is for one of these, the others are spread evenly.
    """
    if not found:
        return
    known = {plan_key(c.plan) for c in found}
    lessons = _Lessons(problem, found)
    fast_end_s = max(fastest_s, min(lessons.latencies_s))
    wanted_s = _latencies(problem.latency_s({}), fast_end_s, goals_s, rng)
    idle = 0
    for _ in range(evaluations):
        fresh = (_allocated(problem, lessons, next(wanted_s), rng) for _ in range(ATTEMPTS))
        plan = next((plan for plan in fresh if plan and plan_key(plan) not in known), None)
        if plan is None or idle >= PATIENCE:
            return
        known.add(plan_key(plan))
        child = evaluate(plan)
        if child is None:
            idle += 1
            continue
        yield child
        idle = 0 if lessons.leads(child) else idle + 1
        lessons.add(child)


def _latencies(
    slowest_s: float, fastest_s: float, goals_s: Sequence[float], rng: np.random.Generator
) -> Iterator[float]:
    """Without end: evenly spread over the logarithm of the latency, every second one a goal."""
    start = float(rng.random())
    for i in itertools.count():
        if goals_s:
            yield goals_s[i % len(goals_s)]
        yield slowest_s * (fastest_s / slowest_s) ** min(1.0, BEYOND * ((start + i * EVENLY) % 1))


def _allocated(problem: Problem, lessons: _Lessons, latency_s: float, rng: np.random.Generator) -> Plan:
    """The best plan within a latency if the coefficients were those of one draw."""
    drawn = lessons.draw(latency_s, rng)
    errors = {name: problem.errors[name] * c for name, c in zip(problem.options, drawn, strict=True)}
    [choice] = knapsack(dataclasses.replace(problem, errors=errors), [latency_s])
    return problem.plan(choice)


class _Lessons:
    """What candidates teach of the coefficients."""

    def __init__(self, problem: Problem, found: Sequence[Evaluated]) -> None:
        self.problem = problem
        self.latencies_s: list[float] = []
        self._divergences: list[float] = []
        self._errors: list[Array] = []
        for candidate in found:
            self.add(candidate)

    def add(self, candidate: Evaluated) -> None:
        """One more; of one that is no choice of this problem, another target's, errors are those of what it shares with it."""
        choice = self.problem.choice(candidate.plan)
        self._errors.append(np.array([self.problem.errors[name][k] for name, k in choice.items()]))
        self.latencies_s.append(self.problem.latency_s(candidate.plan))
        self._divergences.append(candidate.divergence)

    def leads(self, candidate: Evaluated) -> bool:
        """Whether none so far is as fast and as good."""
        latency_s = self.problem.latency_s(candidate.plan)
        rivals = zip(self.latencies_s, self._divergences, strict=True)
        return all(seconds > latency_s or moved > candidate.divergence for seconds, moved in rivals)

    def draw(self, latency_s: float, rng: np.random.Generator) -> Array:
        """One coefficient an element, as likely as it is by what candidates of about this latency moved.

        The posterior's mode by Gauss-Newton and a normal distribution about it (Laplace's approximation), of the logarithms.
        """
        near = np.exp(-0.5 * (np.log(np.array(self.latencies_s) / latency_s) / REACH) ** 2)
        errors, moved = np.array(self._errors), np.log(np.maximum(self._divergences, LEAST))
        mode, precision = np.zeros(errors.shape[1]), np.eye(errors.shape[1])
        for _ in range(NEWTON_STEPS):
            parts = errors * np.exp(mode)
            sums = np.maximum(parts.sum(1), LEAST)
            slopes = parts / sums[:, None]
            weighted = slopes.T * (near / NOISE**2)
            precision = weighted @ slopes + np.eye(len(mode)) / SPREAD**2
            step = np.linalg.solve(precision, weighted @ (moved - np.log(sums)) - mode / SPREAD**2)
            mode = mode + np.clip(step, -1, 1)
        about = linalg.solve_triangular(np.linalg.cholesky(precision).T, rng.normal(size=len(mode)))
        return np.asarray(np.exp(mode + about))
