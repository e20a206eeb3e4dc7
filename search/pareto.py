"""Dominance and fronts. Costs are minimised, qualities maximised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


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


def thin(costs: Sequence[float], count: int) -> list[int]:
    """At most ``count`` positions of ascending costs, both ends included, evenly spread in the logarithm.

    Example:
        >>> thin([1.0, 1.1, 2.0, 4.0], 3)
        [0, 2, 3]
    """
    if len(costs) <= count:
        return list(range(len(costs)))
    kept = list(range(len(costs)))
    logs = np.log(np.asarray(costs))
    while len(kept) > count:  # drop the inner point whose neighbours are closest to each other
        gaps = [logs[kept[i + 1]] - logs[kept[i - 1]] for i in range(1, len(kept) - 1)]
        del kept[1 + int(np.argmin(gaps))]
    return kept
