"""From the weights of a cut network back to those of the masked one: the inverse of cutting."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from search.graph.ir import Array, Graph
from search.space.groups import Groups, Keep
from search.space.surgery import mask


def spread(small: Mapping[str, Array], graph: Graph, groups: Groups, keep: Keep) -> dict[str, Array]:
    """Full-sized initializers whose kept entries come from a cut network and whose cut readers are zero.

    Cutting the result gives ``small`` again.

    Args:
        small: initializers of the cut network, by name.
        graph: the network before it was cut.
        groups: its coupling.
        keep: units that stay.
    """
    removed = groups.removed(keep)
    stays: dict[str, dict[int, Array]] = {}
    for slot in groups.slots:
        axes = stays.setdefault(slot.weight, {})
        axes[slot.axis] = axes.get(slot.axis, True) & ~removed[slot.ids]
    full = {}
    for name, value in small.items():
        wide = graph.initializers[name].copy()
        index = [stays.get(name, {}).get(axis, np.ones(size, bool)) for axis, size in enumerate(wide.shape)]
        wide[np.ix_(*index)] = value
        full[name] = wide
    return {**full, **mask({**graph.initializers, **full}, groups, keep)}
