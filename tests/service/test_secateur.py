"""What is had from Python under the one name, with the quick child as the engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import secateur
from service.settings import Settings

from .conftest import PROFILE, plan


@pytest.fixture
def model(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A model file for the quick child, which the environment names."""
    for name, value in settings.to_env().items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "net.onnx"
    path.write_bytes(plan())
    return path


def test_compress_gives_the_report_and_writes_the_front(model: Path, tmp_path: Path) -> None:
    """The report is that of the folder."""
    report = secateur.compress(model, out=tmp_path / "out", spec=secateur.JobSpec((PROFILE,)))
    assert report == secateur.Report.from_json((tmp_path / "out" / "report.json").read_text())
    assert report.fronts[PROFILE].points
    assert list((tmp_path / "out" / "points" / PROFILE).glob("*.onnx"))


def test_inspect_gives_what_the_engine_says(model: Path) -> None:
    """For the targets that are named; one that there is not is refused before any work."""
    assert PROFILE in secateur.inspect(model, [PROFILE]).profiles
    with pytest.raises(ValueError, match="nowhere"):
        secateur.inspect(model, ["nowhere"])


def test_profiles_are_those_of_the_command() -> None:
    """Sorted by id."""
    ids = [profile.id for profile in secateur.profiles()]
    assert PROFILE in ids
    assert ids == sorted(ids)


def test_a_refusal_is_an_error_of_ours(model: Path, tmp_path: Path) -> None:
    """The words of the engine."""
    model.write_bytes(plan(refuse={"type": "invalid-model", "title": "x", "detail": "not for us", "retryable": False}))
    with pytest.raises(secateur.SecateurError, match="not for us"):
        secateur.compress(model, out=tmp_path / "out", spec=secateur.JobSpec((PROFILE,)))


def test_the_import_loads_no_engine() -> None:
    """All public names are there, and nothing heavy is."""
    code = "import sys, secateur; [getattr(secateur, name) for name in secateur.__all__]; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"jax", "onnx", "onnxruntime", "scipy", "sqlalchemy", "celery", "flask"} & set(loaded)
