"""The process border: what is refused, and how soon."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from search import __main__ as border
from search.__main__ import _copy_best, _job
from search.wire.errors import FAULT_OF_OURS
from search.wire.report import Front
from tests.e2e.test_service import small_network
from tests.service.quick_child import point

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
WITHOUT_JAX = "import sys; sys.modules['jax'] = None; from search.__main__ import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.parametrize("verb", ["run", "inspect"])
@pytest.mark.parametrize(
    ("model", "data", "kind"), [(PNG, None, "invalid-model"), (small_network(), b"hello", "invalid-dataset")]
)
def test_a_bad_file_is_refused_before_jax_is_loaded(
    verb: str, model: bytes, data: bytes | None, kind: str, tmp_path: Path
) -> None:
    """Where JAX cannot be imported at all, what is no model and what is no data set are refused all the same."""
    (tmp_path / "request.json").write_text('{"schema_version": 1, "profiles": ["a100-tensorrt-fp16"]}')
    (tmp_path / "model.onnx").write_bytes(model)
    if data is not None:
        (tmp_path / "data.npz").write_bytes(data)
    command = [sys.executable, "-c", WITHOUT_JAX, verb, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 2, run.stderr
    assert json.loads((tmp_path / "error.json").read_text())["type"] == kind


def test_every_core_is_a_device_of_its_own() -> None:
    """So that training divides a batch by samples: as many devices as this process has cores, up to four."""
    code = "from search.__main__ import divide_cores; divide_cores(); import jax; print(jax.local_device_count())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(run.stdout) == min(4, len(os.sched_getaffinity(0)))


def test_every_target_has_its_best_file(tmp_path: Path) -> None:
    """Of several targets each best point has a file of its own; best.onnx is that of the first target that has one."""
    names = ("a", "b", "c")
    fronts = {name: Front(point("dense", name, 2.0), (point("p1", name, 1.0),), "p1", "") for name in names}
    for name in names:
        (tmp_path / "points" / name).mkdir(parents=True)
        (tmp_path / "points" / name / "p1.onnx").write_text(name)
    without = {"a": dataclasses.replace(fronts["a"], best=None), "b": fronts["b"], "c": fronts["c"]}
    _copy_best(without, tmp_path)
    written = {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()}
    assert written == {"best.onnx": "b", "best-b.onnx": "b", "best-c.onnx": "c"}
    alone = tmp_path / "alone"
    (alone / "points" / "c").mkdir(parents=True)
    (alone / "points" / "c" / "p1.onnx").write_text("c")
    _copy_best({"c": fronts["c"]}, alone)
    assert [path.name for path in alone.iterdir() if path.is_file()] == ["best.onnx"]


def test_a_fault_of_ours_is_said_to_be_one_and_keeps_its_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody expected: typed, without the address of an object, with its trace beside the job."""
    thing = object()

    def broken(*_: object) -> int:
        raise KeyError(f"no {thing!r} here")

    monkeypatch.setattr(border, "_inspect", broken)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    (tmp_path / "request.json").write_text('{"schema_version": 1, "profiles": ["a100-tensorrt-fp16"]}')
    (tmp_path / "model.onnx").write_bytes(small_network())
    assert _job("inspect", tmp_path, tmp_path, None) == border.REFUSED
    problem = json.loads((tmp_path / "error.json").read_text())
    assert problem["type"] == "internal"
    assert problem["detail"].startswith(FAULT_OF_OURS)
    assert "KeyError" in problem["detail"]
    assert "0x" not in problem["detail"]
    assert "in broken" in (tmp_path / "internal-error.txt").read_text()


@pytest.mark.parametrize("error", [MemoryError(), OSError("disk"), RuntimeError("RESOURCE_EXHAUSTED: Out of memory")])
def test_what_the_machine_lacks_is_no_fault_of_the_job(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It crashes, so that whoever started the process may try again or say that memory ran out."""

    def broken(*_: object) -> int:
        raise error

    monkeypatch.setattr(border, "_inspect", broken)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    (tmp_path / "request.json").write_text('{"schema_version": 1, "profiles": ["a100-tensorrt-fp16"]}')
    (tmp_path / "model.onnx").write_bytes(small_network())
    with pytest.raises(type(error)):
        _job("inspect", tmp_path, tmp_path, None)
