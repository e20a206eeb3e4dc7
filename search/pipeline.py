"""The whole story: an ONNX file, a data set and targets in; measured fronts out."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from search.allocate.base import Problem
from search.allocate.latencies import (
    WITH_MARGIN,
    fastest_searched_s,
    goal_s,
    latency_budgets,
    named_s,
    per_target,
    timed,
)
from search.allocate.lowered import Kernels
from search.allocate.strategies import allocator
from search.candidates.search import Search, Sensitivities, allocate, build_problem
from search.graph.edit.patch import file_of
from search.graph.ir import Array, Graph
from search.graph.onnx import head
from search.graph.onnx.find_samples import Found
from search.graph.onnx.read import load
from search.graph.sampling import Sampling
from search.graph.upload import Upload
from search.input.data import FEWEST_SAMPLES, SYNTHETIC_SAMPLES, Part, check, read_npz, synthetic
from search.input.division import Splits, divide, nearly_equal, without_repeats
from search.input.sample_axes import find_samples, sizes_taken
from search.judge.dense import doubt, judged, unclear, understood
from search.judge.proof import Proof
from search.judge.proved import unproved
from search.measure.stopwatch import stopwatch
from search.memo import Units, digest
from search.repair.datafree import DATA_FREE, STEPS, synthesise
from search.repair.least_squares import samples_that_fit
from search.results import points
from search.results.choice import missed
from search.results.finishing import Finished, finish
from search.results.untouched import untouched
from search.space.groups import removable_parameters
from search.space.plan import MOST_LOOKED_AT, Candidate, Knobs, Plan, PlanKey, plan_key
from search.targets import Target, explain, refuse_unreachable, target_of, why_nothing
from search.train import augment, finetune
from search.wire.progress import Progress, Stopped
from search.wire.report import DataRegime, Front, PrunableGroup, Report
from search.wire.request import JobSpec

FEW_SAMPLES = 100
"""For evaluation: their interval is ten points wide."""
PROVED_ON = 4
"""Samples on which it is tried which groups can be cut in the file."""
MOST_EVALUATION_SAMPLES = 3_000
"""When there is training, which needs samples more: an interval of about one point of accuracy."""
MISPREDICTED = 0.9
"""Part of the objective's latency at which a second candidate is kept: it still meets it where the first was priced too low."""


def compress(
    spec: JobSpec, model: Upload, data: Path | None, workdir: Path, cache_dir: Path, progress: Progress
) -> Report:
    """Prune a network for every target of the request.

    Args:
        spec: the request.
        model: the ONNX file, with its data files.
        data: an .npz file, or None for a data-free job.
        workdir: units of work are kept under ``units/``, results are written under ``out/``.
        cache_dir: calibrations and measurements of this machine, shared between jobs.
        progress: is told what happens; may ask to stop.

    Raises:
        SecateurError: bad input, or a target out of reach.
        Stopped: told to stop before there was anything to return.
    """
    progress.stage("import")
    arrays = None if data is None else read_npz(data)
    placing = find_samples(model, spec, arrays)
    graph = load(model, placing)
    if not graph.outputs:
        return _untouched(spec, graph, model, arrays, placing, workdir, cache_dir, progress)
    splits, knobs, augmentation = _prepare(spec, graph, arrays, placing, progress)
    progress.stage("calibrate")
    kernels = Kernels(knobs)
    targets = [target_of(name, spec, knobs, kernels, cache_dir, progress) for name in spec.profiles]
    explain(spec, targets, knobs, progress)
    refuse_unreachable(spec, targets)
    units = Units(
        workdir / "units",
        digest(model.data, *model.files.values(), spec.to_json(), *(v for part in _arrays(splits) for v in part)),
    )
    search = Search(knobs, splits, spec, units, progress)

    progress.stage("sensitivity")
    sensitivities = search.sensitivities([options for target in targets for options in target.states])
    progress.stage("search")
    problems = {t.profile.id: _problems(t, sensitivities, search, spec, cache_dir) for t in targets}
    way = allocator(spec.search.allocator, knobs, spec.search.seed)
    choices = [allocate(problem, latency_budgets(problem, spec), way) for mine in problems.values() for problem in mine]
    progress.stage("recover")
    if spec.search.finetune_minutes > 0:
        progress.part(0.0, finetune.REPAIR_SHARE)
    candidates = search.candidates(_distinct(choices), problems)
    firsts = [_timed(t, problems[t.profile.id][0], candidates, search, spec, cache_dir) for t in targets]
    candidates = search.repaired_in_blocks(candidates, _worth_blocks(firsts, candidates, splits.regime, spec))
    with search.survival.without("training", "of all points", "they are repaired in closed form only"):
        candidates = finetune.train(
            candidates, knobs, splits, augmentation, spec, _worth(firsts, spec), units, cache_dir, progress
        )
    found = {plan_key(c.plan): c for c in candidates}

    progress.stage("export")
    most = per_target(2 * spec.search.points, spec)
    chosen = [_promising(problem, list(found.values()), most, spec) for problem in firsts]
    wanted = {plan_key(c.plan): c for mine in chosen for c in mine}
    done = finish(wanted, knobs, splits, units, search.survival, progress)
    search.survival.summary()
    nothing = why_nothing(knobs, targets, search.survival.reason())

    progress.stage("evaluate")
    fronts: dict[str, Front] = {}
    out = workdir / "out"
    shutil.rmtree(out / "points", ignore_errors=True)  # of an attempt that ended in the middle
    for number, (target, mine) in enumerate(zip(targets, chosen, strict=True), 1):
        finished = [(c, done.files[key]) for c in mine if (key := plan_key(c.plan)) in done.files]
        front, models = _judged(target, done, finished, spec, graph.sampling, cache_dir, progress)
        if not finished:
            front = dataclasses.replace(front, best_reason=nothing)
        fronts[target.profile.id] = front
        if words := missed(front, spec):
            progress.warn(words)
        _write(out, models, model)
        progress.step(number, len(targets), "targets")
    progress.stage(None)
    return _report(spec, knobs, done.splits, targets, fronts, progress, complete=done.complete)


def _judged(
    target: Target,
    done: Finished,
    finished: Sequence[tuple[Candidate, points.File]],
    spec: JobSpec,
    sampling: Sampling,
    cache_dir: Path,
    progress: Progress,
) -> tuple[Front, dict[str, points.File]]:
    """The front of one target, timed where that can be and there is time for it."""
    judged = functools.partial(
        points.build_front,
        target.profile,
        target.pricer,
        done.finisher.dense,
        done.rewritten,
        finished,
        spec,
        crossed=done.splits.crossed,
    )
    if not (target.profile.measurable_here and done.complete):
        return judged(None)
    try:
        with progress.interruptible():
            return judged(stopwatch(target.profile, done.splits.evaluation, sampling, cache_dir / "measurements"))
    except Stopped:
        progress.warn(f"the job ended before its points were timed; latencies of {target.profile.id} are modelled")
        done.complete = False
        return judged(None)


def _prepare(
    spec: JobSpec, graph: Graph, arrays: Mapping[str, Array] | None, found: Found, progress: Progress
) -> tuple[Splits, Knobs, augment.Augmentation]:
    """Check the data against the model, couple the channels, divide the samples.

    Candidates are ranked on augmented samples: a network's answers to images that it knows by heart hide what a pruned copy lost.
    """
    rng = np.random.default_rng((spec.search.seed, 0))
    trains = spec.search.finetune_minutes > 0
    part = (
        _synthesised(graph, found, rng, progress, trains=trains)
        if arrays is None
        else _through_head(graph, check(arrays, graph, found.samples))
    )
    regime = _regime(part, arrays)
    shapes = graph.sampling.shapes({name: value.shape[1:] for name, value in part.feeds.items()})
    knobs = Knobs(graph, shapes, exclude=spec.constraints.exclude)
    failing = unproved(knobs, Proof(file_of(graph), graph, part.take(slice(PROVED_ON)).file_feeds))
    if failing:
        knobs = Knobs(graph, shapes, exclude=spec.constraints.exclude, stays=failing)
    part, repeats = without_repeats(understood(part, graph), FEWEST_SAMPLES)
    if repeats is not None:
        progress.warn(repeats)
    splits = divide(
        part,
        regime,
        rng,
        most_calibration=samples_that_fit(graph, knobs.groups.shapes),
        most_search=knobs.looked_at(MOST_LOOKED_AT),
        most_evaluation=MOST_EVALUATION_SAMPLES if trains else None,
    )
    augmentation = augment.suited(graph, splits.train, np.random.default_rng((spec.search.seed, 3)))
    splits = dataclasses.replace(splits, search=augmentation.of(splits.search, rng))
    for words in (unclear(splits.evaluation, graph), doubt(splits.evaluation, graph)):
        if words is not None:
            progress.warn(words)
    if len(splits.evaluation) < FEW_SAMPLES:
        progress.warn(f"accuracy is judged on {len(splits.evaluation)} samples only; its interval is wide")
    if near := nearly_equal(splits.evaluation, splits.train):
        progress.warn(
            f"{near} of {len(splits.evaluation)} samples for evaluation are nearly equal to some that weights are fitted to, so "
            "accuracies may flatter; leave out copies of one picture"
        )
    if graph.fixed:
        names = ", ".join(f"`{name}`" for name in sorted(graph.fixed)[:3])
        progress.warn(f"inputs with a default stay as the file has them, and points are judged at it: {names}")
    if graph.kinds is not None and graph.kinds.carried:
        named = ", ".join(dict.fromkeys(found.operator for found in graph.kinds.carried))
        progress.warn(
            f"{len(graph.kinds.carried)} nodes are run by ONNX Runtime as they are ({named}); `inspect` says why"
        )
    for frozen in knobs.groups.frozen:
        if "is an output of the model" not in frozen.reason:
            progress.warn(f"`{frozen.node}` keeps its width: {frozen.reason}")
    return splits, knobs, augmentation


def _untouched(
    spec: JobSpec,
    graph: Graph,
    model: Upload,
    arrays: Mapping[str, Array] | None,
    found: Found,
    workdir: Path,
    cache_dir: Path,
    progress: Progress,
) -> Report:
    """The job on a file of which nothing is understood: an empty front, and why."""
    rng = np.random.default_rng((spec.search.seed, 0))
    part = (
        synthetic(graph, SYNTHETIC_SAMPLES, rng, found.samples)
        if arrays is None
        else check(arrays, graph, found.samples)
    )
    report, models = untouched(spec, graph, file_of(graph), part, _regime(part, arrays), cache_dir, progress)
    _write(workdir / "out", models, model)
    progress.stage(None)
    return report


def _regime(part: Part, arrays: Mapping[str, Array] | None) -> DataRegime:
    return "data-free" if arrays is None else "unlabelled" if part.labels is None else "labelled"


def _through_head(graph: Graph, part: Part) -> Part:
    """Samples, with what the head of the file makes of them where it has one."""
    if graph.frame is None:
        return part
    return dataclasses.replace(part, feeds=head.enter(graph, part.feeds), given=part.feeds)


def _synthesised(graph: Graph, found: Found, rng: np.random.Generator, progress: Progress, *, trains: bool) -> Part:
    noise = _through_head(graph, synthetic(graph, SYNTHETIC_SAMPLES, rng, found.samples))
    if words := sizes_taken(found):
        progress.warn(words)
    steps = STEPS if trains else 0  # who gives no time for training waits for nothing
    progress.warn(DATA_FREE)
    return dataclasses.replace(noise, feeds=synthesise(graph, noise.feeds, rng, steps=steps))


def _arrays(splits: Splits) -> list[list[object]]:
    return [[part.labels, *part.feeds.values()] for part in (splits.train, splits.search, splits.judged)]


def _problems(
    target: Target, sensitivities: Sensitivities, search: Search, spec: JobSpec, cache_dir: Path
) -> list[Problem]:
    """One for each state of a target, with prices of the speed-ups that the request names, found by timing where it can be."""
    measured = _measured(target, search, cache_dir)
    found = []
    for options in target.states:
        problem = build_problem(target.pricer, options, sensitivities)
        prices_s = named_s(problem, spec)
        with search.survival.without("timing of plans", target.profile.id, "prices are those of the latency model"):
            prices_s = named_s(problem, spec, measured)
        found.append(dataclasses.replace(problem, named_s=prices_s))
    return found


def _timed(
    target: Target, problem: Problem, candidates: Sequence[Candidate], search: Search, spec: JobSpec, cache_dir: Path
) -> Problem:
    """The problem with prices of the candidates that count found by timing, where that can be."""
    measured = _measured(target, search, cache_dir)
    if measured is not None and not search.progress.stopping:
        with search.survival.without(
            "timing of candidates", target.profile.id, "prices are those of the latency model"
        ):
            return timed(problem, spec, candidates, measured)
    return problem


def _measured(target: Target, search: Search, cache_dir: Path) -> Callable[[Sequence[Plan]], list[float]] | None:
    """Plans to the measured speed-ups of their networks; None where the target is another machine."""
    if not target.profile.measurable_here:
        return None

    def measured(plans: Sequence[Plan]) -> list[float]:
        watch = stopwatch(target.profile, search.splits.search, search.knobs.graph.sampling, cache_dir / "measurements")
        files = [file_of(search.knobs.graph), *map(search.untrained, plans)]
        return [found.speedup for found in watch(files)[1:]]

    return measured


def _distinct(choices: Sequence[Sequence[Plan]]) -> list[Plan]:
    """Every plan once, in an order that leaves a spread front wherever the search ends.

    Of each target first the plan in the middle of its front, then those in the middle of both halves, and so on; the targets take
    turns.
    """
    turns = itertools.zip_longest(*([mine[i] for i in _halving(len(mine))] for mine in choices))
    return list({plan_key(plan): plan for turn in turns for plan in turn if plan is not None}.values())


def _halving(count: int) -> list[int]:
    """Positions 0 to count - 1: the middle one, the middles of both halves, the middles of the four quarters, and so on."""
    found, spans = [], [(0, count)]
    for begin, end in spans:  # grows while it is read
        if begin < end:
            middle = (begin + end) // 2
            found.append(middle)
            spans += [(begin, middle), (middle + 1, end)]
    return found


def _worth_blocks(
    problems: Sequence[Problem], candidates: Sequence[Candidate], regime: DataRegime, spec: JobSpec
) -> list[Candidate]:
    """Of every target and each latency that the request names, the candidate that moved least within it.

    Prices of speed-ups have a margin: there it is the best one without it as well, which may have the speed-up once it is
    finished. A repair block by block takes up to two minutes, so it is for the points that the client looks at. None are worth it
    where they are trained, which does more, or where there are synthetic samples only, on which it is unproved.
    """
    if spec.search.finetune_minutes > 0 or regime == "data-free":
        return []
    found: dict[PlanKey, Candidate] = {}
    for problem in problems:
        for most_s in _wanted_s(problem, spec, 1 / WITH_MARGIN, 1.0):
            within = [c for c in candidates if problem.latency_s(c.plan) <= most_s]
            if within:
                best = min(within, key=lambda c: c.divergence)
                found[plan_key(best.plan)] = best
    return list(found.values())


def _promising(
    problem: Problem, candidates: Sequence[Candidate], most: int, spec: JobSpec, *, trained: bool = True
) -> list[Candidate]:
    """Candidates that a target may put on its front, those near the latencies that the request names among them."""
    latencies = [problem.latency_s(c.plan) for c in candidates]
    goal = goal_s(spec, problem.latency_s({}))
    goals = _wanted_s(problem, spec, *((1 / WITH_MARGIN, 1.0) if trained else (1.0,)))
    goals += [MISPREDICTED * goal] if goal else []
    moved = [c.divergence for c in candidates]
    fastest_s = fastest_searched_s(problem, spec)
    chosen = points.spread(latencies, moved, most, goals, trained=trained, fastest_s=fastest_s)
    return [candidates[i] for i in chosen]


def _wanted_s(problem: Problem, spec: JobSpec, *shares: float) -> list[float]:
    """The objective's latency in seconds, if it has one, and those shares of the price of each speed-up that is named."""
    goal = goal_s(spec, problem.latency_s({}))
    return [*([goal] if goal else []), *(share * named_s for named_s in problem.named_s for share in shares)]


def _worth(problems: Sequence[Problem], spec: JobSpec) -> finetune.Select:
    """Candidates that some target would put on its front, in the order given."""

    def select(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
        kept = {id(c) for problem in problems for c in _promising(problem, candidates, count, spec, trained=False)}
        return [c for c in candidates if id(c) in kept]

    return select


def _write(out: Path, files: Mapping[str, points.File], upload: Upload) -> None:
    """Every file of a front; where the upload keeps weights beside it, so do they."""
    for name, file in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.stem == "dense":
            path.write_bytes(upload.data)
            for location, content in upload.files.items():
                (path.parent / location).parent.mkdir(parents=True, exist_ok=True)
                (path.parent / location).write_bytes(content)
            continue
        model, data = upload.packed(file.model, f"{path.name}.data")
        path.write_bytes(model)
        if data is not None:
            path.with_name(f"{path.name}.data").write_bytes(data)


def _report(
    spec: JobSpec,
    knobs: Knobs,
    splits: Splits,
    targets: Sequence[Target],
    fronts: dict[str, Front],
    progress: Progress,
    *,
    complete: bool,
) -> Report:
    prunable = tuple(
        PrunableGroup(g.id, "channel", len(g), removable_parameters(g, knobs.graph.initializers), g.nodes)
        for g in knobs.groups.prunable
    )
    return Report(
        headline=_headline(splits, targets, fronts),
        fronts=fronts,
        data=dataclasses.replace(splits.use(), outputs=judged(splits.evaluation, knobs.graph)),
        groups=prunable,
        frozen=knobs.groups.frozen,
        warnings=tuple(progress.warnings),
        seed=spec.search.seed,
        stage_s={name: round(seconds, 3) for name, seconds in progress.stage_s.items()},
        complete=complete,
    )


def _headline(splits: Splits, targets: Sequence[Target], fronts: Mapping[str, Front]) -> str:
    """One sentence a target, the data regime first."""
    parts = [splits.regime.capitalize()]
    unvalidated = {target.profile.id for target in targets if target.profile.held_out_error is None}
    for name, front in fronts.items():
        best = next((p for p in front.points if p.id == front.best), None)
        if best is None:
            parts.append(f"{name}: {len(front.points)} points, none meets the objective ({front.best_reason})")
            continue
        change = best.accuracy
        doubt = ", not validated" if best.latency_ms.kind == "modelled" and name in unvalidated else ""
        faster = f"{best.speedup:.2f} times as fast ({best.latency_ms.kind}{doubt})"
        unsure = ", likely within the limit but not sure" if front.best_is == "likeliest" else ""
        parts.append(
            f"{name}: {faster} at {100 * change.delta:+.2f} points of {change.metric} "
            f"(95 % interval {100 * change.delta_low:+.2f} to {100 * change.delta_high:+.2f}, n = {change.n}{unsure})"
        )
    return "; ".join(parts)
