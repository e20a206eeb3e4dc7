"""The knapsack where elements form chains: a layer priced by its input and output width together, exactly.

With c(i, j) the seconds that an element's option j adds when its predecessor has option i,
D[l][j][b] = e(l, j) + min_i D[l-1][i][b - c(i, j)]: the state is the predecessor's option beside the bucket, so that no
product of widths is linearised (HALP, Shen et al. 2022, linearises it). One table serves every budget.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from search.allocate.base import Choice, Problem
from search.graph.ir import Array

BUCKETS = 5_000


def chain_order(neighbours: Mapping[str, frozenset[str]]) -> list[str] | None:
    """Elements in an order in which each has no neighbour but the one before and the one after; None if there is none.

    Example:
        >>> chain_order({"b": frozenset("ac"), "a": frozenset("b"), "c": frozenset("b"), "d": frozenset()})
        ['a', 'b', 'c', 'd']
    """
    order: list[str] = []
    for start in sorted(neighbours, key=lambda name: (len(neighbours[name]), list(neighbours).index(name))):
        if start in order:
            continue
        if len(neighbours[start]) > 1:  # every end of a chain was walked already: what is left has none, or branches
            return None
        here: str | None = start
        while here is not None:
            order.append(here)
            onward = [name for name in neighbours[here] if name not in order]
            if len(onward) > 1:
                return None
            here = onward[0] if onward else None
    order_of = {name: i for i, name in enumerate(order)}
    close = all(abs(order_of[a] - order_of[b]) == 1 for a in neighbours for b in neighbours[a])
    return _ends_first(order, neighbours) if close else None


def _ends_first(order: list[str], neighbours: Mapping[str, frozenset[str]]) -> list[str]:
    """The same chains, those of several elements before single ones."""
    return sorted(order, key=lambda name: not neighbours[name])


def chain(
    problem: Problem, order: Sequence[str], budgets_s: Sequence[float] | Array, *, buckets: int = BUCKETS
) -> list[Choice | None]:
    """Choices of least total error within each budget, for elements in the order of `chain_order`.

    Args:
        problem: the target's options, errors and prices.
        order: its elements.
        budgets_s: seconds.
        buckets: resolution between the fastest and the dense network; times are rounded up to it.

    Returns:
        A choice for every budget, None where none fits.
    """
    table = _Table.of(problem, order, buckets)
    return [table.answer(float(budget)) for budget in budgets_s]


@dataclasses.dataclass(frozen=True)
class _Table:
    order: Sequence[str]
    floor_s: float
    """Seconds of a network in which every element adds its least."""
    width_s: float
    costs: Sequence[Array]
    """Buckets of each element: (options of the one before, its options)."""
    best: Sequence[Array]
    """Least error with at most so many buckets above the floor, up to each element: (its options, buckets + 1)."""

    @classmethod
    def of(cls, problem: Problem, order: Sequence[str], buckets: int) -> _Table:
        seconds = _transitions(problem, order)
        most_s = float(problem.tables.seconds(problem.stacked([{}]))[0])
        floor_s = most_s + sum(float(c.min()) for c in seconds)
        width_s = max(most_s - floor_s, 1e-300) / buckets
        costs = [np.ceil((c - c.min()) / width_s - 1e-9).astype(np.int64) for c in seconds]
        best = [np.zeros((1, buckets + 1))]
        for element, cost in zip(order, costs, strict=True):
            best.append(_extend(best[-1], cost, problem.errors[element]))
        return cls(order, floor_s, width_s, costs, best)

    def answer(self, budget_s: float) -> Choice | None:
        """Walk the table back from the last element."""
        last = self.best[-1]
        left = int(min(np.floor((budget_s - self.floor_s) / self.width_s + 1e-9), last.shape[1] - 1))
        if left < 0 or not np.isfinite(last[:, left]).any():
            return None
        k = int(last[:, left].argmin())
        chosen = []
        for cost, before in zip(reversed(self.costs), reversed(self.best[:-1]), strict=True):
            chosen.append(k)
            rest = left - cost[:, k]
            errors = np.where(rest >= 0, before[np.arange(len(rest)), np.maximum(rest, 0)], np.inf)
            k = int(errors.argmin())
            left = int(rest[k])
        return dict(zip(self.order, reversed(chosen), strict=True))


def _transitions(problem: Problem, order: Sequence[str]) -> list[Array]:
    """Seconds that each element's options add, given each option of the element before."""
    seconds, before = [], None
    for element in order:
        count = len(problem.options[before]) if before is not None else 1
        contexts = problem.stacked([{} if before is None else {before: k} for k in range(count)])
        seconds.append(problem.tables.changes(element, contexts))
        before = element
    return seconds


def _extend(best: Array, cost: Array, errors: Array) -> Array:
    """One more element: (options before, buckets + 1) to (its options, buckets + 1)."""
    buckets = best.shape[1] - 1
    found = np.full((cost.shape[1], buckets + 1), np.inf)
    for before, k in np.argwhere(cost <= buckets):
        tail = found[k, cost[before, k] :]
        np.minimum(tail, best[before, : len(tail)], out=tail)
    return found + errors[:, None]
