"""Makes candidates of one dense network: a plan in, its network repaired in closed form and measured out."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np

from search.candidates.orders import Ordering
from search.criteria.base import Evidence
from search.graph.ir import Array
from search.input.division import Splits
from search.judge.accuracy import divergence
from search.judge.dense import answers
from search.memo import Units
from search.repair.least_squares import Repairer
from search.space.blocks import Variant
from search.space.groups import Keep
from search.space.plan import Candidate, Knobs, Plan, named, widths_of, zeros_of
from search.space.written import written
from search.survive import Survival
from search.wire.progress import Progress
from search.wire.request import JobSpec

DECIDED_AFTER = 5
"""Candidates after which the criterion that won most often is the only one left in the race."""
TO_RACE = 0.55
"""Share of the deadline that has to be left for a race of criteria, which takes as many repairs as there are criteria."""
DIVERGENCE = "__divergence__"
"""Among the arrays of a unit of work, beside the parameters."""


class Maker:
    """Everything that one dense network's candidates share, whatever the target."""

    def __init__(self, knobs: Knobs, splits: Splits, spec: JobSpec, units: Units, progress: Progress) -> None:
        """Calibrate: one pass of the dense network, orders of removal for every criterion."""
        self.knobs, self.splits, self.spec = knobs, splits, spec
        self.units, self.progress, self.survival = units, progress, Survival(progress)
        rng = np.random.default_rng((spec.search.seed, 1))
        blocks = knobs.blocks if "depth" in spec.constraints.structures else ()
        repairer = functools.partial(Repairer, knobs.graph, knobs.groups, splits.calibration.feeds, rng=rng)
        with self.survival.without("fit", "stand-ins of blocks", "the blocks stay"):
            self.repairer = repairer(blocks=blocks)
        if not hasattr(self, "repairer"):
            self.repairer = repairer()
        knobs.stand_ins = self.repairer.stand_ins
        self.dense = answers(knobs.graph, splits.search)
        self._wins: list[str] = []
        calibration = splits.calibration
        evidence = Evidence(
            knobs.graph,
            knobs.groups,
            self.repairer.targets,
            calibration.feeds,
            calibration.labels,
            spec.search.seed,
            calibration.task,
        )
        self.orders = Ordering(evidence, units, progress, self.survival).by(spec.search.criterion)

    def divergence(self, variant: Variant, keep: Keep, params: Mapping[str, Array], samples: int) -> float:
        """How far the file of a network of ours moved from the dense one, on the first samples of the search split."""
        some = self.splits.search.take(slice(samples))
        found = answers(self.knobs.graph, some, written(self.knobs.graph, variant, keep, params)[0].model)
        return divergence(found, [value[:samples] for value in self.dense], some.task)

    def untrained(self, plan: Plan) -> bytes:
        """The file of a plan with the dense network's weights: as fast as any candidate of that plan."""
        variant = self.knobs.variant(plan)
        keep = self.knobs.keep(plan, next(iter(self.orders.values())), variant)
        return written(self.knobs.graph, variant, keep, {})[0].model

    def candidate(self, plan: Plan) -> Candidate | None:
        """Repair one plan under every criterion that is still in the race; the one that moved least, None where all fail."""
        decided = len(self._wins) >= DECIDED_AFTER or self.progress.late(TO_RACE)
        racing = [max(self.orders, key=self._wins.count)] if decided else list(self.orders)
        tried = []
        for name in racing if widths_of(plan) else racing[:1]:
            with self.survival.without("candidate", named(plan)):
                tried.append(self._candidate(plan, name))
        best = min(tried, key=lambda c: c.divergence, default=None)
        if best is not None and len(tried) > 1:
            self._wins.append(best.criterion)
        return best

    def _candidate(self, plan: Plan, criterion: str) -> Candidate:
        variant = self.knobs.variant(plan)
        keep = self.knobs.keep(plan, self.orders[criterion], variant)

        def compute() -> dict[str, Array]:
            params = self.repairer.repair(keep, variant, zeros_of(plan))
            return {**params, DIVERGENCE: np.asarray(self.divergence(variant, keep, params, len(self.splits.search)))}

        params = self.units.result("candidate", [plan, criterion], compute)
        moved = float(params.pop(DIVERGENCE))
        return Candidate(plan, variant, keep, params, moved, criterion)
