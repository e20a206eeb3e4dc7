"""Timing of finished files on this machine, remembered by file: the same bytes keep the same measurement.

So a job that is resumed, or asked for again, reports what was measured the first time, and gives the same points.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hwprofiles.device import DeviceProfile
from search.graph.sampling import Sampling
from search.input.data import Part
from search.measure.benchmark import Timing, measure_interleaved
from search.measure.cpu import cpu_name, instruction_set
from search.measure.runtimes import runtime

ROUNDS = 40
"""Turns that a stopwatch gives every file."""
Stopwatch = Callable[[Sequence[bytes]], "list[Timed]"]
"""Times files in one run, the dense one first."""


@dataclasses.dataclass(frozen=True)
class Timed:
    """What a stopwatch said of one file: median seconds, 90 % of the rounds, and the ratio of dense to this."""

    latency_s: float
    interval_s: tuple[float, float]
    speedup: float
    speedup_interval: tuple[float, float] = (1.0, 1.0)
    date: str = ""


def stopwatch(profile: DeviceProfile, samples: Part, sampling: Sampling, folder: Path) -> Stopwatch:
    """Time files in the profile's runtime, at its batch size and threads, all of them interleaved with the dense one.

    Raises:
        InvalidProfile: the runtime is not installed here.
    """
    timed, feeds = runtime(profile.runtime), sampling.at_once(samples.file_feeds, profile.batch)
    here = under(profile, {name: (str(value.dtype), *value.shape) for name, value in feeds.items()})

    def run(models: Sequence[bytes]) -> list[Timed]:
        names = [hashlib.sha256(model).hexdigest() for model in models]
        path = (
            folder
            / f"{names[0][:32]}-{hashlib.sha256(json.dumps(here, sort_keys=True).encode()).hexdigest()[:16]}.json"
        )
        known = _read(path, here)
        missing = [i for i, name in enumerate(names) if i > 0 and name not in known]
        if missing or names[0] not in known:
            chosen = [0, *missing]
            timings = measure_interleaved(
                [models[i] for i in chosen], feeds, rounds=ROUNDS, threads=profile.threads, call=timed.call
            )
            fresh = {names[i]: _row(timing) for i, timing in zip(chosen, timings, strict=True)}
            known = {**fresh, **known}
            _write(path, {"under": here, "files": known})
        dense_s = known[names[0]]["median_s"]
        return [_timed(known[name], dense_s) for name in names]

    return run


def under(profile: DeviceProfile, shapes: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """All that a timing depends on beside the file: it is the key of what is remembered.

    Args:
        profile: threads and batch.
        shapes: data type and sizes of every input.
    """
    return {
        "batch": profile.batch,
        "inputs": {name: list(shape) for name, shape in sorted(shapes.items())},
        "instructions": instruction_set(),
        "machine": cpu_name(),
        "rounds": ROUNDS,
        "runtime": f"{profile.runtime} {runtime(profile.runtime).version()}",
        "threads": profile.threads,
    }


def _read(path: Path, here: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of files; nothing where it was timed under other conditions, or the file is damaged."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return dict(kept["files"]) if kept["under"] == here else {}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}


def _write(path: Path, kept: Mapping[str, Any]) -> None:
    """In one step, so that nobody reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(kept), encoding="utf-8")
    part.replace(path)


def _row(timing: Timing) -> dict[str, Any]:
    low, high = timing.speedup_interval
    return {
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "speedup_low": low,
        "speedup_high": high,
        "median_s": timing.median_s,
        "ratio": timing.ratio,
        "ratio_low": timing.ratio_low,
        "ratio_high": timing.ratio_high,
        "spread_low": timing.low_s / timing.median_s,
        "spread_high": timing.high_s / timing.median_s,
    }


def _timed(row: dict[str, Any], dense_s: float) -> Timed:
    """Ratios are what was measured well; latencies are ratios times the dense model's median of the first run."""
    latency_s = dense_s * row["ratio"]
    interval_s = (latency_s * min(1.0, row["spread_low"]), latency_s * max(1.0, row["spread_high"]))
    return Timed(latency_s, interval_s, 1 / row["ratio"], (row["speedup_low"], row["speedup_high"]), row["date"])
