"""The shipped phone profiles against the published measurements they were fitted to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwprofiles.latency import guessed_s, latency_interval_s, network_latency_s
from hwprofiles.registry import load_profile
from tests.benchmarks.fit_phones import RUNTIME, SETTINGS, Setting, fit_setting
from tests.benchmarks.published_networks import family, read_rows

LATENCY = Path(__file__).parents[3] / "shared" / "latency"
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not LATENCY.is_dir(), reason="the published measurements are not beside the project"),
]


SAMPLE = [
    setting for setting in SETTINGS if setting.device == "pixel4" and setting.cores in {"1large", "1small", "gpu"}
]
"""Every kernel rule set and data type; the script makes the rest in the same way."""


@pytest.mark.parametrize("setting", SAMPLE, ids=lambda setting: setting.id)
def test_shipped_profiles_are_reproduced_by_the_script(setting: Setting) -> None:
    """Fitting again gives the held-out error that the file states, and predictions within its interval for most networks."""
    rows = read_rows(LATENCY, setting.device, setting.cores, RUNTIME, setting.dtype)
    profile = load_profile(setting.id)
    assert fit_setting(rows, setting).error == profile.held_out_error
    inside = [
        low <= row.latency_s <= high
        for row in rows
        for whole_s, guess_s in [(network_latency_s(row.workloads, profile), guessed_s(row.workloads, profile))]
        for low, high in [latency_interval_s(whole_s, profile, guess_s)]
    ]
    assert np.mean(inside) >= 0.9


def test_relatives_are_one_family() -> None:
    """Width variants and near duplicates share a family, so that none of them helps to predict another."""
    names = [
        "resnet10",
        "seresnet16",
        "preresnetbc14b",
        "mobilenetv2_wd4",
        "mobilenetv2b_w1",
        "mobilenetv3_small_w1",
        "regnetx008",
    ]
    assert [family(name) for name in names] == ["resnet"] * 3 + ["mobilenetv2"] * 2 + ["mobilenet", "regnetx"]
