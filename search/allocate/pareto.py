"""Dominance and fronts. Costs are minimised, qualities maximised."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def front(costs: Sequence[float], qualities: Sequence[float]) -> list[int]:
    """Positions of the points that no other dominates, by ascending cost; of equals, the first stays.

    A point is dominated when another costs no more and is at least as good, and better in one of the two.

    Example:
        >>> front([1.0, 2.0, 3.0], [0.5, 0.4, 0.9])
        [0, 2]
    """
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -qualities[i], i))
    kept: list[int] = []
    for i in order:
        if not kept or qualities[i] > qualities[kept[-1]]:
            kept.append(i)
    return kept


def hypervolume(
    costs: Sequence[float], qualities: Sequence[float], *, worst_cost: float, worst_quality: float
) -> float:
    """Area dominated by the front, up to a reference point.

    Example:
        >>> hypervolume([1.0, 2.0], [0.5, 1.0], worst_cost=3.0, worst_quality=0.0)
        1.5
    """
    area, previous = 0.0, worst_quality
    for i in front(costs, qualities):
        if costs[i] < worst_cost and qualities[i] > previous:
            area += (worst_cost - costs[i]) * (qualities[i] - previous)
            previous = qualities[i]
    return area


def most_area(costs: Sequence[float], qualities: Sequence[float], count: int, keep: Collection[int] = ()) -> list[int]:
    """At most ``count`` positions of a front, ``keep`` included, that together dominate most.

    The area is that over the logarithm of the cost, down to as far below the cheapest as the costliest is above it. Points that
    add least of it go one by one, so that what stays are the bends of the front (greedy hypervolume subset selection,
    Bradstreet et al. 2006). The costliest adds nothing.

    Args:
        costs: ascending.
        qualities: ascending with them.
        count: most positions.
        keep: positions that stay.

    Example:
        >>> most_area([1.0, 1.1, 2.0, 4.0], [0.0, 3.0, 3.1, 4.0], 2)
        [0, 1]
    """
    kept, logs = list(range(len(costs))), np.log(costs)
    while len(kept) > count:
        ends = [*logs[kept], logs[-1]]
        steps = [2 * qualities[0] - qualities[-1], *(qualities[i] for i in kept)]
        areas = {j: (ends[j + 1] - ends[j]) * (steps[j + 1] - steps[j]) for j, i in enumerate(kept) if i not in keep}
        if not areas:
            break
        del kept[min(areas, key=areas.__getitem__)]
    return kept


def thin(costs: Sequence[float], count: int, qualities: Sequence[float], keep: Collection[int] = ()) -> list[int]:
    """At most ``count`` positions of ascending costs, both ends and ``keep`` included, evenly spread along the curve.

    The curve is that of the logarithm of the cost and of the quality, each as the square root of its distance from the
    costliest point: most points stand where little is lost.

    Example:
        >>> thin([1.0, 1.1, 2.0, 4.0], 3, [0.0, 0.0, 0.0, 0.0])
        [0, 2, 3]
    """
    if len(costs) <= count:
        return list(range(len(costs)))
    kept = list(range(len(costs)))
    curve = np.stack([_scaled(np.log(max(costs)) - np.log(costs)), _scaled(max(qualities) - np.asarray(qualities))], 1)
    while len(kept) > count:  # drop the inner point whose neighbours are closest to each other
        inner = [i for i in range(1, len(kept) - 1) if kept[i] not in keep]
        if not inner:
            break
        gaps = [np.linalg.norm(curve[kept[i + 1]] - curve[kept[i - 1]]) for i in inner]
        del kept[inner[int(np.argmin(gaps))]]
    return kept


def _scaled(values: ArrayLike) -> NDArray[np.float64]:
    """Square roots of values from 0, over the largest."""
    array = np.sqrt(np.maximum(np.asarray(values, float), 0.0))
    return np.asarray(array / (array.max() or 1.0))
