"""Erdos-Renyi kernel: the smaller a layer, the denser it stays.

Density of a convolution is in proportion to (c_in + c_out + k_h + k_w) / (c_in c_out k_h k_w), at most 1.
Source: Evci et al., "Rigging the Lottery" (2020), section 3.1, after Mocanu et al. (2018). A group keeps the mean density of
the layers that produce it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from search.allocate.base import Choice, Problem
from search.allocate.levels import by_level
from search.graph.ir import Params
from search.space.groups import Group


@dataclasses.dataclass(frozen=True)
class ErdosRenyiKernel:
    """An `Allocator`."""

    full: Mapping[str, int]
    """Group to its number of units."""
    densities: Mapping[str, float]
    """Group to its density before scaling, from `density`."""

    def __call__(self, problem: Problem, budgets_s: Sequence[float]) -> list[Choice]:
        """The largest common scale that keeps each budget; at level 1 even the largest layer is dense."""
        scale = 1 / min(self.densities.values(), default=1.0)

        def shares(level: float) -> dict[str, float]:
            return {group: min(1.0, level * scale * density) for group, density in self.densities.items()}

        return by_level(problem, budgets_s, self.full, shares)


def density(group: Group, initializers: Params) -> float:
    """Mean over the weights that produce a group of sum(shape) / prod(shape)."""
    shapes = [
        initializers[slot.weight].shape
        for slot in group.slots
        if slot.role == "produces" and initializers[slot.weight].ndim > 1
    ]
    return float(np.mean([sum(shape) / np.prod(shape) for shape in shapes])) if shapes else 1.0
