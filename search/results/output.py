"""What a job leaves: the files of its fronts and its report."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path

from search.graph.upload import Upload
from search.input.division import Splits
from search.judge.dense import judged
from search.results import points
from search.space.groups import removable_parameters
from search.space.plan import Knobs
from search.wire.progress import Progress
from search.wire.report import Front, PrunableGroup, Report
from search.wire.request import JobSpec


def write(out: Path, files: Mapping[str, points.File], upload: Upload) -> None:
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


def report(
    spec: JobSpec,
    knobs: Knobs,
    splits: Splits,
    fronts: dict[str, Front],
    unvalidated: Collection[str],
    progress: Progress,
    *,
    complete: bool,
) -> Report:
    """The whole report.

    Args:
        spec: the request.
        knobs: what could be turned.
        splits: the samples.
        fronts: by profile.
        unvalidated: profiles whose latency model has no error on networks that were kept aside.
        progress: has the warnings and the time of every stage.
        complete: whether the job was not told to stop.
    """
    prunable = tuple(
        PrunableGroup(g.id, "channel", len(g), removable_parameters(g, knobs.graph.initializers), g.nodes)
        for g in knobs.groups.prunable
    )
    return Report(
        headline=_headline(splits, fronts, unvalidated),
        fronts=fronts,
        data=dataclasses.replace(splits.use(), outputs=judged(splits.evaluation, knobs.graph)),
        groups=prunable,
        frozen=knobs.groups.frozen,
        warnings=tuple(progress.warnings),
        seed=spec.search.seed,
        stage_s={name: round(seconds, 3) for name, seconds in progress.stage_s.items()},
        complete=complete,
    )


def _headline(splits: Splits, fronts: Mapping[str, Front], unvalidated: Collection[str]) -> str:
    """One sentence a target, the data regime first."""
    parts = [splits.regime.capitalize()]
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
