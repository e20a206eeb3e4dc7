"""Rank of feature maps: Lin et al., "HRank: Filter Pruning using High-Rank Feature Map" (2020), eq. 3.

A unit's map is what its readers see: (height, width) of an image, (position, feature of the unit) of tokens. Units of equal
rank, which is all of them where maps are 1x1, are ordered by the energy of their maps.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from search.criteria.base import Evidence
from search.graph.ir import Array
from search.graph.run.execute import forward
from search.space.groups import Group

MOST_SAMPLES = 32
"""The average rank hardly depends on the images (section 3.2 of the paper)."""


def activation_rank(group: Group, evidence: Evidence) -> Array:
    """Units whose maps have the lowest mean rank go first."""
    ranks, energy = np.zeros(len(group)), np.zeros(len(group))
    for name in _read(group, evidence):
        maps = _maps(name, group, evidence)
        for position, unit in enumerate(maps):
            ranks[position] += np.linalg.matrix_rank(unit).mean() if unit.size else 0.0
            energy[position] += float((unit.astype(np.float64) ** 2).sum())
    return np.lexsort((energy, ranks))


def _read(group: Group, evidence: Evidence) -> list[str]:
    """Activations through which weights read the group."""
    readers = {slot.node for slot in group.slots if slot.role == "consumes"}
    names = [name for node in evidence.graph.nodes if node.name in readers for name in node.inputs]
    ids = evidence.groups.value_ids
    return [name for name in dict.fromkeys(names) if name in ids and np.isin(ids[name], group.units).any()]


def _maps(name: str, group: Group, evidence: Evidence) -> list[Array]:
    """Of every unit, (N, rows, columns)."""
    feeds = {key: jnp.asarray(value[:MOST_SAMPLES]) for key, value in evidence.feeds.items()}
    value = np.asarray(forward(evidence.graph, outputs=[name])({}, feeds)[0])
    axis = 1 if value.ndim == 4 else value.ndim - 1
    ids = np.moveaxis(evidence.groups.value_ids[name], axis, 0).reshape(value.shape[axis], -1)[:, 0]
    moved = np.moveaxis(value, axis, 1)
    samples = moved.reshape(len(moved), moved.shape[1], -1, value.shape[3] if value.ndim == 4 else 1)
    return [
        samples[:, ids == unit].reshape(len(value), -1, samples.shape[3])
        if value.ndim == 4
        else samples[:, ids == unit, :, 0].transpose(0, 2, 1)
        for unit in group.units
    ]
