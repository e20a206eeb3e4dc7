"""From candidates to the points of a front: cut, written, proved, judged on data that the search did not see, and timed."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from hwprofiles.device import DeviceProfile
from hwprofiles.latency import latency_interval_s
from search import pareto
from search.allocate.price import Pricer
from search.data import Part
from search.errors import InternalError
from search.evaluate.accuracy import Quality, accuracy, quality
from search.evaluate.dense import answers, understood
from search.evaluate.memory import peak_memory_bytes
from search.evaluate.proof import Proof
from search.graph.ir import Array, Graph
from search.graph.patch import file_of, patch
from search.plan import Candidate, Knobs, Plan, blocks_of
from search.prune.written import written
from search.report import BlockChange, Front, Latency, LayerChange, Point
from search.request import Constraints, JobSpec
from search.units import Units, digest


@dataclasses.dataclass(frozen=True)
class File:
    """A finished model file, whatever the target."""

    model: bytes
    sha256: str
    parity: float
    quality: Quality
    parameters: int
    peak_memory_bytes: int
    layers: tuple[LayerChange, ...]
    blocks: tuple[BlockChange, ...]


@dataclasses.dataclass(frozen=True)
class Timed:
    """What a stopwatch said of one file: median seconds, 90 % of the rounds, and the ratio of dense to this."""

    latency_s: float
    interval_s: tuple[float, float]
    speedup: float


Stopwatch = Callable[[Sequence[bytes]], list[Timed]]
"""Times files in one run, the dense one first."""


class Finisher:
    """Writes and judges files of one dense network."""

    def __init__(self, knobs: Knobs, evaluation: Part, units: Units) -> None:
        """Write and judge the dense control by the very code that judges candidates."""
        self.graph, self.groups, self.units = knobs.graph, knobs.groups, units
        self.input_shapes = knobs.input_shapes
        model = file_of(knobs.graph)
        self.dense_outputs = answers(knobs.graph, evaluation)
        self.evaluation = understood(evaluation, knobs.graph)
        self.dense = self._file(model, knobs.graph, 0.0, self._judged(self.dense_outputs), {})
        self.proof = Proof(model, knobs.graph, evaluation.file_feeds)

    def rewritten(self) -> File | None:
        """The upload with the exact rewrites that every point has, and nothing else; None where it has none."""
        patched = patch(self.graph, self.graph, {})
        if not patched.edits:
            return None
        kept = self._proved(patched.model, self.dense.model, len(patched.model))
        judged = dataclasses.replace(self.dense.quality, scores=kept["scores"])
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
                len(self.evaluation),
                digest(*(candidate.params[name] for name in sorted(candidate.params))),
            ],
            lambda: self._proved(mine.model, patch(self.graph, masked, {}).model, len(self.dense.model)),
        )
        judged = dataclasses.replace(self.dense.quality, scores=kept["scores"])
        return self._file(kept["model"].tobytes(), smaller, float(kept["parity"]), judged, candidate.plan)

    def _proved(self, model: bytes, masked: bytes, most_bytes: int) -> dict[str, Array]:
        """The file, its difference to the masked network, and what every sample scores."""
        error = self.proof.difference(model, masked)
        if not error <= self.proof.tolerance:
            allowed = f"{self.proof.tolerance:.0e}"
            raise InternalError(f"a cut network differs from its masked one by {error:.2e}, more than {allowed}")
        if len(model) > most_bytes:
            raise InternalError(f"a cut network takes {len(model)} bytes, the upload {len(self.dense.model)}")
        scores = self._judged(answers(self.graph, self.evaluation, model)).scores
        return {"model": np.frombuffer(model, np.uint8), "parity": np.asarray(error), "scores": scores}

    def _judged(self, outputs: Sequence[Array]) -> Quality:
        return quality(outputs, self.evaluation.labels, self.dense_outputs, self.evaluation.task)

    def _file(self, model: bytes, graph: Graph, error: float, judged: Quality, plan: Plan) -> File:
        memory = peak_memory_bytes(graph, self.input_shapes)
        blocks = tuple(BlockChange(block, setting) for block, setting in sorted(blocks_of(plan).items()))
        sha256 = hashlib.sha256(model).hexdigest()
        return File(model, sha256, error, judged, graph.parameter_count, memory, self._layers(graph), blocks)

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
    """
    named: list[tuple[str, Plan, File]] = [("rewrites", {}, rewritten)] if rewritten is not None else []
    order = sorted(finished, key=lambda item: pricer.latency_s(item[0].plan))
    named += [(f"p{i:02d}", candidate.plan, file) for i, (candidate, file) in enumerate(order, 1)]
    times = stopwatch([dense.model, *[file.model for _, _, file in named]]) if stopwatch is not None else None
    control = _point("dense", profile, pricer, {}, dense, dense, times[0] if times else None)
    points, models = [], {}
    for i, (name, plan, file) in enumerate(named, 1):
        point = _point(name, profile, pricer, plan, file, dense, times[i] if times else None)
        points.append(_relative(point, control))
        models[point.artifact] = file
    control = _relative(control, control)
    best_first = [control, *points]
    kept = pareto.front([p.latency_ms.value for p in best_first], [p.accuracy.value for p in best_first])
    front = [best_first[i] for i in kept if i > 0]
    best, reason = choose_best(front, control, spec)
    front = thinned(front, best, spec)
    second = points[0] if rewritten is not None else None
    shown = {point.artifact for point in (*front, *([second] if second is not None else []))}
    models = {artifact: file for artifact, file in models.items() if artifact in shown}
    models[control.artifact] = dense
    return Front(control, tuple(front), best, reason, second), models


def _point(
    name: str,
    profile: DeviceProfile,
    pricer: Pricer,
    plan: Plan,
    file: File,
    dense: File,
    timed: Timed | None,
) -> Point:
    modelled_s = pricer.latency_s(plan)
    modelled = Latency.of_seconds(modelled_s, latency_interval_s(modelled_s, profile), "modelled")
    measured = None if timed is None else Latency.of_seconds(timed.latency_s, timed.interval_s, "measured")
    macs = [sum(kernel.macs for kernel in pricer.workloads(w)) for w in (plan, {})]
    return Point(
        id=name,
        profile=profile.id,
        accuracy=accuracy(file.quality, dense.quality),
        latency_ms=measured or modelled,
        predicted_latency_ms=modelled,
        speedup=timed.speedup if timed else 1.0,
        predicted_speedup=1.0,
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


def _relative(point: Point, control: Point) -> Point:
    """Fill in the speed-ups, which need the control; a measured one is the stopwatch's own ratio."""
    priced = point.predicted_latency_ms.value  # nothing where ONNX Runtime runs all of the file as it is
    predicted = control.predicted_latency_ms.value / priced if priced else 1.0
    measured = point.latency_ms.kind == "measured"
    return dataclasses.replace(point, predicted_speedup=predicted, speedup=point.speedup if measured else predicted)


def choose_best(points: Sequence[Point], dense: Point, spec: JobSpec) -> tuple[str | None, str]:
    """Id of the point that the objective picks, or None, and the reason in words."""
    if not points:
        return None, "no point is faster than the dense model"
    objective, limit = spec.objective, spec.constraints.max_accuracy_drop
    small, too_large = _small(points, spec.constraints)
    if too_large:
        return None, too_large
    allowed = [p for p in small if limit is None or p.accuracy.delta >= -limit]
    if not allowed:
        return None, f"no point stays within the constraint of {100 * (limit or 0):g} points of accuracy"
    if objective.max_latency_ms is not None:
        return _most_accurate(
            [p for p in allowed if p.latency_ms.value <= objective.max_latency_ms],
            f"at most {objective.max_latency_ms:g} ms",
        )
    if objective.speedup is not None:
        return _most_accurate(
            [p for p in allowed if p.speedup >= objective.speedup],
            f"at least {objective.speedup:g} times as fast as dense",
        )
    drop = objective.max_accuracy_drop or 0.0
    good = [p for p in allowed if p.accuracy.delta >= -drop]
    if not good:
        least = max(allowed, key=lambda p: p.accuracy.delta)
        lost = f"{-100 * least.accuracy.delta:.2f} ({least.id})"
        return None, f"no point loses at most {100 * drop:g} points; the least is {lost}; more data helps"
    best = min(good, key=lambda p: p.latency_ms.value)
    return (
        best.id,
        f"fastest of {len(good)} points that lose at most {100 * drop:g} points of {dense.accuracy.metric} on held-out data",
    )


def thinned(front: Sequence[Point], best: str | None, spec: JobSpec) -> list[Point]:
    """The ``best``, the most accurate at every wanted speed-up, and others spread evenly up to as many as were asked for.

    Args:
        front: undominated, by ascending latency, and so by ascending accuracy.
        best: id of what the objective picked.
        spec: the request.
    """
    fast_enough = [[p for p in front if p.speedup >= speedup] for speedup in spec.search.at_speedups]
    wanted = {best, *(points[-1].id for points in fast_enough if points)}
    latencies, accuracies = [p.latency_ms.value for p in front], [p.accuracy.value for p in front]
    chosen = [i for i, point in enumerate(front) if point.id in wanted]
    return [front[i] for i in pareto.thin(latencies, spec.search.points, accuracies, chosen)]


def missed(front: Front, spec: JobSpec) -> str | None:
    """In words, the wanted speed-ups that no point of a front has; None where there are none."""
    fastest = max((point.speedup for point in front.points), default=1.0)
    speedups = ", ".join(f"{speedup:g}" for speedup in spec.search.at_speedups if speedup > fastest)
    if not speedups:
        return None
    return f"no point is {speedups} times as fast as dense on {front.dense.profile}; the fastest is {fastest:.2f} times"


def _small(points: Sequence[Point], constraints: Constraints) -> tuple[list[Point], str]:
    """Points within the limits of bytes, and in words why there are none."""
    small = list(points)
    for limit, field, what in (
        (constraints.max_bytes, "bytes", "no file is"),
        (constraints.max_memory_bytes, "peak_memory_bytes", "no point's peak memory is"),
    ):
        within = [p for p in small if limit is None or getattr(p, field) <= limit]
        if small and not within:
            return [], f"{what} at most {limit} bytes; the smallest has {min(getattr(p, field) for p in small)}"
        small = within
    return small, ""


def _most_accurate(points: Sequence[Point], condition: str) -> tuple[str | None, str]:
    if not points:
        return None, f"no point is {condition}"
    best = max(points, key=lambda p: (p.accuracy.value, -p.latency_ms.value))
    return best.id, f"most accurate of {len(points)} points that are {condition}"


def spread(
    latencies_s: Sequence[float],
    divergences: Sequence[float],
    count: int,
    goals_s: Sequence[float] = (),
    *,
    trained: bool = True,
    fastest_s: float = 0.0,
) -> list[int]:
    """Positions of the candidates worth finishing: undominated on the search split, spread over the front.

    The best one within each of ``goals_s`` is among them. Those yet to be ``trained`` are the bends of the front: training, whose
    time is short, goes to candidates that are hardly worse than slower ones, and much better than faster ones; of those within
    ``fastest_s`` only to the best.
    """
    kept = pareto.front(latencies_s, [-float(d) for d in divergences])
    if not trained:
        kept = kept[max(0, sum(latencies_s[i] <= fastest_s for i in kept) - 1) :]
    costs, moved = [latencies_s[i] for i in kept], np.array([divergences[i] for i in kept], float)
    within = [[i for i, seconds in enumerate(costs) if seconds <= goal] for goal in goals_s]
    goals = {each[-1] for each in within if each}  # ascending latency is descending divergence
    if trained:
        chosen = pareto.thin(costs, count, list(-np.log1p(moved)), goals)
    else:
        chosen = pareto.most_area(costs, list(-np.sqrt(moved)), count, goals)
    return [kept[i] for i in chosen]
