"""Timing of finished files on this machine, remembered by file: the same bytes keep the same measurement.

So a job that is resumed, or asked for again, reports what was measured the first time, and gives the same points.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort

from hwprofiles.device import DeviceProfile
from search.data import Part
from search.evaluate.benchmark import Timing, measure_interleaved
from search.graph.sampling import Sampling
from search.points import Stopwatch, Timed

ROUNDS = 40


def stopwatch(profile: DeviceProfile, samples: Part, sampling: Sampling, folder: Path) -> Stopwatch:
    """Time files in ONNX Runtime at the profile's batch size and threads, all of them interleaved with the dense one."""
    feeds = sampling.at_once(samples.file_feeds, profile.batch)

    def run(models: Sequence[bytes]) -> list[Timed]:
        names = [hashlib.sha256(model).hexdigest() for model in models]
        path = folder / f"{names[0][:32]}-{profile.id}-{profile.threads}-{ort.__version__}.json"
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        missing = [i for i, name in enumerate(names) if i > 0 and name not in known]
        if missing or names[0] not in known:
            chosen = [0, *missing]
            timings = measure_interleaved([models[i] for i in chosen], feeds, rounds=ROUNDS, threads=profile.threads)
            fresh = {names[i]: _row(timing) for i, timing in zip(chosen, timings, strict=True)}
            known = {**fresh, **known}
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(known), encoding="utf-8")
        dense_s = known[names[0]]["median_s"]
        return [_timed(known[name], dense_s) for name in names]

    return run


def _row(timing: Timing) -> dict[str, float]:
    return {
        "median_s": timing.median_s,
        "ratio": timing.ratio,
        "ratio_low": timing.ratio_low,
        "ratio_high": timing.ratio_high,
        "spread_low": timing.low_s / timing.median_s,
        "spread_high": timing.high_s / timing.median_s,
    }


def _timed(row: dict[str, float], dense_s: float) -> Timed:
    """Ratios are what was measured well; latencies are ratios times the dense model's median of the first run."""
    latency_s = dense_s * row["ratio"]
    interval_s = (latency_s * min(1.0, row["spread_low"]), latency_s * max(1.0, row["spread_high"]))
    return Timed(latency_s, interval_s, 1 / row["ratio"])
