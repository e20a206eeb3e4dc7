"""What a criterion is: a pure function from evidence to an order of removal."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from search.graph.ir import Array, Graph
from search.prune.groups import Group, Groups
from search.recover.least_squares import Target


@dataclasses.dataclass(frozen=True)
class Evidence:
    """All that a criterion may look at: the dense network and its second moments on calibration data."""

    graph: Graph
    groups: Groups
    targets: Mapping[str, Target]
    """Node name to its linear map and the moments of its inputs; nodes that are no linear map are missing."""


Criterion = Callable[[Group, Evidence], Array]
"""(group, evidence) to a permutation of the group's positions: the first one is cut first."""


def filter_scores(group: Group, evidence: Evidence, power: int) -> Array:
    """Sum of |weight|^power of every unit's filters over the nodes that produce it, each node scaled to a mean of one."""
    total = np.zeros(len(group))
    for slot in group.slots:
        weight = evidence.graph.initializers[slot.weight]
        if slot.role != "produces" or weight.ndim < 2:
            continue
        strength = (
            (np.abs(np.moveaxis(weight, slot.axis, 0).astype(np.float64)) ** power).reshape(len(slot.ids), -1).sum(1)
        )
        member = np.isin(slot.ids, group.units)
        np.add.at(total, np.searchsorted(group.units, slot.ids[member]), strength[member] / max(strength.mean(), 1e-30))
    return total
