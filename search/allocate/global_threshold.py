"""Global threshold: units whose score is below one value go, wherever they are (Han et al. 2015, per network)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from search.allocate.base import Choice, Problem
from search.allocate.levels import by_level
from search.graph.ir import Array


@dataclasses.dataclass(frozen=True)
class GlobalThreshold:
    """An `Allocator`."""

    scores: Mapping[str, Array]
    """Group to the score of every unit; only comparisons between groups matter."""

    def __call__(self, problem: Problem, budgets_s: Sequence[float]) -> list[Choice]:
        """The lowest threshold that keeps each budget."""
        every = np.sort(np.concatenate(list(self.scores.values())))
        full = {group: len(scores) for group, scores in self.scores.items()}

        def shares(level: float) -> dict[str, float]:
            """The best ``level`` of all units of the network stay; at least a group's best."""
            cut = round((1 - level) * len(every))
            threshold = every[cut] if cut < len(every) else np.inf
            return {group: float((scores >= threshold).mean()) for group, scores in self.scores.items()}

        return by_level(problem, budgets_s, full, shares)
