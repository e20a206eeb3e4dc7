"""Latency models against hand formulas and one-by-one twins."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from hwprofiles.device import DeviceProfile, HeldOutError, LatencyModel
from hwprofiles.kernels import Shape, Tiles, kernel_paths
from hwprofiles.latency import UNVALIDATED_FACTOR, latency_interval_s, network_latency_s, pushed_out, workload_latency_s
from hwprofiles.registry import list_profiles, load_profile
from hwprofiles.workload import GRAPH_INPUT, Workload

CONV = Workload("conv", "conv", 32, 64, (16, 16), (8, 8), (3, 3), (2, 2), sources=(GRAPH_INPUT,))
DEPTHWISE = Workload("dw", "conv", 48, 48, (16, 16), (16, 16), (3, 3), groups=48, sources=(0,))
DENSE = Workload("fc", "dense", 128, 10, sources=(0,))
POOL = Workload("pool", "pool", 24, 24, (8, 8), (4, 4), (2, 2), (2, 2), sources=(0,))
ADD = Workload("add", "elementwise", 24, 24, (8, 8), (8, 8), operands=2, sources=(0, 0))


SAMPLE = list({(profile.latency.kernels, profile.latency.kind): profile for profile in list_profiles()}.values())
"""One profile of every rule set and kind of model."""


def nchwc_profile(**paths: dict[str, float]) -> DeviceProfile:
    """A profile with ONNX Runtime's rules, blocks of 16, and the coefficients given."""
    model = LatencyModel("fitted model", "nchwc", Tiles(c_out=16, c_in=16, block=16), paths=paths)
    return dataclasses.replace(load_profile("host-cpu-onnxruntime"), latency=model)


def test_roofline_is_the_longer_of_arithmetic_and_memory() -> None:
    """On a TPU a 3x3 convolution costs its MACs at 128-padded widths, a wide product the bytes of its weights."""
    tpu = load_profile("tpu-v5e")
    arithmetic_s = 8 * 8 * 9 * 128 * 128 / 98.5e12
    moved_s = 2 * (16 * 16 * 128 + 9 * 128 * 128 + 8 * 8 * 128) / 819e9
    assert workload_latency_s(CONV, tpu) == pytest.approx(max(arithmetic_s, moved_s), rel=1e-12)
    big = Workload("fc", "dense", 4096, 4096)
    assert workload_latency_s(big, tpu) == pytest.approx(2 * (4096 * 4096 + 2 * 4096) / 819e9, rel=1e-12)


def test_tpu_lanes_make_64_channels_cost_128() -> None:
    """Channels fill lanes of 128: every width up to 128 costs the same."""
    seconds = workload_latency_s(CONV, load_profile("tpu-v5e"), c_out=np.arange(1, 129))
    assert np.ptp(seconds) == 0


@pytest.mark.parametrize("profile", SAMPLE, ids=lambda profile: profile.id)
@pytest.mark.parametrize("workload", [CONV, DENSE], ids=lambda workload: workload.name)
def test_all_width_pairs_at_once_equal_one_by_one(profile: DeviceProfile, workload: Workload) -> None:
    """A broadcast call over c_in x c_out gives what a loop over workloads of those widths gives."""
    c_in, c_out = np.array([1, 8, 12, 13, 16, 30, 32]), np.array([1, 4, 15, 16, 17, 64])
    together = workload_latency_s(workload, profile, c_in=c_in[:, None], c_out=c_out)
    alone = [
        [float(workload_latency_s(dataclasses.replace(workload, c_in=int(i), c_out=int(o)), profile)) for o in c_out]
        for i in c_in
    ]
    np.testing.assert_allclose(together, alone, rtol=1e-12)


@pytest.mark.parametrize("profile", SAMPLE, ids=lambda profile: profile.id)
@pytest.mark.parametrize("workload", [DEPTHWISE, POOL, ADD], ids=lambda workload: workload.name)
def test_channelwise_kernels_take_one_width_for_both(profile: DeviceProfile, workload: Workload) -> None:
    """Given only one side, a kernel without channel mixing is priced at that width on both; groups follow."""
    widths = np.array([8, 16, 20, 24])
    both = workload_latency_s(workload, profile, c_in=widths, c_out=widths)
    np.testing.assert_array_equal(workload_latency_s(workload, profile, c_in=widths), both)
    np.testing.assert_array_equal(workload_latency_s(workload, profile, c_out=widths), both)
    assert (both > 0).all() or profile.latency.kind == "fitted model"


def test_onnxruntime_paths_by_width() -> None:
    """Under 16 inputs are read directly, multiples of 4 run in blocks, the rest fall back, as nchwc_transformer.cc has it."""
    c_in = np.array([3, 12, 15, 16, 18, 20, 62, 64])
    found = {}
    for path, mask in kernel_paths(Shape.of(CONV, c_in), "nchwc", Tiles(block=16)):
        found.update(dict.fromkeys(c_in[mask].tolist(), path))
    assert found == {
        3: "direct",
        12: "direct",
        15: "direct",
        16: "conv",
        18: "fallback",
        20: "conv",
        62: "fallback",
        64: "conv",
    }


def test_fitted_kernel_is_the_sum_of_its_coefficients() -> None:
    """MACs are rounded to blocks on both sides; 20 and 32 inputs cost alike, 62 take the fallback's price."""
    profile = nchwc_profile(conv={"macs": 1e-9, "kernels": 1e-6}, fallback={"macs": 1e-8})
    seconds = workload_latency_s(CONV, profile, c_in=[20, 32, 62], c_out=60)
    blocked_s = 1e-6 + 1e-9 * 8 * 8 * 9 * 32 * 64
    assert seconds == pytest.approx([blocked_s, blocked_s, 1e-8 * 8 * 8 * 9 * 62 * 60], rel=1e-12)


def test_network_adds_overhead_and_reorders() -> None:
    """A fallback between blocked convolutions costs one reorder out of blocks and one back into them."""
    first = Workload("a", "conv", 3, 62, (8, 8), (8, 8), (3, 3), sources=(GRAPH_INPUT,))
    middle = Workload("b", "conv", 62, 64, (8, 8), (8, 8), (3, 3), sources=(0,))
    last = Workload("c", "conv", 64, 32, (8, 8), (8, 8), (1, 1), sources=(1,))
    profile = nchwc_profile(
        network={"kernels": 1e-3},
        reorder_in={"kernels": 1e-5},
        reorder_out={"output_bytes": 1e-9},
        conv={"kernels": 1e-7},
    )
    expected_s = 1e-3 + 1e-5 + 1e-9 * 4 * 8 * 8 * 64 + 3 * 1e-7  # direct, fallback and pointwise all stand in for conv
    assert network_latency_s([first, middle, last], profile) == pytest.approx(expected_s, rel=1e-12)


def test_weights_leave_a_shared_cache_between_one_and_four_retentions() -> None:
    """By hand: none up to 1 ms, a third at 2 ms, all from 4 ms on; none ever where it is not modelled."""
    assert pushed_out([5e-4, 1e-3, 2e-3, 4e-3, 9e-3], 1e-3) == pytest.approx([0, 0, 1 / 3, 1, 1])
    assert pushed_out(9.0, math.inf) == 0


def test_batch_multiplies_a_roofline() -> None:
    """A profile for batch 4 prices four samples."""
    tpu = load_profile("tpu-v5e")
    four = dataclasses.replace(tpu, batch=4)
    assert network_latency_s([CONV, DENSE], four) == pytest.approx(4 * network_latency_s([CONV, DENSE], tpu))


def test_interval_comes_from_held_out_errors() -> None:
    """A factor of exp(q90) both ways where validated, a wide stated factor where not."""
    tpu = load_profile("tpu-v5e")
    assert latency_interval_s(1.0, tpu) == (1 / UNVALIDATED_FACTOR, UNVALIDATED_FACTOR)
    known = dataclasses.replace(tpu, held_out_error=HeldOutError(0.05, 0.99, 60, math.log(1.25)))
    assert latency_interval_s(1.0, known) == pytest.approx((0.8, 1.25))


def test_impossible_widths_are_refused() -> None:
    """No layer has fewer than one channel, and groups must divide what they group."""
    host = load_profile("host-cpu-onnxruntime")
    with pytest.raises(ValueError, match="at least one channel"):
        workload_latency_s(CONV, host, c_out=[8, 0])
    with pytest.raises(ValueError, match="groups=4"):
        workload_latency_s(dataclasses.replace(CONV, groups=4), host, c_in=[30])
