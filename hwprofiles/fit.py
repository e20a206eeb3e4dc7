"""Measured networks to a latency model: additive, non-negative, weighted for relative error, judged on held-out ones.

The latency of a network is a sum over its kernels, and the coefficients are seconds, so they are found by non-negative
least squares on rows divided by the measured latency: the residual of a row is then its relative error.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from hwprofiles.device import HeldOutError, LatencyModel
from hwprofiles.errors import UnfitRows
from hwprofiles.kernels import KernelRules
from hwprofiles.latency import MISSED, FeatureSums, kernel_features, network_features, pushed_out
from hwprofiles.workload import Workload

MIN_NETWORKS = 20
PASSES = 3
"""Fits of a model whose weights may leave the shared cache: how many do depends on the latency."""
_MEMORY = ("kernels", "input_bytes", "output_bytes", "cold_bytes")
_BLOCKED = (
    "kernels", "macs", "input_bytes", "output_bytes", "weight_bytes", "calls", "steps", "input_reads",
    "partial_sum_bytes",
)  # fmt: skip
_PARALLEL = ("parallel_macs", "chain", "output_bytes", "weight_bytes")
PATH_FEATURES: Mapping[KernelRules, Mapping[str, tuple[str, ...]]] = {
    "nchwc": {
        "pointwise": (*_BLOCKED, "residual_bytes", "cold_bytes"),
        "conv": (*_BLOCKED, "residual_bytes", "edge_macs"),
        "direct": ("kernels", "macs", "edge_macs", "steps", "input_reads", "output_bytes", "calls"),
        "depthwise": ("kernels", "macs", "edge_macs", "steps", "input_bytes", "output_bytes", "cold_bytes", "calls"),
        "grouped": (*_BLOCKED, "edge_macs"),
        "fallback": ("kernels", "macs", "patch_bytes", "output_bytes", "weight_bytes", "calls"),
        "fallback_depthwise": ("kernels", "macs", "patch_bytes", "output_bytes", "cold_bytes", "calls"),
        "dense": ("kernels", "macs", "weight_bytes", "input_bytes", "output_bytes"),
        "matmul": ("kernels", "macs", "input_bytes", "output_bytes"),
        "step": ("kernels", "macs"),
        "pool": (*_MEMORY, "input_reads"),
        "fallback_pool": (*_MEMORY, "input_reads"),
        "global_pool": ("kernels", "input_bytes"),
        "elementwise": (*_MEMORY, "broadcast_bytes", "activation_bytes", "transcendentals"),
        "norm": _MEMORY,
        "softmax": _MEMORY,
        "embedding": _MEMORY,
        "data_movement": ("kernels", "output_bytes"),
        "reorder_in": ("kernels", "output_bytes"),
        "reorder_out": ("kernels", "output_bytes"),
        "network": ("kernels", "l2_miss_weight_bytes", "l3_miss_weight_bytes"),
    },
    "nhwc": {  # an int8 product packs its input and scales its output back, so a narrow one is bound by its tensors
        "pointwise": ("kernels", "macs", "patch_bytes", "output_bytes", "weight_bytes", "cold_bytes"),
        "conv": ("macs", "tiles", "patch_bytes", "window_taps", "weight_bytes"),
        "depthwise": (
            "macs",
            "wide_window_macs",
            "remainder_macs",
            "output_bytes",
            "strided_bytes",
            "row_taps",
            "rows",
            "cold_bytes",
        ),
        "grouped": ("macs", "input_bytes", "output_bytes"),
        "dense": ("macs", "weight_bytes"),
        "matmul": ("macs", "tiles", "output_bytes"),
        "step": ("kernels", "macs"),
        "pool": ("input_bytes",),
        "global_pool": ("input_bytes",),
        "elementwise": ("output_bytes", "broadcast_bytes", "activation_bytes"),
        "norm": ("output_bytes", "rows"),
        "softmax": ("output_bytes",),
        "embedding": ("output_bytes",),
        "data_movement": ("output_bytes",),
        "network": ("kernels", "launches", "l2_miss_weight_bytes", "l3_miss_weight_bytes"),
    },
    "gpu": {  # as published times of single kernels have it: pools pay by the read, strides cost a depthwise kernel extra
        "pointwise": ("macs", *_PARALLEL),
        "conv": ("parallel_macs", "output_bytes", "weight_bytes"),
        "depthwise": ("macs", "strided_macs"),
        "grouped": ("parallel_macs", "chain"),
        "dense": ("macs", *_PARALLEL),
        "matmul": ("macs", *_PARALLEL),
        "step": ("macs", *_PARALLEL),
        "pool": ("input_reads",),
        "global_pool": ("input_bytes",),
        "elementwise": ("output_bytes", "broadcast_bytes", "activation_bytes"),
        "norm": ("output_bytes",),
        "softmax": ("output_bytes",),
        "embedding": ("output_bytes",),
        "data_movement": ("output_bytes",),
        "network": ("kernels", "launches"),
    },
}
"""Features that the time of each path is regressed on; those that stay zero in all rows drop out by themselves."""


@dataclasses.dataclass(frozen=True)
class MeasuredNetwork:
    """One measured row: the kernels of a network and the seconds that one inference took."""

    name: str
    family: str
    """Networks of one family are never split between fitting and judging."""
    workloads: tuple[Workload, ...]
    latency_s: float


@dataclasses.dataclass(frozen=True)
class Fit:
    """A fitted model, its error on held-out networks, and the held-out prediction of every row in seconds."""

    model: LatencyModel
    error: HeldOutError
    held_out_s: NDArray[np.float64]


def fit(
    rows: Sequence[MeasuredNetwork],
    skeleton: LatencyModel,
    bytes_per_element: float,
    *,
    folds: int = 5,
    ridge: float = 1e-4,
) -> Fit:
    """Fit the coefficients of ``skeleton``'s kernel paths to ``rows``.

    Args:
        rows: measured networks.
        skeleton: kernel rules, tiles and cache size; its coefficients are replaced.
        bytes_per_element: of weights and activations.
        folds: parts that whole families are dealt to; each part is predicted by a fit of the others.
        ridge: weight of the penalty on each feature's share of the latency; keeps near-collinear columns apart.

    Raises:
        UnfitRows: too few networks or families, or a latency that is not a positive number.
    """
    _check(rows, folds)
    regression = Regression.of(rows, skeleton, bytes_per_element, ridge=ridge)
    part = _deal([row.family for row in rows], folds)
    held_out_s = np.empty(len(rows))
    for fold in range(folds):
        aside = part == fold
        held_out_s[aside] = regression.predict_s(aside, fitted_to=~aside)
    model = dataclasses.replace(skeleton, kind="fitted model", paths=regression.paths())
    return Fit(model, held_out_error(held_out_s, regression.latency_s), held_out_s)


@dataclasses.dataclass(frozen=True)
class Regression:
    """Networks as rows of feature sums (n x features), with their measured seconds."""

    columns: tuple[tuple[str, str], ...]
    amounts: NDArray[np.float64]
    """Of weights that miss the shared cache: all, until `pushed_out` says how many."""
    latency_s: NDArray[np.float64]
    ridge: float
    l3_retention_s: float

    @classmethod
    def of(
        cls, rows: Sequence[MeasuredNetwork], model: LatencyModel, bytes_per_element: float, *, ridge: float = 1e-4
    ) -> Regression:
        """The regression of ``rows`` on the features of a model's kernel rules."""
        sums = [network_sums(row.workloads, model, bytes_per_element) for row in rows]
        columns = sorted({key for row in sums for key, amount in row.items() if amount > 0})
        amounts = np.array([[row.get(column, 0.0) for column in columns] for row in sums])
        latency_s = np.array([row.latency_s for row in rows])
        return cls(tuple(columns), amounts, latency_s, ridge, model.l3_retention_s)

    def predict_s(self, asked: NDArray[np.bool_], *, fitted_to: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Seconds of the rows ``asked`` for, by a fit to the rows ``fitted_to``."""
        coefficients = self._coefficients(fitted_to)
        return np.asarray(self._missing(self._always_s(coefficients))[asked] @ coefficients)

    def paths(self) -> dict[str, dict[str, float]]:
        """Coefficients fitted to all rows, as a profile states them."""
        return _tables(self.columns, self._coefficients(np.ones(len(self.latency_s), dtype=bool)))

    def _coefficients(self, rows: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Seconds per unit; how long a network leaves its weights alone is first measured, then as the fit has it."""
        reuse_s = self.latency_s
        for _ in range(PASSES if MISSED in self.columns else 1):
            coefficients = _solve(self._missing(reuse_s)[rows], self.latency_s[rows], self.ridge)
            reuse_s = self._always_s(coefficients)
        return coefficients

    def _missing(self, reuse_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """The amounts, when every network comes back to its weights after so many seconds."""
        if MISSED not in self.columns:
            return self.amounts
        amounts = self.amounts.copy()
        amounts[:, self.columns.index(MISSED)] *= pushed_out(reuse_s, self.l3_retention_s)
        return amounts

    def _always_s(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Seconds of every row without weights that miss the shared cache."""
        others = np.array([column != MISSED for column in self.columns])
        return np.asarray(self.amounts[:, others] @ coefficients[others])


def network_sums(workloads: Sequence[Workload], model: LatencyModel, bytes_per_element: float) -> FeatureSums:
    """Total of every fitted feature over a network."""
    sums: FeatureSums = collections.defaultdict(float)
    for workload in workloads:
        for key, amount in kernel_features(workload, model, bytes_per_element).items():
            sums[key] += amount
    for key, amount in network_features(workloads, model, bytes_per_element).items():
        sums[key] += amount
    wanted = PATH_FEATURES[model.kernels]
    return {(path, name): amount for (path, name), amount in sums.items() if name in wanted[path]}


def held_out_error(predicted_s: NDArray[np.float64], measured_s: NDArray[np.float64]) -> HeldOutError:
    """Statistics of predictions against measurements, both in seconds."""
    floor = np.maximum(predicted_s, 1e-12)
    return HeldOutError(
        mape=round(float(np.mean(np.abs(predicted_s / measured_s - 1))), 4),
        spearman=round(float(stats.spearmanr(predicted_s, measured_s).statistic), 4),
        n=len(measured_s),
        log_error_q90=round(_conformal_q90(np.abs(np.log(floor / measured_s))), 4),
    )


def _conformal_q90(errors: NDArray[np.float64]) -> float:
    """The bound that covers a new case with 90 % where it comes from the same source as these (split conformal)."""
    level = min(1.0, math.ceil(0.9 * (len(errors) + 1)) / len(errors))
    return float(np.quantile(errors, level, method="inverted_cdf"))


def _check(rows: Sequence[MeasuredNetwork], folds: int) -> None:
    families = {row.family for row in rows}
    if len(rows) < MIN_NETWORKS or len(families) < folds:
        raise UnfitRows(
            f"{len(rows)} measured networks of {len(families)} families; a fit needs at least {MIN_NETWORKS} networks "
            f"of {folds} families: measure more"
        )
    for row in rows:
        if not (np.isfinite(row.latency_s) and row.latency_s > 0):
            raise UnfitRows(f"network `{row.name}`: latency_s is {row.latency_s}; it must be a number above 0")


def _deal(families: Sequence[str], folds: int) -> NDArray[np.int64]:
    """A fold for each row: families, largest first, go to the emptiest fold."""
    sizes = collections.Counter(families)
    load = [0] * folds
    fold_of: dict[str, int] = {}
    for family, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        fold_of[family] = load.index(min(load))
        load[fold_of[family]] += size
    return np.array([fold_of[family] for family in families])


def _solve(amounts: NDArray[np.float64], latency_s: NDArray[np.float64], ridge: float) -> NDArray[np.float64]:
    """Seconds per unit; columns are scaled to their mean share first, so that the ridge treats all alike."""
    relative = amounts / latency_s[:, None]
    scale = np.sqrt(np.mean(relative**2, axis=0))
    scale[scale == 0] = np.inf
    penalty = np.sqrt(ridge * len(latency_s)) * np.eye(amounts.shape[1])
    system = np.vstack([relative / scale, penalty])
    target = np.concatenate([np.ones(len(latency_s)), np.zeros(amounts.shape[1])])
    shares, _ = optimize.nnls(system, target)
    return np.asarray(shares / scale)


def _tables(columns: Sequence[tuple[str, str]], coefficients: NDArray[np.float64]) -> dict[str, dict[str, float]]:
    tables: dict[str, dict[str, float]] = {}
    for (path, name), seconds in zip(columns, coefficients, strict=True):
        tables.setdefault(path, {})
        if seconds > 0:
            tables[path][name] = float(f"{seconds:.6g}")
    return tables
