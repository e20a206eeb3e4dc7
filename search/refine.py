"""Local search around an allocated front: errors of elements do not simply add, so finished candidates have the last word.

A child is the knapsack's answer at a parent's latency under errors that are perturbed element by element (the layer
coefficients of SPDY, Frantar & Alistarh 2022); it is repaired and evaluated like any candidate, and one that beats its
parent becomes a parent, its coefficients the centre of the next perturbation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np

from search import pareto
from search.allocate.base import Problem
from search.allocate.knapsack import knapsack
from search.graph.ir import Array
from search.plan import Plan, plan_key

SPREAD = 0.7
"""Standard deviation of the logarithm of a coefficient: options that differ by a factor of two change places often."""
PATIENCE = 8
"""Children in a row without a better one after which the front has stopped moving."""
ATTEMPTS = 8
"""Draws for a child that is not known yet, before a parent is given up."""


class Evaluated(Protocol):
    """A candidate that was repaired and measured."""

    @property
    def plan(self) -> Plan:
        """What was turned."""

    @property
    def divergence(self) -> float:
        """How far it moved."""


Found = TypeVar("Found", bound=Evaluated)


@dataclasses.dataclass(frozen=True)
class _Member(Generic[Found]):
    candidate: Found
    latency_s: float
    coefficients: Array


def refine(
    problem: Problem,
    found: Sequence[Found],
    evaluate: Callable[[Plan], Found],
    *,
    evaluations: int,
    rng: np.random.Generator,
) -> Iterator[Found]:
    """Yield the evaluated children, until the front stops moving or the evaluations are spent.

    Args:
        problem: the target's options, errors and prices.
        found: evaluated candidates of this target.
        evaluate: repairs a plan and measures how far it moves.
        evaluations: most children.
        rng: the seed's own; equal seeds give equal children.
    """
    names = list(problem.options)
    neutral = np.ones(len(names))
    members = [_Member(c, problem.latency_s(c.plan), neutral) for c in found]
    known = {plan_key(c.plan) for c in found}
    idle = 0
    for _ in range(evaluations):
        parents = _front(members)
        child = _child(problem, parents, known, names, rng)
        if child is None or idle >= PATIENCE:
            return
        plan, coefficients, parent = child
        known.add(plan_key(plan))
        candidate = evaluate(plan)
        yield candidate
        idle = 0 if candidate.divergence < parent.candidate.divergence else idle + 1
        members.append(_Member(candidate, problem.latency_s(plan), coefficients))


def _front(members: Sequence[_Member[Found]]) -> list[_Member[Found]]:
    kept = pareto.front([m.latency_s for m in members], [-m.candidate.divergence for m in members])
    return [members[i] for i in kept]


def _child(
    problem: Problem,
    parents: Sequence[_Member[Found]],
    known: set[tuple[tuple[str, str], ...]],
    names: list[str],
    rng: np.random.Generator,
) -> tuple[Plan, Array, _Member[Found]] | None:
    """A plan that is not known, at the latency of some parent, the coefficients that led to it, and the parent."""
    for _ in range(ATTEMPTS if parents else 0):
        parent = parents[int(rng.integers(len(parents)))]
        coefficients = parent.coefficients * np.exp(rng.normal(0, SPREAD, len(names)))
        errors = {name: problem.errors[name] * c for name, c in zip(names, coefficients, strict=True)}
        [choice] = knapsack(dataclasses.replace(problem, errors=errors), [parent.latency_s])
        plan = problem.plan(choice)
        if plan and plan_key(plan) not in known:
            return plan, coefficients, parent
    return None
