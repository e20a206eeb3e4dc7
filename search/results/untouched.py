"""The report on a file of which nothing is understood: the file itself, an empty front, and why."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from search.allocate.price import Pricer
from search.graph.ir import Graph
from search.input.data import Part
from search.judge.metrics.base import Quality
from search.judge.metrics.hits import AGREEMENT
from search.measure import profiles
from search.measure.stopwatch import stopwatch
from search.results import points
from search.space.plan import Knobs
from search.wire.progress import Progress
from search.wire.report import DataRegime, DataUse, Front, Report
from search.wire.request import JobSpec

NOTHING = "no node of this file is understood, so nothing of it can be pruned"


def untouched(
    spec: JobSpec, graph: Graph, model: bytes, part: Part, regime: DataRegime, cache_dir: Path, progress: Progress
) -> tuple[Report, dict[str, points.File]]:
    """Time the upload on every target of this machine, and say why there is nothing else.

    Args:
        spec: the request.
        graph: what `search.graph.onnx.carve` left of the file: no nodes.
        model: the upload.
        part: its samples.
        regime: where they come from.
        cache_dir: measurements of this machine.
        progress: is warned.

    Returns:
        The report, and files by path below the output directory.
    """
    reasons = dict.fromkeys(f"{found.operator}: {found.reason}" for found in graph.kinds.carried) if graph.kinds else {}
    progress.warn(f"{NOTHING}; {'; '.join(reasons)}")
    constants = graph.frame.constants if graph.frame is not None else {}
    parameters = sum(value.size for value in constants.values() if value.dtype.kind == "f")
    same = Quality(np.ones(len(part)), AGREEMENT)
    dense = points.File(model, hashlib.sha256(model).hexdigest(), 0.0, same, same, parameters, 0, (), ())
    pricer_of = Knobs(graph, {})
    fronts: dict[str, Front] = {}
    models: dict[str, points.File] = {}
    for name in spec.profiles:
        profile = profiles.resolve(name, cache_dir, progress, spec.threads, spec.batch)
        watch = (
            stopwatch(profile, part, graph.sampling, cache_dir / "measurements") if profile.measurable_here else None
        )
        front, files = points.build_front(profile, Pricer(pricer_of, profile), dense, None, [], spec, watch)
        fronts[profile.id] = front
        models |= files
    stage_s = {name: round(seconds, 3) for name, seconds in progress.stage_s.items()}
    report = Report(
        headline=f"{regime.capitalize()}; {NOTHING}",
        fronts=fronts,
        data=DataUse(regime, 0, 0, len(part)),
        groups=(),
        frozen=(),
        warnings=tuple(progress.warnings),
        seed=spec.search.seed,
        stage_s=stage_s,
    )
    return report, models
