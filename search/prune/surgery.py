"""Masking and cutting.

Both start from a graph, its groups and the units to keep; the cut graph equals the masked one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from search.graph.ir import Array, Graph
from search.graph.normalise import drop_dead
from search.prune.groups import Groups, Keep
from search.prune.resize import Cut, resize


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


def cut(graph: Graph, groups: Groups, keep: Keep) -> Graph:
    """The physically smaller graph: cut units are deleted from every slot, constants that name sizes are rewritten.

    Post-condition, proved by `search.evaluate.parity` for every file that leaves: it computes what the masked graph
    computes.
    """
    removed = groups.removed(keep)
    initializers = dict(graph.initializers)
    for slot in groups.slots:
        stays = ~removed[slot.ids]
        if not stays.all():
            initializers[slot.weight] = np.compress(stays, initializers[slot.weight], axis=slot.axis)
    at = Cut(groups, removed, initializers)
    nodes = tuple(resize(node, at) for node in graph.nodes)
    return drop_dead(graph.replace(nodes=nodes, initializers={**initializers, **at.constants}))
