"""No kernel is free, on any profile: what rows did not tell has the price of its nearest relative, and that is said."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from hwprofiles.device import DeviceProfile, LatencyModel
from hwprofiles.latency import (
    UNVALIDATED_FACTOR,
    guessed_paths,
    guessed_s,
    latency_interval_s,
    network_latency_s,
    stand_in,
    workload_latency_s,
)
from hwprofiles.registry import list_profiles, load_profile
from hwprofiles.workload import GRAPH_INPUT, Workload


def conv(width: int, kernel: int = 3, groups: int = 1) -> Workload:
    """A convolution on 14 x 14 pixels."""
    return Workload("c", "conv", width, width, (14, 14), (14, 14), (kernel, kernel), groups=groups, sources=(0,))


KINDS = {
    "conv": conv,
    "pointwise": lambda width: conv(width, 1),
    "depthwise": lambda width: conv(width, 3, width),
    "grouped": lambda width: conv(width, 3, 4),
    "stem": lambda width: Workload("c", "conv", 3, width, (64, 64), (32, 32), (3, 3), (2, 2), sources=(GRAPH_INPUT,)),
    "dense": lambda width: Workload("d", "dense", width, width, sources=(0,)),
    "tokens": lambda width: Workload("d", "dense", width, width, rows=50, sources=(0,)),
    "matmul": lambda width: Workload("m", "matmul", width, width, groups=2, rows=50, sources=(0, 0)),
    "step": lambda width: Workload("s", "recurrence", width, width, gates=4, rows=20, sources=(0,)),
}
PROFILES = list_profiles()


def test_a_price_rises_with_multiplications() -> None:
    """Of every kind of kernel, at every doubling of widths that fill a TPU's lanes in each of four groups; and none is free."""
    for profile, (kind, made) in itertools.product(PROFILES, KINDS.items()):
        prices_s = [float(workload_latency_s(made(width), profile)) for width in (512, 1024, 2048, 4096)]
        assert prices_s[0] > 0, (profile.id, kind)
        assert all(a < b for a, b in itertools.pairwise(prices_s)), (profile.id, kind, prices_s)


def test_no_other_kernel_is_free() -> None:
    """Pools, sums, norms, softmax: all that move something cost something, where anything is known of a device's memory."""
    kinds = ("elementwise", "global_pool", "norm", "softmax", "embedding", "data_movement")
    for profile, kind in itertools.product(PROFILES, kinds):
        if profile.latency.roofline is not None and profile.latency.roofline.dram_bytes_per_s is None:
            continue
        out = (1, 1) if kind == "global_pool" else (14, 14)
        work = Workload("w", kind, 64, 64, (14, 14), out, operands=1, sources=(0,))  # type: ignore[arg-type]
        assert network_latency_s([work], profile) > 0, (profile.id, kind)


def test_a_large_network_of_layers_costs_more_than_a_small_one() -> None:
    """0.1 and 20 million multiplications, which 27 profiles priced alike: the launches of a GPU hide most of it."""
    small, large = (
        [Workload(f"d{i}", "dense", width, width, sources=(i - 1,)) for i in range(3)] for width in (180, 2600)
    )
    for profile in PROFILES:
        assert network_latency_s(large, profile) > 1.05 * network_latency_s(small, profile), profile.id


def fitted(**paths: dict[str, float]) -> DeviceProfile:
    """A phone with the coefficients given."""
    phone = load_profile("pixel4-1large-tflite-fp32")
    model = LatencyModel("fitted model", "nhwc", phone.latency.tiles, paths=paths)
    return dataclasses.replace(phone, latency=model)


def test_an_empty_table_is_no_price_of_zero() -> None:
    """A dense layer of 64 x 32 on a profile whose fit left its path empty: that of a pointwise convolution on one pixel."""
    profile = fitted(pointwise={"weight_bytes": 1e-9}, dense={})
    layer = Workload("d", "dense", 64, 32, sources=(0,))
    assert float(workload_latency_s(layer, profile)) == pytest.approx(4 * 64 * 32 * 1e-9)
    assert stand_in(profile.latency, "dense") == "pointwise"
    assert stand_in(profile.latency, "pointwise") is None
    assert stand_in(fitted(network={"kernels": 1e-6}).latency, "dense") is None


def test_multiplications_cost_at_least_the_least_that_is_known() -> None:
    """By hand: 1e-12 s a weight byte would be next to nothing; a MAC costs 2e-10 s where it is cheapest."""
    profile = fitted(pointwise={"macs": 2e-10}, conv={"macs": 3e-10}, dense={"weight_bytes": 1e-12})
    layer = Workload("d", "dense", 64, 32, sources=(0,))
    macs = 6 * 64 * 32  # one position is a tile of six
    assert profile.latency.tiles.positions == 6
    assert float(workload_latency_s(layer, profile)) == pytest.approx(2e-10 * macs)
    hidden = fitted(conv={"patch_bytes": 3e-9})
    assert hidden.latency.least_s_per_mac == pytest.approx(4 * 3e-9 / 64)
    assert fitted(network={"kernels": 1e-6}).latency.least_s_per_mac == 0


def test_what_is_guessed_is_said_and_has_a_wide_interval() -> None:
    """By hand: of 4 ms half is guessed; the known half has the profile's error, the other is nothing to three times as much."""
    profile = fitted(pointwise={"weight_bytes": 1e-9}, conv={"macs": 1e-10}, dense={})
    layers = [Workload("d", "dense", 64, 32, sources=(0,)), conv(16)]
    assert guessed_paths(layers, profile) == {"dense": "pointwise"}
    assert guessed_s(layers, profile) == pytest.approx(float(workload_latency_s(layers[0], profile)))
    assert profile.held_out_error is not None
    known = 2.718281828459045**profile.held_out_error.log_error_q90
    low, high = latency_interval_s(4.0, profile, 2.0)
    assert low == pytest.approx(2 / known)
    assert high == pytest.approx(2 * known + 2 * UNVALIDATED_FACTOR)
    assert latency_interval_s(4.0, profile) == pytest.approx((4 / known, 4 * known))
    assert guessed_paths(layers, load_profile("tpu-v5e")) == {}
