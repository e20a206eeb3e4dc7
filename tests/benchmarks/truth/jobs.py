"""Whole jobs, and the truth about each of their points on samples that no job saw."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.truth.networks import World, network, run, truth

PROFILE = "server-avx2-onnxruntime-fp32"
UNSEEN = 20_000
JOB_S = 400
Row = dict[str, Any]
OBJECTIVES: tuple[tuple[dict[str, float], float], ...] = (
    ({"max_accuracy_drop": 0.01}, 0.5),
    ({"max_accuracy_drop": 0.01}, 0.8),
    ({"max_accuracy_drop": 0.02}, 0.95),
    ({"speedup": 1.5}, 0.8),
)
"""With the confidence of the limit."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One request of the sixty."""

    seed: int
    samples: int
    objective: int

    @property
    def name(self) -> str:
        """Of its result."""
        return f"{self.seed}-{self.samples}-{self.objective}"

    @property
    def world(self) -> World:
        """Every fifth has numbers for targets."""
        return World(self.seed, values=self.seed % 5 == 4)

    @property
    def labelled(self) -> bool:
        """Every fifth has no labels."""
        return self.seed % 5 != 3


def every() -> list[Job]:
    """Sixty: five networks, three sizes of data, four objectives."""
    return [
        Job(seed, samples, goal) for seed, samples, goal in itertools.product(range(5), (300, 1000, 3000), range(4))
    ]


def results(jobs: Sequence[Job], code: Path, folder: Path, *, confidence: bool) -> Iterator[Row]:
    """What every job reported and the truth; those that ``folder`` has are read.

    Args:
        jobs: in this order.
        code: a checkout to run jobs of.
        folder: results are kept here, one file a job.
        confidence: whether the code knows of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for job in jobs:
        path = folder / f"{job.name}.json"
        if not path.exists():
            path.write_text(json.dumps(_result(job, code, confidence=confidence)), encoding="utf-8")
            print(f"{folder.name}: {job.name}", file=sys.stderr, flush=True)  # noqa: T201
        yield {"job": dataclasses.asdict(job), **json.loads(path.read_text(encoding="utf-8"))}


def _result(job: Job, code: Path, *, confidence: bool) -> Row:
    model = network(job.world)
    x, y = job.world.samples(job.samples, 100 + job.objective)  # every job has samples of its own
    objective, sure = OBJECTIVES[job.objective]
    request = {
        "schema_version": 1,
        "profiles": [PROFILE],
        "objective": objective,
        "search": {"points": 6, "seed": job.seed},
        **({"constraints": {"confidence": sure}} if confidence else {}),
    }
    folder = Path(tempfile.mkdtemp(prefix="truth-"))
    try:
        (folder / "model.onnx").write_bytes(model)
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        np.savez(folder / "data.npz", x=x, **({"y": y} if job.labelled else {}))
        command = [sys.executable, "-m", "search", "run", str(folder)]
        done = subprocess.run(
            command,
            check=False,
            cwd=code,
            timeout=JOB_S,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(code)},
        )
        if done.returncode:
            return {"failed": done.stderr[-2000:]}
        return _judged(job, json.loads((folder / "out" / "report.json").read_text(encoding="utf-8")), folder / "out")
    finally:
        shutil.rmtree(folder)


def _judged(job: Job, report: Mapping[str, Any], out: Path) -> Row:
    """Points with what was said and what is true."""
    front = report["fronts"][PROFILE]
    x, y = job.world.samples(UNSEEN, 99)
    told = y if job.labelled else None
    dense = run((out / front["dense"]["artifact"]).read_bytes(), x)
    least = truth(dense, dense, told)
    points = []
    for point in front["points"]:
        value = truth(run((out / point["artifact"]).read_bytes(), x), dense, told)
        points.append({"id": point["id"], "said": point["accuracy"], "true": value, "true_delta": value - least})
    return {
        "best": front["best"],
        "best_is": front.get("best_is"),
        "points": points,
        "dense": {"said": front["dense"]["accuracy"], "true": least},
        "warnings": report["warnings"],
    }
