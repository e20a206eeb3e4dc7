"""From candidates to the points of a front: cut, written, proved, judged on data that the search did not see, and timed."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np

from hwprofiles.device import DeviceProfile
from hwprofiles.latency import UNVALIDATED_FACTOR, latency_interval_s
from search.allocate import pareto
from search.allocate.price import Pricer
from search.graph.edit.patch import file_of, patch
from search.graph.ir import Array, Graph
from search.input.data import Part
from search.input.division import folds
from search.judge.accuracy import accuracy, quality
from search.judge.dense import answers, understood
from search.judge.memory import peak_memory_bytes
from search.judge.metrics.base import Quality
from search.judge.proof import Proof
from search.measure.stopwatch import ROUNDS, Stopwatch, Timed
from search.memo import Units, digest
from search.results.choice import choose_best, thinned
from search.space.plan import Candidate, Knobs, Plan, blocks_of
from search.space.written import written
from search.wire.errors import InternalError
from search.wire.report import BlockChange, Conditions, Front, Latency, LayerChange, Point
from search.wire.request import JobSpec


@dataclasses.dataclass(frozen=True)
class File:
    """A finished model file, whatever the target."""

    model: bytes
    sha256: str
    parity: float
    selection: Quality
    """On the samples that the best point is chosen on."""
    evaluation: Quality
    """On those that tell how good it is."""
    parameters: int
    peak_memory_bytes: int
    layers: tuple[LayerChange, ...]
    blocks: tuple[BlockChange, ...]


Z90 = 1.645
"""Half-width of a normal distribution's 90 % interval, in standard deviations. Errors of two networks of one family are half in
common, so a ratio of two latencies errs about as much as each of them."""
FEWEST_TO_SHRINK = 4
"""Points whose spread says anything."""


class Finisher:
    """Writes and judges files of one dense network."""

    def __init__(self, knobs: Knobs, judged: Part, selected: int, units: Units) -> None:
        """Write and judge the dense control by the very code that judges candidates.

        Args:
            knobs: the network.
            judged: samples of the selection and of the evaluation.
            selected: how many of them, the first ones, are for the selection; 0: all are for both.
            units: what is kept.
        """
        self.graph, self.groups, self.units = knobs.graph, knobs.groups, units
        self.input_shapes, self.selected = knobs.input_shapes, selected
        model = file_of(knobs.graph)
        self.dense_outputs = answers(knobs.graph, judged)
        self.judged = understood(judged, knobs.graph)
        self.quality = self._judged(self.dense_outputs)
        self.dense = self._file(model, knobs.graph, 0.0, self.quality, {})
        self.proof = Proof(model, knobs.graph, judged.file_feeds)

    def rewritten(self) -> File | None:
        """The upload with the exact rewrites that every point has, and nothing else; None where it has none."""
        patched = patch(self.graph, self.graph, {})
        if not patched.edits:
            return None
        kept = self._proved(patched.model, self.dense.model, len(patched.model))
        judged = dataclasses.replace(self.quality, scores=kept["scores"])
        return self._file(patched.model, self.graph, float(kept["parity"]), judged, {})

    def finish(self, candidate: Candidate) -> File:
        """Cut a candidate, write it, and prove in ONNX Runtime that it equals the masked network.

        Raises:
            InternalError: the cut network does not compute what the masked one computes, or is larger than the upload.
        """
        masked = candidate.variant.graph.with_initializers(candidate.params)
        mine, smaller = written(self.graph, candidate.variant, candidate.keep, candidate.params)
        kept = self.units.result(
            "file",
            [
                candidate.plan,
                len(self.judged),
                digest(*(candidate.params[name] for name in sorted(candidate.params))),
            ],
            lambda: self._proved(mine.model, patch(self.graph, masked, {}).model, len(self.dense.model)),
        )
        judged = dataclasses.replace(self.quality, scores=kept["scores"])
        return self._file(kept["model"].tobytes(), smaller, float(kept["parity"]), judged, candidate.plan)

    def _proved(self, model: bytes, masked: bytes, most_bytes: int) -> dict[str, Array]:
        """The file, its difference to the masked network, and what every sample scores."""
        error = self.proof.difference(model, masked)
        if not error <= self.proof.tolerance and not error <= (allowed := self.proof.allowed(masked)):
            raise InternalError(f"a cut network differs from its masked one by {error:.2e}, more than {allowed:.0e}")
        if len(model) > most_bytes:
            raise InternalError(f"a cut network takes {len(model)} bytes, the upload {len(self.dense.model)}")
        scores = self._judged(answers(self.graph, self.judged, model)).scores
        return {"model": np.frombuffer(model, np.uint8), "parity": np.asarray(error), "scores": scores}

    def _judged(self, outputs: Sequence[Array]) -> Quality:
        return quality(outputs, self.judged.labels, self.dense_outputs, self.judged.task)

    def _file(self, model: bytes, graph: Graph, error: float, judged: Quality, plan: Plan) -> File:
        memory = peak_memory_bytes(graph, self.input_shapes)
        blocks = tuple(BlockChange(block, setting) for block, setting in sorted(blocks_of(plan).items()))
        sha256 = hashlib.sha256(model).hexdigest()
        parts = (judged.take(slice(self.selected or None)), judged.take(slice(self.selected, None)))
        return File(model, sha256, error, *parts, graph.parameter_count, memory, self._layers(graph), blocks)

    def _layers(self, smaller: Graph) -> tuple[LayerChange, ...]:
        slots = {
            (slot.node, slot.role): slot for slot in self.groups.slots if self.graph.initializers[slot.weight].ndim > 1
        }
        layers = []
        for node in smaller.nodes:
            produced, consumed = slots.get((node.name, "produces")), slots.get((node.name, "consumes"))
            weight = node.input(1)
            if produced is None or consumed is None or weight not in self.graph.initializers:
                continue
            before, after = self.graph.initializers[weight].shape, smaller.initializers[weight].shape
            sizes = (before[produced.axis], after[produced.axis], before[consumed.axis], after[consumed.axis])
            zeros = float((smaller.initializers[weight] == 0).mean())
            layers.append(LayerChange(node.name, node.op, *sizes, zeros))
        return tuple(layers)


def build_front(
    profile: DeviceProfile,
    pricer: Pricer,
    dense: File,
    rewritten: File | None,
    finished: Sequence[tuple[Candidate, File]],
    spec: JobSpec,
    stopwatch: Stopwatch | None,
    *,
    crossed: bool = False,
) -> tuple[Front, dict[str, File]]:
    """The front of one target, and its files by path below the output directory.

    Args:
        profile: the target.
        pricer: its prices.
        dense: the upload, the first control.
        rewritten: the upload with exact rewrites alone, the second control, where there is one.
        finished: candidates and their files.
        spec: the request.
        stopwatch: times files here, where the target is this machine.
        crossed: whether the samples of the choice are those of the judgement as well.
    """
    named: list[tuple[str, Plan, File]] = [("rewrites", {}, rewritten)] if rewritten is not None else []
    order = sorted(finished, key=lambda item: pricer.latency_s(item[0].plan))
    named += [(f"p{i:02d}", candidate.plan, file) for i, (candidate, file) in enumerate(order, 1)]
    times = stopwatch([dense.model, *[file.model for _, _, file in named]]) if stopwatch is not None else None
    limit = spec.accuracy_limit
    control = _point("dense", profile, pricer, {}, dense, dense, times[0] if times else None, limit)
    points, models = [], {}
    for i, (name, plan, file) in enumerate(named, 1):
        point = _point(name, profile, pricer, plan, file, dense, times[i] if times else None, limit)
        points.append(point)
        models[point.artifact] = file
    control, *points = _relative([control, *points], profile)
    moved = [0.0, *([0.0] if rewritten is not None else []), *(candidate.divergence for candidate, _ in order)]
    all_points = [control, *points]
    kept = pareto.front([p.latency_ms.value for p in all_points], [-each for each in moved])
    front, moved = [all_points[i] for i in kept if i > 0], [moved[i] for i in kept if i > 0]
    choice = choose_best(front, control, spec)
    front = thinned(front, moved, choice.best, spec)
    files = {control.artifact: dense, **models}
    told = {point.id: _told(point, files[point.artifact], dense) for point in all_points}
    if choice.best is not None and crossed:
        told[choice.best] = _crossed(choice.best, front, control, files, spec)
    second = told[points[0].id] if rewritten is not None else None
    under = _conditions(profile, times)
    told_points = tuple(told[p.id] for p in front)
    found = Front(told["dense"], told_points, choice.best, choice.reason, second, under, choice.is_)
    return found, {point.artifact: files[point.artifact] for point in found.rows}


def _conditions(profile: DeviceProfile, times: Sequence[Timed] | None) -> Conditions:
    """How the latencies were had; dates are those of the timings, or of the profile."""
    under = Conditions(profile.name, f"{profile.runtime} {profile.runtime_version}", profile.threads, profile.batch)
    if not times:
        return dataclasses.replace(under, dates=(profile.date,))
    clock = "thread CPU time" if profile.threads == 1 else "wall time"
    return dataclasses.replace(under, clock=clock, rounds=ROUNDS, dates=tuple(sorted({each.date for each in times})))


def _told(point: Point, file: File, dense: File) -> Point:
    """The point with what samples say of it that chose nothing; how surely it keeps the limit those of the choice have said."""
    judged = accuracy(file.evaluation, dense.evaluation)
    return dataclasses.replace(point, accuracy=dataclasses.replace(judged, keeps_limit=point.accuracy.keeps_limit))


def _crossed(best: str, front: Sequence[Point], control: Point, files: Mapping[str, File], spec: JobSpec) -> Point:
    """The best point with an accuracy that the choice has not flattered, where all samples were chosen on (cross-fitting).

    On every fold of the samples it is that of the point which all others choose.
    """
    dense, chosen = files[control.artifact].selection, next(point for point in front if point.id == best)
    scores = files[chosen.artifact].selection.scores.copy()
    for fold in folds(len(scores)):
        others = np.setdiff1d(np.arange(len(scores)), fold)

        def judged(point: Point, others: Array = others) -> Point:
            mine = files[point.artifact].selection.take(others)
            return dataclasses.replace(point, accuracy=accuracy(mine, dense.take(others), spec.accuracy_limit))

        choice = choose_best([judged(point) for point in front], judged(control), spec)
        there = next((point for point in front if point.id == choice.best), chosen)
        scores[fold] = files[there.artifact].selection.scores[fold]
    found = accuracy(dataclasses.replace(files[chosen.artifact].selection, scores=scores), dense)
    return dataclasses.replace(chosen, accuracy=dataclasses.replace(found, keeps_limit=chosen.accuracy.keeps_limit))


def _point(
    name: str,
    profile: DeviceProfile,
    pricer: Pricer,
    plan: Plan,
    file: File,
    dense: File,
    timed: Timed | None,
    limit: float | None,
) -> Point:
    modelled_s = pricer.latency_s(plan)
    modelled = Latency.of_seconds(
        modelled_s, latency_interval_s(modelled_s, profile, pricer.guessed_s(plan)), "modelled"
    )
    measured = None if timed is None else Latency.of_seconds(timed.latency_s, timed.interval_s, "measured")
    macs = [sum(kernel.macs for kernel in pricer.workloads(w)) for w in (plan, {})]
    return Point(
        id=name,
        profile=profile.id,
        accuracy=accuracy(file.selection, dense.selection, limit),
        latency_ms=measured or modelled,
        predicted_latency_ms=modelled,
        speedup=timed.speedup if timed else 1.0,
        predicted_speedup=1.0,
        speedup_low=timed.speedup_interval[0] if timed else 1.0,
        speedup_high=timed.speedup_interval[1] if timed else 1.0,
        parameters=file.parameters,
        macs=macs[0],
        bytes=len(file.model),
        peak_memory_bytes=file.peak_memory_bytes,
        compression_ratio=len(dense.model) / len(file.model),
        theoretical_speedup=macs[1] / max(macs[0], 1),
        layers=file.layers,
        blocks=file.blocks,
        artifact=f"points/{profile.id}/{name}.onnx",
        sha256=file.sha256,
        parity=file.parity,
    )


def _relative(points: Sequence[Point], profile: DeviceProfile) -> list[Point]:
    """Fill in the speed-ups, which need the control, the first of the points; a measured one is the stopwatch's own ratio.

    Of modelled ones the largest are those whose price errs most in their favour. Where the model's error is known, each is drawn
    towards their mean by the part of their spread that is error (James and Stein 1961), so that those that are chosen are right.
    """
    dense = points[0].predicted_latency_ms.value
    priced = [
        point.predicted_latency_ms.value for point in points
    ]  # nothing where ONNX Runtime runs all of the file as it is
    logs = np.log([dense / each if each else 1.0 for each in priced])
    error = profile.held_out_error
    factor = UNVALIDATED_FACTOR if error is None else math.exp(error.log_error_q90)
    others = logs[1:]
    kept = 1.0
    if error is not None and len(others) >= FEWEST_TO_SHRINK and float(others.var(ddof=1)) > 0:
        kept = max(0.0, 1 - (error.log_error_q90 / Z90) ** 2 / float(others.var(ddof=1)))
    filled = []
    for i, point in enumerate(points):
        found = dataclasses.replace(point, predicted_speedup=float(np.exp(logs[i])))
        if point.latency_ms.kind == "modelled":
            centre = float(others.mean() + kept * (logs[i] - others.mean())) if i else 0.0
            half = math.log(factor) if i else 0.0
            low, value, high = (float(np.exp(centre + by)) for by in (-half, 0.0, half))
            found = dataclasses.replace(found, speedup=value, speedup_low=low, speedup_high=high)
        filled.append(found)
    return filled
