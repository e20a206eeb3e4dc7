"""Channel removal: an option is how many units of a group stay, on the grid of the target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.graph.ir import Array
from search.space.groups import Group, Keep

MOST_MEASURED = 6
"""Widths of a group whose divergence is measured; the others are interpolated."""


def keep_mask(order: Array, kept: int) -> Array:
    """Boolean vector: all but the first ``len(order) - kept`` of a removal order stay."""
    mask = np.ones(len(order), bool)
    mask[order[: len(order) - kept]] = False
    return mask


def keep_units(groups: Sequence[Group], orders: dict[str, Array], widths: dict[str, int]) -> Keep:
    """Units to keep for a width of every group; groups that are not named stay whole."""
    return {group.id: keep_mask(orders[group.id], widths.get(group.id, len(group))) for group in groups}


def measured_widths(widths: Sequence[int]) -> list[int]:
    """The widths to measure: evenly spread, both ends included, full width left out (it costs nothing)."""
    smaller = sorted(set(widths))[:-1]
    if len(smaller) <= MOST_MEASURED:
        return smaller
    index = np.unique(np.round(np.linspace(0, len(smaller) - 1, MOST_MEASURED)).astype(int))
    return [smaller[i] for i in index]


def interpolate(widths: Sequence[int], measured: dict[int, float], full: int) -> Array:
    """Error of every width: non-increasing in width, log-linear between measured widths, zero at full width.

    Args:
        widths: options, any order.
        measured: width to divergence.
        full: width of the whole group.
    """
    known = sorted(measured)
    values = np.maximum.accumulate([max(measured[w], 1e-9) for w in known[::-1]])[::-1] if known else np.zeros(0)
    errors = []
    for width in widths:
        if width >= full or not known:
            errors.append(0.0)
        elif width > known[-1]:  # between the widest measured and the whole: quadratic in what is cut
            errors.append(float(values[-1] * ((full - width) / (full - known[-1])) ** 2))
        else:
            errors.append(float(np.exp(np.interp(width, known, np.log(values)))))
    return np.array(errors)
