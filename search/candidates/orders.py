"""In which order the units of every group go, by each criterion that is in the race."""

from __future__ import annotations

import dataclasses

import numpy as np

from search.criteria import CRITERIA
from search.criteria.base import Evidence
from search.graph.ir import Array
from search.memo import Units
from search.survive import Survival
from search.wire.progress import Progress
from search.wire.request import CriterionName

TO_MEASURE = 0.75
"""Share of the deadline that orders of removal leave for what comes after; groups without one are ordered by magnitude."""
FALLBACK = "l2"
"""Criterion that needs the weights only."""
Orders = dict[str, dict[str, Array]]
"""Criterion to an order of removal for every group."""


@dataclasses.dataclass(frozen=True)
class Ordering:
    """Orders the channels of one dense network."""

    evidence: Evidence
    units: Units
    progress: Progress
    survival: Survival

    def by(self, wanted: CriterionName) -> Orders:
        """By the request's criterion, or by those that race; where one fails for a group, by magnitude, then as they come."""
        criteria = ("obs", FALLBACK) if wanted == "auto" else (wanted,)
        found = {name: self._order(name) for name in self.progress.each(criteria, "criteria")}
        groups = self.evidence.groups.prunable
        complete = {name: order for name, order in found.items() if order or not groups}
        instead = {group.id: np.arange(len(group)) for group in groups}
        if any(len(order) < len(instead) for order in (complete or {FALLBACK: {}}).values()):
            instead |= self._order(FALLBACK)
        return {name: instead | order for name, order in (complete or {FALLBACK: {}}).items()}

    def _order(self, criterion: str) -> dict[str, Array]:
        """Group to its order of removal; those for which the criterion fails are missing."""

        def compute() -> dict[str, Array]:
            order = {}
            for group in self.evidence.groups.prunable:
                if self.progress.late(TO_MEASURE):
                    self.progress.warn("a quarter of search.deadline_minutes was gone before all channels were ordered")
                    break
                with self.survival.without(
                    "criterion", f"{criterion} of {group.id}", "another one orders its channels"
                ):
                    order[group.id] = CRITERIA[criterion](group, self.evidence)
            return order

        return self.units.result(f"order-{criterion}", [], compute)
