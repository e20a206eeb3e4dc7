"""The demonstration: a network of its own, through the real service over HTTP, judged by a referee of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from search.wire.errors import InternalError, SecateurError
from search.wire.report import Front, Point
from search.wire.request import JobSpec, Objective, SearchOptions
from service.client import Client
from service.commands.remote import follow
from service.console import stderr

_PROFILE = "host-cpu-onnxruntime"
_SPEC = JobSpec(profiles=(_PROFILE,), objective=Objective(speedup=1.7), search=SearchOptions(points=20))
"""The most accurate network that is at least 1.7 times as fast."""
_STOP_S = 30.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the demonstration showed."""

    front: Front
    best: Point
    referee: dict[str, float]
    """``dense_accuracy, pruned_accuracy, dense_ms, pruned_ms, speedup, unseen``: see `search.demo.measure`."""


def demonstrate(out: Path) -> Outcome:
    """Train, submit, wait, download to `out`, and measure.

    Raises:
        SecateurError: a step failed; says which.
    """
    work = out / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    stderr.print("training a network on scikit-learn's handwritten digits ...")
    _script("train", str(work))
    with tempfile.TemporaryDirectory(prefix="secateur-demo-") as data_dir, _service(Path(data_dir)) as url:
        stderr.print(f"the service answers at {url}")
        front = _compress(url, work, out)
    best = next((point for point in front.points if point.id == front.best), None)
    if best is None:
        raise InternalError(f"no best point: {front.best_reason}")
    return Outcome(front, best, _script("measure", str(work), str(work / "model.onnx"), str(out / "best.onnx")))


def _compress(url: str, work: Path, out: Path) -> Front:
    with Client(url) as client:
        job = client.submit(_SPEC, work / "model.onnx", work / "data.npz")
        stderr.print(f"job {job['id']}")
        job = follow(client, job["id"])
        if job["status"] != "succeeded":
            raise InternalError(f"the job {job['status']}: {(job['error'] or {}).get('detail', 'see its events')}")
        client.download(job["id"], out, ("best.onnx", "report.json", "report.html", "front.svg"))
        return client.front(job["id"])[_PROFILE]


@contextlib.contextmanager
def _service(data_dir: Path) -> Iterator[str]:
    """The whole service on a free port, from `secateur up` to its end."""
    command = [sys.executable, "-m", "service.cli", "up", "--port", "0", "--data-dir", str(data_dir), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield _address(process)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_S)
            if process.poll() is None:
                process.kill()


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        with contextlib.suppress(ValueError):
            return str(json.loads(text)["url"])
    raise InternalError(f"`secateur up` ended with exit code {process.wait()}: {text.strip()}")


def _script(*arguments: str) -> dict[str, Any]:
    """Run the training or the measuring script; the JSON object on its last line."""
    run = subprocess.run(
        [sys.executable, "-m", "search.demo", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    if run.returncode != 0:
        reason: SecateurError = InternalError(
            f"`search.demo {arguments[0]}` failed: {run.stderr.strip().splitlines()[-1:]}"
        )
        if "ModuleNotFoundError" in run.stderr:
            reason = InternalError("the demonstration needs its extras: pip install 'secateur[demo]'")
        raise reason
    answer: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return answer
