"""The whole story: an ONNX file, a data set and targets in; measured fronts out."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from search.allocate.lowered import Kernels
from search.allocate.problem import allocate
from search.allocate.strategies import allocator
from search.allocate.targets import Target, explain, refuse_unreachable, target_of, why_nothing
from search.candidates.explore import Exploration, in_turns
from search.candidates.make import Maker
from search.candidates.promising import promising
from search.candidates.recovery import recovery
from search.candidates.sensitivity import sensitivities
from search.candidates.timing import problems_of, timed
from search.graph.edit.patch import file_of
from search.graph.ir import Array, Graph
from search.graph.onnx.find_samples import Found
from search.graph.onnx.read import load
from search.graph.sampling import Sampling
from search.graph.upload import Upload
from search.input.data import SYNTHETIC_SAMPLES, check, read_npz, synthetic
from search.input.division import Splits
from search.input.sample_axes import find_samples
from search.measure.stopwatch import stopwatch
from search.memo import Units, digest
from search.preparation import prepare, regime_of
from search.results import formats, output, points
from search.results.choice import missed
from search.results.finishing import Finished, finish
from search.results.untouched import untouched
from search.space.plan import Candidate, plan_key
from search.wire.progress import Progress, Stopped
from search.wire.report import Front, Report
from search.wire.request import JobSpec


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
    policy = recovery(spec, synthetic=arrays is None)
    goals = policy.goals
    splits, knobs, augmentation = prepare(spec, graph, arrays, placing, policy, progress)
    progress.stage("calibrate")
    kernels = Kernels(knobs)
    targets = [target_of(name, spec, knobs, kernels, cache_dir, progress) for name in spec.profiles]
    explain(spec, targets, knobs, progress)
    refuse_unreachable(spec, targets)
    units = _units(workdir, spec, model, splits)
    maker = Maker(knobs, splits, spec, units, progress)

    progress.stage("sensitivity")
    errors = sensitivities(maker, [options for target in targets for options in target.states])
    progress.stage("search")
    problems = {t.profile.id: problems_of(t, errors, maker, goals, cache_dir) for t in targets}
    way = allocator(spec.search.allocator, knobs, spec.search.seed)
    choices = [
        allocate(problem, goals.budgets_s(problem, beyond=policy.beyond), way)
        for mine in problems.values()
        for problem in mine
    ]
    progress.stage("recover")
    progress.part(0.0, policy.share)
    candidates = Exploration(maker, policy).candidates(in_turns(choices), problems)
    firsts = [timed(t, problems[t.profile.id][0], candidates, maker, goals, cache_dir) for t in targets]
    candidates = policy.recover(maker, candidates, firsts, augmentation, cache_dir)
    found = {plan_key(c.plan): c for c in candidates}

    progress.stage("export")
    most = goals.per_target(2 * spec.search.points)
    chosen = [promising(problem, list(found.values()), most, goals) for problem in firsts]
    wanted = {plan_key(c.plan): c for mine in chosen for c in mine}
    done = finish(wanted, knobs, splits, units, maker.survival, progress)
    maker.survival.summary()
    nothing = why_nothing(knobs, targets, maker.survival.reason())

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
        output.write(out, models, model)
        formats.write(out, models, target.profile, placing, done.splits.evaluation, progress)
        progress.step(number, len(targets), "targets")
    progress.stage(None)
    unvalidated = [target.profile.id for target in targets if target.profile.held_out_error is None]
    complete = done.complete and not progress.cut_short
    return output.report(spec, knobs, done.splits, fronts, unvalidated, progress, complete=complete)


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
    report, models = untouched(spec, graph, file_of(graph), part, regime_of(part, arrays), cache_dir, progress)
    output.write(workdir / "out", models, model)
    progress.stage(None)
    return report


def _units(workdir: Path, spec: JobSpec, model: Upload, splits: Splits) -> Units:
    """Keyed by all that a job depends on: the file, the request, every sample."""
    parts = (splits.train, splits.search, splits.judged)
    samples = [value for part in parts for value in (part.labels, *part.feeds.values())]
    return Units(workdir / "units", digest(model.data, *model.files.values(), spec.to_json(), *samples))
