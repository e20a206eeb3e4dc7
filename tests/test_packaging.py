"""The wheel holds what the source tree holds, and works without it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("service", "search", "hwprofiles")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the tree, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [wheel] = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def test_every_file_of_the_packages_is_in_the_wheel(unpacked: Path) -> None:
    """Profiles, templates and the page's files travel with the code."""
    command = ["git", "ls-files", "--", *PACKAGES]
    tracked = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    missing = [name for name in tracked if not (unpacked / name).is_file()]
    assert tracked
    assert not missing


def test_the_wheel_works_alone(unpacked: Path, tmp_path: Path) -> None:
    """Profiles are listed and the page is served from the unpacked wheel, not from the tree."""
    script = (
        "import pathlib, secateur; secateur.Report, secateur.Client; assert len(secateur.profiles()) >= 5;"
        "assert pathlib.Path(secateur.__file__).with_name('py.typed').is_file();"
        "import hwprofiles.registry as r, service.app as a;"
        "from service.settings import Settings;"
        f"assert pathlib.Path(a.__file__).is_relative_to({str(unpacked)!r});"
        f"client = a.create_app(Settings(data_dir=pathlib.Path({str(tmp_path)!r}))).test_client();"
        "assert client.get('/').status_code == 200;"
        "print(len(r.list_profiles()))"
    )
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 5
