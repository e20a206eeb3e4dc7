"""Masking and cutting.

Both start from a graph, its groups and the units to keep; the cut graph equals the masked one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from search.graph.ir import Array, Graph
from search.graph.ops.cut import Cut
from search.graph.rewrite.normalise import drop_dead
from search.space.groups import Groups, Keep
from search.space.resize import resize


def mask(initializers: Mapping[str, Array], groups: Groups, keep: Keep) -> dict[str, Array]:
    """Initializers that changed: wherever a weight consumes a cut unit it reads zero. Shapes stay."""
    removed = groups.removed(keep)
    changed: dict[str, Array] = {}
    for slot in groups.slots:
        cut = removed[slot.ids]
        if slot.role == "consumes" and cut.any():
            weight = changed.get(slot.weight, initializers[slot.weight])
            shape = [-1 if axis == slot.axis else 1 for axis in range(weight.ndim)]
            changed[slot.weight] = np.where(cut.reshape(shape), np.zeros((), weight.dtype), weight)
    return changed


def kept_positions(groups: Groups, keep: Keep) -> dict[str, dict[int, Array]]:
    """Initializer to axis to a boolean vector over its positions, True where they stay; what stays whole is left out."""
    removed = groups.removed(keep)
    found: dict[str, dict[int, Array]] = {}
    for slot in groups.slots:
        stays = ~removed[slot.ids]
        if not stays.all():
            axes = found.setdefault(slot.weight, {})
            axes[slot.axis] = axes.get(slot.axis, True) & stays
    return found


def cut(graph: Graph, groups: Groups, keep: Keep) -> Graph:
    """The physically smaller graph: cut units are deleted from every slot, constants that name sizes are rewritten.

    Post-condition, proved by `search.judge.sessions` for every file that leaves: it computes what the masked graph
    computes.
    """
    initializers = dict(graph.initializers)
    for weight, axes in kept_positions(groups, keep).items():
        for axis, stays in axes.items():
            initializers[weight] = np.compress(stays, initializers[weight], axis=axis)
    at = Cut(groups.value_ids, groups.shapes, groups.removed(keep), initializers)
    nodes = tuple(resize(node, groups.sizes, at) for node in graph.nodes)
    return drop_dead(graph.replace(nodes=nodes, initializers={**initializers, **at.constants}))
