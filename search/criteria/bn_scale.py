"""Scale of the batch norm behind a channel: Liu et al., "Learning Efficient Convolutional Networks ..." (2017).

Exporters often fold the norm into the convolution. Its scale is then still there to be measured: a normalised channel times
gamma has the standard deviation |gamma|, so where no norm is left the deviation of the producer's output is used.
"""

from __future__ import annotations

import numpy as np

from search.criteria.base import Evidence, relative, weakest_first
from search.graph.flow import Slot
from search.graph.ir import Array
from search.space.groups import Group


def bn_scale(group: Group, evidence: Evidence) -> Array:
    """Channels with the least |gamma| go first, summed over the norms (or else the producers) of the group."""
    scales = _gammas(group, evidence) or _deviations(group, evidence)
    return weakest_first(sum((relative(scale) for scale in scales), np.zeros(len(group))))


def _gammas(group: Group, evidence: Evidence) -> list[Array]:
    norms = {node.name: node.input(1) for node in evidence.graph.nodes if node.op == "BatchNormalization"}
    return [
        _sum_by_unit(np.abs(evidence.graph.initializers[slot.weight]), slot, group)
        for slot in group.slots
        if norms.get(slot.node) == slot.weight
    ]


def _deviations(group: Group, evidence: Evidence) -> list[Array]:
    """sqrt(diag(W' G W)): standard deviation of every output of the maps that produce the group."""
    found = []
    for slot in group.slots:
        target = evidence.targets.get(slot.node)
        if slot.role != "produces" or target is None or slot.weight != target.linear.weight:
            continue
        weight = target.linear.matrix(evidence.graph.initializers)
        variance = np.einsum("gdm,gde,gem->gm", weight, target.moments.gram, weight, optimize=True)
        found.append(_sum_by_unit(np.sqrt(np.maximum(variance, 0)).reshape(-1), slot, group))
    return found


def _sum_by_unit(values: Array, slot: Slot, group: Group) -> Array:
    return np.array([values[slot.ids == unit].sum() for unit in group.units], np.float64)
