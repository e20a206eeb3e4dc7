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


_DRIVER = """
import sys
import search.__main__ as entry
entry.divide_cores = lambda: None  # once a process
for line in sys.stdin:
    print(entry.main(["run", line.strip()]), flush=True)
"""
"""Jobs one after another in one process, which compiles equal networks once; each is a whole job all the same."""


def results(jobs: Sequence[Job], code: Path, folder: Path, *, confidence: bool) -> Iterator[Row]:
    """What every job reported and the truth; those that ``folder`` has are read.

    Args:
        jobs: in this order.
        code: a checkout to run jobs of.
        folder: results are kept here, one file a job.
        confidence: whether the code knows of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(
        [sys.executable, "-c", _DRIVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=code,
        env={**os.environ, "PYTHONPATH": str(code)},
    ) as driver:
        for job in jobs:
            path = folder / f"{job.name}.json"
            if not path.exists():
                path.write_text(json.dumps(_result(job, driver, confidence=confidence)), encoding="utf-8")
                print(f"{folder.name}: {job.name}", file=sys.stderr, flush=True)
            yield {"job": dataclasses.asdict(job), **json.loads(path.read_text(encoding="utf-8"))}


def _result(job: Job, driver: subprocess.Popen[str], *, confidence: bool) -> Row:
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
        assert driver.stdin is not None
        assert driver.stdout is not None
        driver.stdin.write(f"{folder}\n")
        driver.stdin.flush()
        if driver.stdout.readline().strip() != "0":
            error = folder / "error.json"
            return {"failed": error.read_text(encoding="utf-8") if error.exists() else "it died"}
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
