"""Uniform: every group keeps the same share of its units."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from search.allocate.base import Choice, Problem
from search.allocate.levels import by_level


@dataclasses.dataclass(frozen=True)
class Uniform:
    """An `Allocator`."""

    full: Mapping[str, int]
    """Group to its number of units."""

    def __call__(self, problem: Problem, budgets_s: Sequence[float]) -> list[Choice]:
        """The largest share that keeps each budget."""
        return by_level(problem, budgets_s, self.full, lambda level: dict.fromkeys(self.full, level))
