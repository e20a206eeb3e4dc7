"""From coupled channels to repaired candidates: orders of removal, sensitivities, allocation, repair."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from hwprofiles.device import DeviceProfile
from hwprofiles.rules import channel_options
from search.allocate.base import Problem, Widths
from search.allocate.knapsack import knapsack
from search.allocate.price import Pricer
from search.criteria import CRITERIA
from search.criteria.base import Evidence
from search.data import Splits
from search.evaluate.accuracy import divergence
from search.graph.execute import Engine, trainable
from search.graph.ir import Array, Graph
from search.progress import Progress, Stopped
from search.prune.groups import Groups, Keep
from search.recover.least_squares import Repairer
from search.request import JobSpec
from search.structures.channel import interpolate, keep_units, measured_widths
from search.units import Units

SENSITIVITY_SAMPLES = 256
_DIVERGENCE = "__divergence__"


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A pruned and repaired network: the units to keep, its full-sized weights, and how far it moved on the search split."""

    widths: Widths
    keep: Keep
    params: Mapping[str, Array]
    divergence: float
    criterion: str


class Search:
    """Everything that one dense network's candidates share, whatever the target."""

    def __init__(
        self, graph: Graph, groups: Groups, splits: Splits, spec: JobSpec, units: Units, progress: Progress
    ) -> None:
        """Calibrate: one pass of the dense network, orders of removal for every criterion."""
        self.graph, self.groups, self.splits, self.spec = graph, groups, splits, spec
        self.units, self.progress = units, progress
        self.engine = Engine(graph)
        self.weights = trainable(graph)
        rng = np.random.default_rng((spec.search.seed, 1))
        self.repairer = Repairer(graph, groups, splits.calibration.feeds, rng=rng)
        self.dense = self._outputs({}, len(splits.search))
        criteria = ("obs", "l2") if spec.search.criterion == "auto" else (spec.search.criterion,)
        self.orders = {name: self._order(name) for name in progress.each(criteria, "criteria")}

    def _order(self, criterion: str) -> dict[str, Array]:
        part = self.splits.calibration
        evidence = Evidence(
            self.graph, self.groups, self.repairer.targets, part.feeds, part.labels, self.spec.search.seed
        )
        return self.units.result(
            f"order-{criterion}", [], lambda: {g.id: CRITERIA[criterion](g, evidence) for g in self.groups.prunable}
        )

    def _outputs(self, params: Mapping[str, Array], samples: int) -> list[Array]:
        full = {name: params.get(name, self.graph.initializers[name]) for name in self.weights}
        return self.engine(full, {name: value[:samples] for name, value in self.splits.search.feeds.items()})

    def _divergence(self, params: Mapping[str, Array], samples: int) -> float:
        return divergence(self._outputs(params, samples), [value[:samples] for value in self.dense])

    def sensitivities(self, options: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, dict[int, float]]:
        """Divergence of the whole network when one group alone is narrowed and its readers make up for it.

        Args:
            options: widths of every group, for each target.

        Returns:
            Group id to {width: divergence}, for the union of the widths that are worth measuring.
        """
        criterion = next(iter(self.orders))
        wanted = [
            (group.id, width)
            for group in self.groups.prunable
            for width in sorted({w for target in options for w in measured_widths(target[group.id])})
        ]
        samples = min(SENSITIVITY_SAMPLES, len(self.splits.search))
        result: dict[str, dict[int, float]] = {group.id: {} for group in self.groups.prunable}
        for group, width in self.progress.each(wanted, "options"):
            result[group][width] = self._sensitivity(criterion, {group: width}, samples)
        return result

    def _sensitivity(self, criterion: str, widths: Widths, samples: int) -> float:
        def compute() -> dict[str, Array]:
            keep = keep_units(self.groups.prunable, self.orders[criterion], widths)
            return {_DIVERGENCE: np.asarray(self._divergence(self.repairer.compensated(keep), samples))}

        return float(self.units.result("sensitivity", [widths, criterion], compute)[_DIVERGENCE])

    def candidates(self, choices: Sequence[Widths]) -> list[Candidate]:
        """Repair every choice under every criterion; keep, of each, whichever moved least. Ends early when told to stop."""
        found: list[Candidate] = []
        try:
            for widths in self.progress.each(choices, "candidates", reserve=0.25):
                found.append(min((self._candidate(widths, name) for name in self.orders), key=lambda c: c.divergence))
        except Stopped:
            if not found:
                raise
            self.progress.warn(f"the search ended early, with {len(found)} of {len(choices)} candidates")
        return found

    def _candidate(self, widths: Widths, criterion: str) -> Candidate:
        keep = keep_units(self.groups.prunable, self.orders[criterion], widths)

        def compute() -> dict[str, Array]:
            params = self.repairer.repair(keep)
            return {**params, _DIVERGENCE: np.asarray(self._divergence(params, len(self.splits.search)))}

        params = self.units.result("candidate", [widths, criterion], compute)
        moved = float(params.pop(_DIVERGENCE))
        return Candidate(widths, keep, params, moved, criterion)


def options_for(groups: Groups, profile: DeviceProfile) -> dict[str, list[int]]:
    """Widths of every group on the target's grid, widest first."""
    return {group.id: channel_options(len(group), profile) for group in groups.prunable}


def allocate(
    pricer: Pricer,
    options: Mapping[str, Sequence[int]],
    sensitivities: Mapping[str, Mapping[int, float]],
    budgets_s: Sequence[float],
) -> list[Widths]:
    """Distinct choices of widths along the front, slowest first."""
    errors = {g: interpolate(o, dict(sensitivities[g]), pricer.full[g]) for g, o in options.items()}
    problem = Problem(options, errors, pricer.latency_s, lambda g, widths: pricer.change_s(g, list(options[g]), widths))
    answers = knapsack(problem, budgets_s)
    distinct = {tuple(sorted(widths.items())): widths for widths in answers if widths != pricer.full}
    return sorted(distinct.values(), key=lambda widths: -pricer.latency_s(widths))
