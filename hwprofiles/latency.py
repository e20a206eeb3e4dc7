"""Seconds of kernels and networks on a device, and the interval that the profile's validation allows."""

from __future__ import annotations

import collections
import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from hwprofiles.device import DeviceProfile, LatencyModel, Roofline
from hwprofiles.features import amounts, roofline_amounts
from hwprofiles.kernels import Floats, KernelRules, Shape, Tiles, products
from hwprofiles.layout import reorders
from hwprofiles.workload import Workload

UNVALIDATED_FACTOR = 3.0
"""Half-width, as a factor, of the interval of a model that no measurement has tested. No figure: a plain warning."""
_STAND_INS = {
    "fallback": "conv",
    "fallback_depthwise": "depthwise",
    "fallback_pool": "pool",
    "direct": "conv",
    "grouped": "conv",
    "conv": "pointwise",
    "pointwise": "conv",
    "depthwise": "conv",
    "matmul": "dense",
    "dense": "pointwise",
    "step": "dense",
    "pool": "elementwise",
    "global_pool": "pool",
    "norm": "elementwise",
    "softmax": "elementwise",
    "embedding": "elementwise",
    "data_movement": "elementwise",
    "elementwise": "pool",
}
"""The fitted path that prices one whose kernels the fit has not seen."""
GROWING = frozenset(
    {
        "macs",
        "parallel_macs",
        "steps",
        "tiles",
        "weight_bytes",
        "patch_bytes",
        "input_bytes",
        "output_bytes",
        "input_reads",
    }
)
"""Features that grow with the channels. Where a path has none of them, its multiplications come on top of its price."""
MISSED = ("network", "l3_miss_weight_bytes")
FeatureSums = dict[tuple[str, str], float]
"""(path, feature) -> total over a network."""


def workload_latency_s(
    workload: Workload, profile: DeviceProfile, *, c_in: ArrayLike | None = None, c_out: ArrayLike | None = None
) -> Floats:
    """Seconds of one kernel at each width.

    Args:
        workload: the kernel; its own widths where ``c_in`` or ``c_out`` is not given.
        profile: the device.
        c_in: input channels, any integer array.
        c_out: output channels, broadcast against ``c_in``. A depthwise or element-wise kernel takes both alike, or one.

    Returns:
        Seconds, with the broadcast shape of ``c_in`` and ``c_out``. Layout reorders between kernels are a matter of the
        whole network and are in `network_latency_s` only.

    Raises:
        ValueError: a width below 1 or one that the workload's groups do not divide.
    """
    shape = Shape.of(workload, c_in, c_out)
    if profile.latency.kind == "roofline" and profile.latency.roofline is not None:
        roofline = profile.latency.roofline
        return np.asarray(sum(times * _roofline_s(part, profile, roofline) for times, part in products(shape)))
    model, seconds = profile.latency, np.zeros(shape.c_in.shape)
    quantities = amounts(shape, model.kernels, model.tiles, profile.bytes_per_element, model.l2_bytes)
    for (path, name), amount in quantities.items():
        per_unit_s = _coefficients(model, path).get(name)
        if per_unit_s:
            seconds = seconds + per_unit_s * amount
    for (path, name), amount in quantities.items():
        if name == "macs":
            least_s = model.least_s_per_mac * amount
            seconds = np.maximum(seconds, least_s) if GROWING & set(_coefficients(model, path)) else seconds + least_s
    return np.asarray(seconds * profile.batch)


def network_latency_s(workloads: Sequence[Workload], profile: DeviceProfile) -> float:
    """Seconds of one inference: its kernels, and what it costs beyond them."""
    kernels_s = math.fsum(float(workload_latency_s(workload, profile)) for workload in workloads)
    return kernels_s + network_overhead_s(workloads, profile, kernels_s)


def network_overhead_s(workloads: Sequence[Workload], profile: DeviceProfile, kernels_s: float) -> float:
    """Seconds of one inference beyond the ``kernels_s`` of its kernels.

    Layout reorders found through ``sources``, a network's overhead, and weights that have left the shared cache meanwhile.
    """
    model = profile.latency
    if model.kind == "roofline":
        return 0.0
    extra = network_features(workloads, model, profile.bytes_per_element)
    missed = extra.pop(MISSED, 0.0)
    seconds = {key: model.paths.get(key[0], {}).get(key[1], 0.0) * amount for key, amount in extra.items()}
    overhead_s = math.fsum(seconds.values())
    gone = float(pushed_out(kernels_s + overhead_s, model.l3_retention_s))
    return overhead_s + model.paths.get(MISSED[0], {}).get(MISSED[1], 0.0) * missed * gone


def pushed_out(reuse_s: ArrayLike, retention_s: float) -> Floats:
    """Part of a network's weights that other users of a shared cache push out between two uses of them.

    Measured on a server whose other cores belong to others: chains of equal layers lose nothing up to 0.5 ms an inference
    and all from 2 ms on, whether their weights are 3 or 30 MB.
    """
    return np.clip((np.asarray(reuse_s) / retention_s - 1) / 3, 0, 1)


def latency_interval_s(latency_s: float, profile: DeviceProfile, guessed_s: float = 0.0) -> tuple[float, float]:
    """The 90 % interval of a predicted latency in seconds, from the errors on networks that the fit has not seen.

    Without such a validation it is a factor of `UNVALIDATED_FACTOR` both ways, which is a warning and no statistic. The
    seconds of kinds of kernel of which rows tell nothing lie between none, as where a fit found them free, and that factor more.
    """
    error = profile.held_out_error
    factor = UNVALIDATED_FACTOR if error is None else math.exp(error.log_error_q90)
    wide = max(factor, UNVALIDATED_FACTOR)
    guessed_s = min(guessed_s, latency_s)
    known_s = latency_s - guessed_s
    return known_s / factor, known_s * factor + guessed_s * wide


def network_features(workloads: Sequence[Workload], model: LatencyModel, bytes_per_element: float) -> FeatureSums:
    """What a network costs beyond its kernels: reorders, weights that no cache keeps, and once the start.

    All weights are counted as missed in the shared cache; `pushed_out` says how many are.
    """
    sums: FeatureSums = collections.defaultdict(float)
    sums["network", "kernels"] = 1.0
    weight_bytes = sum(workload.weights for workload in workloads) * bytes_per_element
    sums["network", "l2_miss_weight_bytes"] = max(0.0, weight_bytes - model.l2_bytes)
    if math.isfinite(model.l3_retention_s):
        sums[MISSED] = weight_bytes
    if model.kernels == "nchwc":
        for direction, elements in reorders(workloads, model.tiles):
            sums[direction, "kernels"] += 1
            sums[direction, "output_bytes"] += elements * bytes_per_element
    return sums


def kernel_features(
    workload: Workload, model: LatencyModel, bytes_per_element: float
) -> Mapping[tuple[str, str], float]:
    """What one kernel's latency depends on, at its own widths."""
    return _own_features(workload, model.kernels, model.tiles, bytes_per_element, model.l2_bytes)


@functools.lru_cache(maxsize=1 << 16)
def _own_features(
    workload: Workload, rules: KernelRules, tiles: Tiles, bytes_per_element: float, l2_bytes: float
) -> Mapping[tuple[str, str], float]:
    """Networks repeat their kernels, and a fit tries several models on the same ones."""
    quantities = amounts(Shape.of(workload), rules, tiles, bytes_per_element, l2_bytes)
    return {key: float(amount) for key, amount in quantities.items() if float(amount) != 0}


def guessed_s(workloads: Sequence[Workload], profile: DeviceProfile) -> float:
    """Seconds of an inference that are priced as something else, as the profile's rows did not tell that kind of kernel."""
    return math.fsum(
        float(workload_latency_s(w, profile))
        for w in workloads
        if any(stand_in(profile.latency, p) for p in _paths(w, profile))
    )


def guessed_paths(workloads: Sequence[Workload], profile: DeviceProfile) -> dict[str, str]:
    """Kernel paths of a network of which the profile's rows tell nothing, and the path whose price each has."""
    every = dict.fromkeys(path for workload in workloads for path in _paths(workload, profile))
    return {path: nearest for path in every if (nearest := stand_in(profile.latency, path)) is not None}


def _paths(workload: Workload, profile: DeviceProfile) -> set[str]:
    """The paths that a kernel takes; none where a roofline prices it."""
    model = profile.latency
    if model.kind == "roofline":
        return set()
    return {path for path, _ in kernel_features(workload, model, profile.bytes_per_element)} - {"network"}


def _coefficients(model: LatencyModel, path: str) -> dict[str, float]:
    """Coefficients of ``path``, or of the nearest one whose price is known: what rows did not tell is not free."""
    return model.paths.get(stand_in(model, path) or path, {})


def stand_in(model: LatencyModel, path: str) -> str | None:
    """The path that prices another of which the rows tell nothing; None where they do, and where nothing is like it."""
    nearest, seen = path, {path}
    while not model.paths.get(nearest) and (nearest := _STAND_INS.get(nearest, nearest)) not in seen:
        seen.add(nearest)
    return nearest if nearest != path and model.paths.get(nearest) else None


def _roofline_s(shape: Shape, profile: DeviceProfile, roofline: Roofline) -> Floats:
    """Time of the tile-rounded arithmetic or of the padded tensors, whichever is longer."""
    macs, moved = roofline_amounts(shape, profile.latency.tiles, profile.bytes_per_element)
    arithmetic_s = macs / roofline.macs_per_s
    moving_s = moved / roofline.dram_bytes_per_s if roofline.dram_bytes_per_s else 0.0
    seconds = np.maximum(arithmetic_s, moving_s) * np.ones(shape.c_in.shape)
    return np.asarray((seconds + roofline.kernel_overhead_s) * profile.batch)
