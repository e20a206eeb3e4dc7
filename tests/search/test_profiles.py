"""Profiles as a job asks for them: a calibration that this release cannot read is made anew, a user's file is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwprofiles.device import DeviceProfile
from hwprofiles.registry import load_profile, save_profile
from search import profiles
from search.errors import InvalidProfile
from search.progress import Progress

HOST, PHONE = "host-cpu-onnxruntime", "pixel4-1large-tflite-fp32"


def unreadable(name: str, folder: Path) -> Path:
    """A profile with a field that no release has."""
    path = save_profile(load_profile(name), folder / "profiles")
    path.write_text("a_field_of_another_release = 1\n" + path.read_text())
    return path


def test_a_calibration_of_another_release_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of this machine is replaced, and the job says so."""
    path, progress = unreadable(HOST, tmp_path), Progress(None)

    def measured(name: str, **_: object) -> DeviceProfile:
        return load_profile(name)

    monkeypatch.setattr(profiles, "calibrate_host", measured)
    assert profiles.resolve(HOST, tmp_path, progress) == load_profile(HOST)
    assert "a_field_of_another_release" not in path.read_text()
    assert "measured anew" in progress.warnings[0]


def test_a_users_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """It is theirs to mend, so it stays, and the error names the field."""
    path = unreadable(PHONE, tmp_path)
    with pytest.raises(InvalidProfile, match="a_field_of_another_release"):
        profiles.resolve(PHONE, tmp_path, Progress(None))
    assert "a_field_of_another_release" in path.read_text()
