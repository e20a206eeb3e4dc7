"""Evolution: mutate a choice within the budget, keep what is better; for objectives that are no sum over elements.

A (1 + lambda) search over levels at bounded cost, after EvoPress, Sieberling et al. (2024), algorithm 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from search.allocate.base import Allocator, Choice, Problem

MOST_CHANGED = 3


@dataclasses.dataclass(frozen=True)
class Evolution:
    """An `Allocator`."""

    start: Allocator
    """Gives the first choice of every budget."""
    fitness: Callable[[Choice], float] | None = None
    """What to minimise, e.g. the divergence of the repaired network; the sum of errors when None."""
    generations: int = 100
    offspring: int = 8
    seed: int = 0

    def __call__(self, problem: Problem, budgets_s: Sequence[float]) -> list[Choice]:
        """For each budget the fittest choice met that keeps it; a first choice beyond its budget is returned as it is."""
        fitness = self.fitness or problem.error
        firsts = self.start(problem, budgets_s)
        return [self._one(problem, b, first, fitness) for b, first in zip(budgets_s, firsts, strict=True)]

    def _one(self, problem: Problem, budget_s: float, first: Choice, fitness: Callable[[Choice], float]) -> Choice:
        if problem.seconds(first) > budget_s:
            return first
        rng = np.random.default_rng(self.seed)
        best, least = first, fitness(first)
        for _ in range(self.generations):
            children = [mutated(best, problem, rng) for _ in range(self.offspring)]
            scored = [(fitness(child), child) for child in children if problem.seconds(child) <= budget_s]
            score, child = min(scored, key=lambda pair: pair[0], default=(np.inf, best))
            if score <= least:
                best, least = child, score
        return best


def mutated(choice: Choice, problem: Problem, rng: np.random.Generator) -> Choice:
    """One to `MOST_CHANGED` elements at another option each."""
    elements = [element for element, options in problem.options.items() if len(options) > 1]
    if not elements:
        return choice
    count = min(len(elements), int(rng.integers(1, MOST_CHANGED + 1)))
    changed = dict(choice)
    for i in rng.permutation(len(elements))[:count]:
        options = len(problem.options[elements[i]])
        changed[elements[i]] = (choice.get(elements[i], 0) + int(rng.integers(1, options))) % options
    return changed
