"""Allocation by one level for the whole network: what the literature's simple rules have in common.

A rule turns a level between 1 (dense) and 0 into the share of units that every group keeps; the nearest options that are no
narrower are taken, at the highest level whose network keeps the budget. Blocks stay: the rules know widths only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from search.allocate.base import Choice, Problem
from search.space.plan import Plan, widths_of

LEVELS = 400
"""Steps of the level: finer than any grid of widths."""

Shares = Callable[[float], Mapping[str, float]]
"""Level to the share of units that each group keeps."""


def by_level(problem: Problem, budgets_s: Sequence[float], full: Mapping[str, int], shares: Shares) -> list[Choice]:
    """A choice for each budget; that of level 0 where none keeps it.

    Args:
        problem: options and latencies; errors are not looked at.
        budgets_s: seconds.
        full: group to its number of units.
        shares: the rule.
    """
    ladder: list[tuple[Choice, float]] = []
    for level in np.linspace(1, 0, LEVELS + 1):
        wished = {group: share * full[group] for group, share in shares(float(level)).items()}
        choice = {element: _nearest(options, wished, full) for element, options in problem.options.items()}
        if not ladder or choice != ladder[-1][0]:
            ladder.append((choice, problem.seconds(choice)))
    return [next((choice for choice, seconds in ladder if seconds <= budget), ladder[-1][0]) for budget in budgets_s]


def _nearest(options: Sequence[Plan], wished: Mapping[str, float], full: Mapping[str, int]) -> int:
    """Position of the narrowest option (in shares) of which every group is at least as wide as wished."""
    groups = {group for option in options for group in widths_of(option)}

    def size(k: int) -> float:
        return sum(widths_of(options[k]).get(group, full[group]) / full[group] for group in groups)

    fits = [
        k
        for k, option in enumerate(options)
        if len(widths_of(option)) == len(option)
        and all(width >= wished[group] - 1e-9 for group, width in widths_of(option).items())
    ]
    return min(fits, key=lambda k: (size(k), k))
