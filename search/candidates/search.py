"""From what can be turned to repaired candidates: orders of removal, sensitivities, allocation, repair."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from search.allocate.base import Allocator, Problem
from search.allocate.latencies import fastest_searched_s, named_speedups, near_the_goal, per_target
from search.allocate.price import Pricer
from search.allocate.refine import refine
from search.allocate.strategies import RULES
from search.criteria import CRITERIA
from search.criteria.base import Evidence
from search.graph.ir import Array, Graph
from search.graph.run.execute import samples_at_once
from search.input.division import Splits
from search.judge.accuracy import divergence
from search.memo import Units
from search.repair.blockwise import BlockRepairer
from search.repair.least_squares import Repairer
from search.space.options import Options
from search.space.plan import (
    Candidate,
    Knobs,
    Plan,
    PlanKey,
    Setting,
    blocks_of,
    named,
    plan_key,
    widths_of,
    zeros_of,
)
from search.space.structures.channel import interpolate, measured_widths
from search.space.written import written
from search.survive import Survival
from search.wire.progress import Progress, Stopped
from search.wire.request import JobSpec

SENSITIVITY_SAMPLES = 256
BATCH = 128
CHILDREN_PER_POINT, CHILDREN_TO_TRAIN, CHILDREN_PER_SPEED = 2, 12, 24
"""Most children of the local search per point of the front that is asked for; several targets share them. More of them where
minutes of training follow, which are lost on a candidate that another of the same latency beats before it is trained, and at
least so many per speed-up that the client names: about 2x those of a ResNet-20 still improved after the sixtieth."""
TO_MEASURE = 0.75
"""Share of the deadline that orders of removal leave for what comes after; groups without one are ordered by magnitude."""
TO_REPAIR = 0.5
"""Share of the deadline that sensitivities leave for candidates."""
TO_FINISH, MOST_KEPT = 0.25, 0.75
"""Share of the deadline that the search leaves for files and their judgement; the most that it leaves for these and training."""
DECIDED_AFTER = 5
"""Candidates after which the criterion that won most often is the only one left in the race."""
FALLBACK = "l2"
"""Criterion that needs the weights only."""
_DIVERGENCE = "__divergence__"

Sensitivities = Mapping[str, Mapping[Setting, float]]
"""Knob to the divergence of the network when it alone is set, for the settings that were measured."""


class Search:
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
        self.dense = self._outputs(knobs.graph, {}, len(splits.search))
        self._wins: list[str] = []
        self.orders = self._orders()

    def _orders(self) -> dict[str, dict[str, Array]]:
        """Criterion to an order of removal for every group; where one fails for a group, by magnitude, and then as they come."""
        wanted = self.spec.search.criterion
        criteria = ("obs", FALLBACK) if wanted == "auto" else (wanted,)
        found = {name: self._order(name) for name in self.progress.each(criteria, "criteria")}
        complete = {name: order for name, order in found.items() if order or not self.knobs.groups.prunable}
        instead = {group.id: np.arange(len(group)) for group in self.knobs.groups.prunable}
        if any(len(order) < len(instead) for order in (complete or {FALLBACK: {}}).values()):
            instead |= self._order(FALLBACK)
        return {name: instead | order for name, order in (complete or {FALLBACK: {}}).items()}

    def _order(self, criterion: str) -> dict[str, Array]:
        """Group to its order of removal; those for which the criterion fails are missing."""
        calibration = self.splits.calibration
        evidence = Evidence(
            self.knobs.graph,
            self.knobs.groups,
            self.repairer.targets,
            calibration.feeds,
            calibration.labels,
            self.spec.search.seed,
            calibration.task,
        )

        def compute() -> dict[str, Array]:
            order = {}
            for group in self.knobs.groups.prunable:
                if self.progress.late(TO_MEASURE):
                    self.progress.warn("a quarter of search.deadline_minutes was gone before all channels were ordered")
                    break
                with self.survival.without(
                    "criterion", f"{criterion} of {group.id}", "another one orders its channels"
                ):
                    order[group.id] = CRITERIA[criterion](group, evidence)
            return order

        return self.units.result(f"order-{criterion}", [], compute)

    def _outputs(self, graph: Graph, params: Mapping[str, Array], samples: int) -> list[Array]:
        feeds = {name: value[:samples] for name, value in self.splits.search.feeds.items()}
        batch = samples_at_once(self.knobs.graph, self.knobs.groups.shapes, BATCH)
        return self.repairer.stepwise.outputs(graph, params, feeds, batch=batch)

    def _divergence(self, graph: Graph, params: Mapping[str, Array], samples: int) -> float:
        dense = [value[:samples] for value in self.dense]
        return divergence(self._outputs(graph, params, samples), dense, self.splits.search.task)

    def sensitivities(self, options: Sequence[Options]) -> Sensitivities:
        """Divergence of the whole network when one knob alone is turned and its neighbours make up for it.

        Settings that fail are missing, and so are left out of every plan. So are those that there is no time for: the widths
        about the middle of every group come first, then blocks.

        Args:
            options: of every element, for each target; the union is measured.
        """
        wanted = _settings_to_measure(self.knobs, options)
        result: dict[str, dict[Setting, float]] = {}
        for knob, setting in self.progress.each(wanted, "options"):
            with self.survival.without("option", f"{knob} = {setting}"):
                result.setdefault(knob, {})[setting] = self._sensitivity({knob: setting})
            if self.progress.late(TO_REPAIR):
                self.progress.warn(
                    "half of search.deadline_minutes was gone before every option was measured; the others are left out: "
                    "give more minutes for a better front"
                )
                break
        return result

    def _sensitivity(self, plan: Plan) -> float:
        samples = min(self.knobs.looked_at(SENSITIVITY_SAMPLES), len(self.splits.search))
        criterion = next(iter(self.orders))

        def compute() -> dict[str, Array]:
            graph = self.knobs.network(plan)
            keep = self.knobs.keep(plan, self.orders[criterion], self.repairer.dense)
            params = self.repairer.compensated(keep) if widths_of(plan) else self.repairer.sparsified(zeros_of(plan))
            return {_DIVERGENCE: np.asarray(self._divergence(graph, params, samples))}

        return float(self.units.result("sensitivity", [plan, criterion], compute)[_DIVERGENCE])

    def untrained(self, plan: Plan) -> bytes:
        """The file of a plan with the dense network's weights: as fast as any candidate of that plan."""
        variant = self.knobs.variant(plan)
        keep = self.knobs.keep(plan, next(iter(self.orders.values())), variant)
        return written(self.knobs.graph, variant, keep, {})[0].model

    def candidates(self, plans: Sequence[Plan], problems: Mapping[str, Sequence[Problem]]) -> list[Candidate]:
        """Repair and measure every plan, then search around the best; the slowest first. Ends early when told to stop.

        Args:
            plans: what was allocated for the targets.
            problems: of every target, by profile id, one for each of its states; the local search serves each in turn.
        """
        found: list[Candidate] = []
        try:
            for plan in self.progress.each(plans, "candidates", reserve=TO_FINISH):
                candidate = self.candidate(plan)
                if candidate is not None:
                    found.append(candidate)
                    self._announce(candidate, problems)
            searched = () if self.spec.search.allocator in RULES else [p for mine in problems.values() for p in mine]
            children = itertools.chain.from_iterable(self._children(problem, found) for problem in searched)
            most = self._most_children() * len(searched)
            for child in self.progress.each(children, "children", total=most, reserve=TO_FINISH):
                found.append(child)
                self._announce(child, problems)
                if self.progress.late(self._kept()):
                    self.progress.warn("the search ended early, so that time is left for training and for the files")
                    break
        except Stopped:
            if not found:
                raise
            self.progress.warn(f"the search ended early, with {len(found)} of {len(plans)} candidates")
        first = next(iter(problems.values()))[0]
        return sorted(found, key=lambda candidate: -first.latency_s(candidate.plan))

    def _children(self, problem: Problem, found: Sequence[Candidate]) -> Iterator[Candidate]:
        return refine(
            problem,
            found,
            self.candidate,
            evaluations=self._most_children(),
            rng=np.random.default_rng((self.spec.search.seed, 2)),
            fastest_s=fastest_searched_s(problem, self.spec),
            goals_s=near_the_goal(problem, self.spec),
        )

    def _most_children(self) -> int:
        """Of one problem."""
        search = self.spec.search
        each = CHILDREN_TO_TRAIN if search.finetune_minutes > 0 else CHILDREN_PER_POINT
        return per_target(max(each * search.points, CHILDREN_PER_SPEED * len(named_speedups(self.spec))), self.spec)

    def _kept(self) -> float:
        """Share of the deadline that children leave alone."""
        return min(MOST_KEPT, TO_FINISH + self.spec.search.finetune_minutes / self.spec.search.deadline_minutes)

    def _announce(self, candidate: Candidate, problems: Mapping[str, Sequence[Problem]]) -> None:
        """Tell where a candidate stands. Its quality is exp(-divergence): 1 is the dense network."""
        for profile, (problem, *_) in problems.items():
            predicted_ms = 1e3 * problem.latency_s(candidate.plan)
            quality = float(np.exp(-candidate.divergence))
            self.progress.emit(type="candidate", profile=profile, predicted_latency_ms=predicted_ms, quality=quality)

    def candidate(self, plan: Plan) -> Candidate | None:
        """Repair one plan under every criterion that is still in the race; the one that moved least, None where all fail."""
        racing = list(self.orders) if len(self._wins) < DECIDED_AFTER else [max(self.orders, key=self._wins.count)]
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
            return {**params, _DIVERGENCE: np.asarray(self._divergence(variant.graph, params, len(self.splits.search)))}

        params = self.units.result("candidate", [plan, criterion], compute)
        moved = float(params.pop(_DIVERGENCE))
        return Candidate(plan, variant, keep, params, moved, criterion)

    def repaired_in_blocks(self, candidates: Sequence[Candidate], chosen: Sequence[Candidate]) -> list[Candidate]:
        """The candidates, those chosen with the weights of their blocks refitted together, as far as time allows it."""
        better: dict[PlanKey, Candidate] = {}
        try:
            for candidate in self.progress.each(chosen, "blocks"):
                with self.survival.without(
                    "repair in blocks", named(candidate.plan), "it keeps the repair of single layers"
                ):
                    better[plan_key(candidate.plan)] = self._repaired_in_blocks(candidate)
        except (Stopped, TimeoutError):
            self.progress.warn("the repair ended early; some points keep the repair of single layers")
        return [better.get(plan_key(c.plan), c) for c in candidates]

    def _repaired_in_blocks(self, candidate: Candidate) -> Candidate:
        """The candidate itself where it would move further."""

        def check() -> None:
            self.progress.check()
            if self.progress.late(TO_FINISH):
                raise TimeoutError

        def compute() -> dict[str, Array]:
            params = self._blocks.repair(candidate, check)
            moved = self._divergence(candidate.variant.graph, params, len(self.splits.search))
            return {**params, _DIVERGENCE: np.asarray(moved)}

        params = self.units.result("blocks", [candidate.plan, candidate.criterion], compute)
        moved = float(params.pop(_DIVERGENCE))
        if moved < candidate.divergence:
            return dataclasses.replace(candidate, params=params, divergence=moved)
        return candidate

    @functools.cached_property
    def _blocks(self) -> BlockRepairer:
        return BlockRepairer(self.knobs.graph, self.knobs.groups, self.splits.calibration.feeds)


def _settings_to_measure(knobs: Knobs, options: Sequence[Options]) -> list[tuple[str, Setting]]:
    """Widths, a few of each group, everything that may stand in for a block, and every level of zeros."""
    plans = [plan for target in options for of_element in target.values() for plan in of_element]
    blocks = dict.fromkeys((knob, setting) for plan in plans for knob, setting in blocks_of(plan).items())
    widths: list[list[tuple[str, Setting]]] = []
    for group in knobs.groups.prunable:
        wanted: set[int] = set()
        for target in options:
            mine = {w for of_element in target.values() for plan in of_element if (w := widths_of(plan).get(group.id))}
            wanted.update(measured_widths([len(group), *mine]))
        half = len(group) / 2
        widths.append([(group.id, width) for width in sorted(wanted, key=lambda w, half=half: (abs(w - half), w))])  # type: ignore[misc]
    first = [mine[0] for mine in widths if mine]
    zeros = dict.fromkeys((knob, s) for plan in plans for knob, s in plan.items() if isinstance(s, float))
    return [*first, *blocks, *(setting for mine in widths for setting in mine[1:]), *zeros]


def allocate(problem: Problem, budgets_s: Sequence[float], allocator: Allocator) -> list[Plan]:
    """Distinct plans along the front, slowest first."""
    plans = [problem.plan(choice) for choice in allocator(problem, budgets_s)]
    distinct = {plan_key(plan): plan for plan in plans if plan}
    return sorted(distinct.values(), key=lambda plan: -problem.latency_s(plan))


def build_problem(pricer: Pricer, options: Options, sensitivities: Sensitivities) -> Problem:
    """Options with their errors; those that save no time, or less than another of less error, are left out."""
    tables = pricer.tables(options)
    kept: dict[str, Array] = {}
    errors: dict[str, Array] = {}
    for element, plans in options.items():
        costs = np.array([_error(plan, sensitivities, pricer.full) for plan in plans])
        useful = (tables.alone(element) < 0) & np.isfinite(costs)
        kept[element] = np.flatnonzero(useful | (np.arange(len(plans)) == 0))
        errors[element] = costs[kept[element]]
    chosen = {element: [plans[k] for k in kept[element]] for element, plans in options.items()}
    return Problem(chosen, errors, pricer.latency_s, tables.at(kept))


def _error(plan: Plan, sensitivities: Sensitivities, full: Mapping[str, int]) -> float:
    """Sum over the knobs that a plan turns."""
    widths = widths_of(plan)
    channels = 0.0
    for group, width in widths.items():
        measured = {w: e for w, e in sensitivities.get(group, {}).items() if isinstance(w, int)}
        if width < full[group] and not measured:
            return float("inf")  # every setting failed
        channels += float(interpolate([width], measured, full[group])[0])
    unknown = float("inf")  # a setting that failed
    return channels + sum(sensitivities.get(k, {}).get(s, unknown) for k, s in plan.items() if not isinstance(s, int))
