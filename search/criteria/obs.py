"""Group OBS: the units whose removal costs their consumers least after every other weight has adjusted.

For a consumer with inputs X and H = X'X / R + lambda I, removing the input columns S costs
rho_S = sum_i W_iS ((H^-1)_SS)^-1 W_iS'  and is made up for by  W <- W - W_S ((H^-1)_SS)^-1 (H^-1)_S,: .
Sources: Hassibi & Stork, "Second order derivatives for network pruning" (1993); ZipLM, Kurtic et al. (2023), eq. 3-5.
Units that several nodes read are scored by the sum over all of them, each times what an error of its output does to the
answers (`search.criteria.curvature`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.criteria.base import Evidence
from search.criteria.l2 import l2
from search.graph.ir import Array
from search.repair.least_squares import DAMPING
from search.repair.targets import Target
from search.space.groups import Group

STEPS = 64
"""Units go in at most about this many rounds; within a round scores are not refreshed."""


def obs(group: Group, evidence: Evidence) -> Array:
    """Greedy order: in every round the cheapest units left go, and all consumers are updated.

    Where no consumer is a linear map that can be refitted, the order of magnitude.
    """
    readers: dict[int, list[tuple[Target, Array]]] = {}  # maps that are refitted as one have the same moments
    for slot in group.slots:
        if slot.role == "consumes" and (target := evidence.targets.get(slot.node)) is not None:
            readers.setdefault(id(target.moments), []).append((target, slot.ids))
    if not readers:
        return l2(group, evidence)
    consumers = [
        _Consumer([target for target, _ in mine], part, mine[0][1], group)
        for mine in readers.values()
        for part in range(mine[0][0].linear.groups)
    ]
    prices = _prices(consumers, evidence)
    alive = np.ones(len(group), bool)
    order: list[int] = []
    while alive.any():
        left = np.flatnonzero(alive)
        costs = sum(price * consumer.costs(left) for price, consumer in zip(prices, consumers, strict=True))
        going = left[np.argsort(costs, kind="stable")[: max(1, len(group) // STEPS)]]
        for consumer in consumers:
            consumer.remove(going)
        alive[going] = False
        order.extend(int(unit) for unit in going)
    return np.array([*order, *np.flatnonzero(alive)], dtype=np.int64)


def _prices(consumers: Sequence[_Consumer], evidence: Evidence) -> list[float]:
    """Of an error of each consumer's output; relative to that output's energy where no gradient tells of any."""
    if len(consumers) == 1:
        return [1.0]
    found = [sum(evidence.curvature.get(name, 0.0) for name in consumer.outputs) for consumer in consumers]
    return found if any(found) else [1 / consumer.energy for consumer in consumers]


class _Consumer:
    """The linear maps of one weight that read the group's units, or one part of a convolution in groups.

    Its weights (d, m) and inverse Hessian (d, d) as units go; of the columns that are left alone.
    """

    def __init__(self, targets: Sequence[Target], part: int, ids: Array, group: Group) -> None:
        self.outputs = [target.linear.output for target in targets]
        moments = targets[0].moments
        gram = moments.gram[part].astype(np.float64)
        hessian = gram + (DAMPING * np.trace(gram) / len(gram) + 1e-12) * np.eye(len(gram))
        self.inverse = np.linalg.inv(hessian)
        self.weight = self.inverse @ moments.cross[part].astype(np.float64)
        self.energy = max(float((self.weight * moments.cross[part]).sum()), 1e-30)
        taps = len(gram) // len(ids)
        channels = [np.flatnonzero(ids == unit) for unit in group.units]
        self.columns = [(c[:, None] * taps + np.arange(taps)).reshape(-1) for c in channels]
        self.place = np.arange(len(gram))
        """Of a column among those that are left."""

    def costs(self, units: Array) -> Array:
        """Cost rho of every unit in ``units``, (U,)."""
        found = np.zeros(len(units))
        sizes = np.array([len(self.columns[unit]) for unit in units])
        for size in np.unique(sizes[sizes > 0]):
            alike = np.flatnonzero(sizes == size)
            rows = self.place[np.stack([self.columns[units[i]] for i in alike])]  # (U, size)
            weight = self.weight[rows]
            block = self.inverse[rows[:, :, None], rows[:, None, :]]
            found[alike] = (weight * np.linalg.solve(block, weight)).sum((1, 2))
        return found

    def remove(self, units: Array) -> None:
        """Cut some units at once and let the rest make up for them."""
        columns = self.place[np.concatenate([self.columns[unit] for unit in units])]
        if not len(columns):
            return
        left = np.delete(np.arange(len(self.inverse)), columns)
        rows = self.inverse[columns]
        moved = np.linalg.solve(rows[:, columns], np.hstack([self.weight[columns], rows[:, left]]))
        outputs = self.weight.shape[1]
        self.weight = self.weight[left] - rows[:, left].T @ moved[:, :outputs]
        self.inverse = self.inverse[np.ix_(left, left)] - rows[:, left].T @ moved[:, outputs:]
        self.place = self.place - np.searchsorted(np.sort(columns), self.place)
