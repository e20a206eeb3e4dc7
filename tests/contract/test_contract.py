"""Schemathesis with all its default checks against a live service."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.app import create_app
from service.settings import Settings
from tests.service import servers
from tests.service.conftest import QUICK_CHILD

ROOT = Path(__file__).parents[2]
_EXAMPLES = os.environ.get("SECATEUR_EXAMPLES", "10")
_CONFIG = ("--config-file", str(Path(__file__).with_name("schemathesis.toml")))
_SEED = os.environ.get("SECATEUR_SEED", "1")


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """The web server; jobs wait in its queue."""
    settings = Settings(data_dir=tmp_path / "data", cache_dir=tmp_path / "cache", child_command=QUICK_CHILD)
    with servers.web(create_app(settings), settings) as address:
        yield address


def test_generated_requests_find_no_breach(url: str, tmp_path: Path) -> None:
    """Every answer fits the document, valid requests are accepted, invalid ones refused, nothing answers 500."""
    command = [sys.executable, "-m", "schemathesis.cli", *_CONFIG, "run", f"{url}/openapi.json"]
    command += ["--max-examples", _EXAMPLES, "--seed", _SEED, "--no-color", "--suppress-health-check", "all"]
    environ = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.contract.hooks", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=3600)
    assert run.returncode == 0, run.stdout[-12000:] + run.stderr[-2000:]
    assert "Tested: 24" in run.stdout
