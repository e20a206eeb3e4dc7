"""The fit: planted coefficients come back, families are kept apart, bad rows are refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hwprofiles.device import LatencyModel
from hwprofiles.errors import UnfitRows
from hwprofiles.fit import MeasuredNetwork, _deal, fit, held_out_error
from hwprofiles.kernels import Tiles
from hwprofiles.latency import network_latency_s
from hwprofiles.registry import load_profile
from hwprofiles.workload import GRAPH_INPUT, Workload

PLANTED = LatencyModel(
    "fitted model",
    "nhwc",
    Tiles(c_out=8, positions=6),
    paths={
        "network": {"kernels": 2e-4},
        "conv": {"macs": 4e-11, "patch_bytes": 2e-10},
        "pointwise": {"macs": 6e-11, "weight_bytes": 3e-10},
        "depthwise": {"macs": 3e-10},
    },
)


def planted_rows(networks: int, noise: float = 0.0, model: LatencyModel = PLANTED) -> list[MeasuredNetwork]:
    """Random chains of convolutions that take exactly what ``model`` says, give or take ``noise``."""
    rng = np.random.default_rng(0)
    profile = dataclasses.replace(load_profile("tpu-v5e"), latency=model, dtype="fp32")
    rows = []
    for number in range(networks):
        width, kernels = 8, []
        for layer in range(int(rng.integers(2, 7))):
            size, wider = int(rng.choice([7, 14, 28, 56])), int(rng.integers(4, 300))
            kernel = int(rng.choice([1, 3]))
            is_depthwise = rng.random() < 0.3
            kernels.append(
                Workload(
                    f"k{layer}", "conv", width, width if is_depthwise else wider, (size, size), (size, size),
                    (3, 3) if is_depthwise else (kernel, kernel), groups=width if is_depthwise else 1,
                    sources=(layer - 1 if layer else GRAPH_INPUT,),
                )
            )  # fmt: skip
            width = kernels[-1].c_out
        seconds = network_latency_s(kernels, profile) * float(np.exp(noise * rng.standard_normal()))
        rows.append(MeasuredNetwork(f"n{number}", f"family{number % 12}", tuple(kernels), seconds))
    return rows


def test_planted_coefficients_come_back() -> None:
    """Without noise the fit predicts held-out networks exactly and finds the planted rates."""
    fitted = fit(planted_rows(120), dataclasses.replace(PLANTED, paths={"network": {}}), 4.0, ridge=0.0)
    assert fitted.error.mape < 1e-6
    assert fitted.model.paths["conv"]["macs"] == pytest.approx(4e-11, rel=1e-4)
    assert fitted.model.paths["depthwise"]["macs"] == pytest.approx(3e-10, rel=1e-4)


def test_weights_that_leave_the_shared_cache_come_back() -> None:
    """Planted with the rest: the price of missed weights and the errors on networks kept aside, with the right retention only."""
    paths = {**PLANTED.paths, "network": {"kernels": 2e-4, "l3_miss_weight_bytes": 2e-9}}
    planted = dataclasses.replace(PLANTED, paths=paths, l3_retention_s=2e-3)
    rows = planted_rows(120, model=planted)
    fits = [
        fit(rows, dataclasses.replace(planted, paths={"network": {}}, l3_retention_s=retention_s), 4.0, ridge=0.0)
        for retention_s in (2e-3, np.inf)
    ]
    assert fits[0].model.paths["network"]["l3_miss_weight_bytes"] == pytest.approx(2e-9, rel=0.05)
    assert fits[0].error.mape < 0.01 < fits[1].error.mape


def test_noise_shows_in_the_held_out_error() -> None:
    """With 10 % noise the stated error is about the mean of that noise, and 90 % of rows are within the stated quantile."""
    rows = planted_rows(200, noise=0.1)
    fitted = fit(rows, dataclasses.replace(PLANTED, paths={"network": {}}), 4.0)
    assert 0.06 < fitted.error.mape < 0.11
    ratio = np.abs(np.log(fitted.held_out_s / np.array([row.latency_s for row in rows])))
    assert np.mean(ratio <= fitted.error.log_error_q90) == pytest.approx(0.9, abs=0.01)


def test_coefficients_are_never_negative() -> None:
    """Noise large enough to tempt an ordinary least squares below zero yields no negative price."""
    fitted = fit(planted_rows(40, noise=0.3), dataclasses.replace(PLANTED, paths={"network": {}}), 4.0)
    assert all(seconds >= 0 for table in fitted.model.paths.values() for seconds in table.values())


def test_families_are_never_split() -> None:
    """All networks of a family are in one fold, and the folds are of about equal size."""
    families = ["a"] * 10 + ["b"] * 5 + ["c"] * 4 + ["d"] * 1
    part = _deal(families, 2)
    assert all(
        len({fold for fold, name in zip(part, families, strict=True) if name == family}) == 1 for family in families
    )
    assert sorted(np.bincount(part)) == [10, 10]


def test_error_statistics_by_hand() -> None:
    """MAPE, rank correlation and quantile of three predictions."""
    error = held_out_error(np.array([1.1, 1.8, 4.0]), np.array([1.0, 2.0, 4.0]))
    assert (error.mape, error.spearman, error.n) == (round(0.2 / 3, 4), 1.0, 3)


def test_bad_rows_are_refused() -> None:
    """Too few networks, too few families and a latency that is no positive number each say so."""
    rows = planted_rows(30)
    with pytest.raises(UnfitRows, match="at least 20"):
        fit(rows[:10], PLANTED, 4.0)
    with pytest.raises(UnfitRows, match="families"):
        fit([dataclasses.replace(row, family="one") for row in rows], PLANTED, 4.0)
    with pytest.raises(UnfitRows, match="`n0`: latency_s is nan"):
        fit([dataclasses.replace(rows[0], latency_s=float("nan")), *rows[1:]], PLANTED, 4.0)
