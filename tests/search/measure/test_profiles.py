"""The word "measured" is earned here: calibrations of another machine, version or load are not believed as they are."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from hwprofiles.device import DeviceProfile, HeldOutError
from hwprofiles.registry import load_profile, save_profile
from search.measure import profiles
from search.measure.runtimes import identity
from search.wire.errors import InvalidProfile
from search.wire.progress import Progress

ID = "host-cpu-onnxruntime"
ERROR = HeldOutError(0.05, 0.99, 60, 0.1)


def calibration(threads: int = 1, **changes: object) -> DeviceProfile:
    """As this machine would write it."""
    fields = {
        **identity("onnxruntime", threads),
        "threads": threads,
        "calibrated": True,
        "provenance": "measured here",
        "held_out_error": ERROR,
        "anchors_s": (1e-3, 2e-3, 3e-3),
        **changes,
    }
    return dataclasses.replace(load_profile(ID), **fields)  # type: ignore[arg-type]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Threads of the calibrations that were made; anchors take as long as they took."""
    found: list[int] = []

    def calibrate(_name: str, *, threads: int, **_: object) -> DeviceProfile:
        found.append(threads)
        return calibration(threads, date="2026-02-03")

    monkeypatch.setattr("search.measure.calibrate.calibration.calibrate_host", calibrate)
    monkeypatch.setattr("search.measure.calibrate.calibration.anchors_s", lambda *_: (1e-3, 2e-3, 3e-3))
    return found


def resolved(folder: Path, *arguments: int | None, name: str = ID) -> tuple[DeviceProfile, list[str]]:
    """The profile, and what was warned of."""
    progress = Progress(None)
    return profiles.resolve(name, folder, progress, *arguments), progress.warnings


def test_a_calibration_of_this_machine_is_kept(tmp_path: Path, made: list[int]) -> None:
    """Made once; of two threads once more, and kept apart."""
    first, _ = resolved(tmp_path)
    assert resolved(tmp_path) == (first, [])
    assert first.measurable_here
    two, _ = resolved(tmp_path, 2)
    assert two.threads == 2
    assert resolved(tmp_path, 2)[0] == two
    assert resolved(tmp_path, 1)[0] == first
    assert made == [1, 2]


@pytest.mark.parametrize(
    "foreign",
    [
        {"name": "another CPU"},
        {"core_type": "x86_64, avx2"},
        {"runtime_version": "0.1"},
        {"provenance": "measured by a user"},
    ],
    ids=["cpu", "instructions", "version", "provenance"],
)
def test_a_calibration_of_another_machine_is_made_anew(
    tmp_path: Path, made: list[int], foreign: dict[str, str]
) -> None:
    """And that is said; under an id of one's own it is a model of another machine, on which nothing can be measured."""
    save_profile(calibration(**foreign), tmp_path / "profiles")
    profile, warnings = resolved(tmp_path)
    assert profile.date == "2026-02-03"
    assert any("of another machine or version" in words for words in warnings)
    save_profile(calibration(id="mine", **foreign), tmp_path / "profiles")
    profile, warnings = resolved(tmp_path, name="mine")
    assert not profile.measurable_here
    assert any("latencies are modelled" in words for words in warnings)
    assert made == [1]


def test_a_profile_that_only_says_so_is_not_measurable(tmp_path: Path, made: list[int]) -> None:
    """A data sheet with the flag set."""
    phone = dataclasses.replace(load_profile("pixel4-1large-tflite-fp32"), id="own", measurable_here=True)
    save_profile(phone, tmp_path / "profiles")
    assert not resolved(tmp_path, name="own")[0].measurable_here
    assert made == []


@pytest.mark.parametrize(("factor", "moved"), [(1.0, False), (1.05, False), (1.25, True), (0.8, True)])
def test_a_machine_that_is_slower_than_it_was_has_wider_intervals(
    tmp_path: Path, made: list[int], monkeypatch: pytest.MonkeyPatch, factor: float, *, moved: bool
) -> None:
    """By as much as the median of its anchors moved, one of which was disturbed; and it is said."""
    save_profile(calibration(), tmp_path / "profiles")
    monkeypatch.setattr(
        "search.measure.calibrate.calibration.anchors_s", lambda *_: (factor * 1e-3, factor * 2e-3, 9e-3)
    )
    profile, warnings = resolved(tmp_path)
    assert profile.held_out_error is not None
    wider = abs(math.log(factor)) if moved else 0.0
    assert profile.held_out_error.log_error_q90 == pytest.approx(0.1 + wider)
    assert any(f"takes {factor:.2f} times as long" in words for words in warnings) == moved
    assert made == []


def test_other_machines_have_the_threads_of_their_profile(tmp_path: Path) -> None:
    """One of four threads is named where others are asked for."""
    assert resolved(tmp_path, 4, name="a03s-4small-tflite-fp32")[0].threads == 4
    with pytest.raises(InvalidProfile, match="is of 4 threads"):
        resolved(tmp_path, 2, name="a03s-4small-tflite-fp32")


def test_of_another_batch_no_error_is_known(tmp_path: Path) -> None:
    """The model was fitted at batch 1."""
    phone = load_profile("pixel4-1large-tflite-fp32")
    assert resolved(tmp_path, None, 1, name=phone.id)[0] == phone
    profile, _ = resolved(tmp_path, None, 16, name=phone.id)
    assert (profile.batch, profile.held_out_error) == (16, None)
    assert "fitted at batch 1" in profile.notes[-1]
