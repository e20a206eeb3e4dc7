"""What a criterion is: a pure function from evidence to an order of removal."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Callable, Mapping

import numpy as np

from search.criteria import gradients
from search.criteria.curvature import output_curvature
from search.graph.ir import Array, Graph
from search.input.task import Task
from search.repair.targets import Target
from search.space.groups import Group, Groups


@dataclasses.dataclass(frozen=True)
class Evidence:
    """All that a criterion may look at: the dense network, its second moments and the samples they come from."""

    graph: Graph
    groups: Groups
    targets: Mapping[str, Target]
    """Node name to its linear map and the moments of its inputs; nodes that are no linear map are missing."""
    feeds: Mapping[str, Array]
    """Input name to calibration samples (N, ...)."""
    labels: Array | None = None
    """(N, ...), or None where the data have none."""
    seed: int = 0
    task: Task | None = None
    """What the labels mean, which then are in normal form; None: decided by what the dense network answers."""

    def rng(self, group: Group) -> np.random.Generator:
        """Random numbers of one group, the same whichever groups were asked before."""
        return np.random.default_rng((self.seed, zlib.crc32(group.id.encode())))

    @functools.cached_property
    def gate_gradients(self) -> dict[str, Array]:
        """Group id to (N, units): see `search.criteria.gradients`. Computed when a criterion first asks."""
        return gradients.gate_gradients(self.graph, self.groups, self.feeds, self.labels, self.seed, self.task)

    @functools.cached_property
    def curvature(self) -> dict[str, float]:
        """Output of a linear map to what its errors cost: see `search.criteria.curvature`. Computed when first asked for."""
        readers = {slot.node for group in self.groups.prunable for slot in group.slots if slot.role == "consumes"}
        axes = {t.linear.output: t.linear.axis for node, t in self.targets.items() if node in readers}
        return output_curvature(self.graph, self.groups.shapes, axes, self.feeds, self.seed, self.task)


Criterion = Callable[[Group, Evidence], Array]
"""(group, evidence) to a permutation of the group's positions: the first one is cut first."""


def weakest_first(scores: Array) -> Array:
    """The order that cuts low scores first; of equals, the earlier unit.

    Example:
        >>> weakest_first(np.array([0.5, 0.1, 0.1])).tolist()
        [1, 2, 0]
    """
    return np.argsort(scores, kind="stable")


def filters(group: Group, evidence: Evidence) -> list[Array]:
    """Weights that make each unit, one matrix (units, weights of one unit) for every node that produces the group.

    A unit of several rows (an attention head, say) has them side by side; units with fewer rows are padded with zeros.
    """
    found = []
    for slot in group.slots:
        weight = evidence.graph.initializers[slot.weight]
        if slot.role != "produces" or weight.ndim < 2:
            continue
        rows = np.moveaxis(weight, slot.axis, 0).reshape(len(slot.ids), -1).astype(np.float64)
        found.append(_by_unit(rows, slot.ids, group))
    return found


def _by_unit(rows: Array, ids: Array, group: Group) -> Array:
    members = [rows[ids == unit] for unit in group.units]
    most = max(len(member) for member in members)
    padded = [np.pad(member, [(0, most - len(member)), (0, 0)]) for member in members]
    return np.stack([member.reshape(-1) for member in padded])


def filter_scores(group: Group, evidence: Evidence, power: int) -> Array:
    """Sum of |weight|^power of every unit's filters over the nodes that produce it, each node scaled to a mean of one."""
    total = np.zeros(len(group))
    for matrix in filters(group, evidence):
        total += relative((np.abs(matrix) ** power).sum(1))
    return total


def relative(scores: Array) -> Array:
    """Scores over their mean, so that several nodes weigh alike."""
    return np.asarray(scores / max(float(np.mean(scores)), 1e-30))
