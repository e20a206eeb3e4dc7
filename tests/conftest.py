"""Shared fixtures: strict JAX, and models and images beside the project where they are present."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("suite", deadline=None)  # how long an example takes says how busy the machine is
hypothesis.settings.load_profile("suite")

SHARED = Path(os.environ.get("SECATEUR_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture
def shared() -> Path:
    """The folder of models and data beside the project; tests that need it are marked ``shared``."""
    if not (SHARED / "models").is_dir():
        pytest.skip(f"no folder {SHARED.name} with models and images beside the project")
    return SHARED
