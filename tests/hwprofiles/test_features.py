"""Quantities of kernels against hand formulas."""

from __future__ import annotations

import dataclasses

from hwprofiles.features import amounts
from hwprofiles.kernels import KernelRules, Shape, Tiles
from hwprofiles.workload import GRAPH_INPUT, Workload

CONV = Workload("c", "conv", 20, 30, (14, 14), (7, 7), (3, 3), (2, 2), fused=("HardSwish",), sources=(GRAPH_INPUT,))


def at_own_widths(workload: Workload, rules: KernelRules, tiles: Tiles) -> dict[tuple[str, str], float]:
    """Amounts at the workload's own widths, in fp32."""
    return {key: float(amount) for key, amount in amounts(Shape.of(workload), rules, tiles, 4.0).items()}


def test_a_convolution_in_tiles() -> None:
    """49 positions in sets of 6, 30 channels in sets of 8; 9 window elements a position; the activation runs on its own."""
    found = at_own_widths(CONV, "nhwc", Tiles(c_out=8, positions=6))
    assert found["conv", "tiles"] == 9 * 4
    assert found["conv", "macs"] == 54 * 32 * 20 * 9
    assert found["conv", "window_taps"] == 49 * 9
    assert found["conv", "patch_bytes"] == 49 * 20 * 9 * 4
    assert found["network", "launches"] == 2
    assert found["elementwise", "activation_bytes"] == 49 * 32 * 4  # the tensor is padded to whole tiles


def test_a_depthwise_kernel_treats_its_last_channels_one_by_one() -> None:
    """20 channels are two vectors of 8 and 4 more; strides and windows above 3x3 are counted."""
    depthwise = Workload("d", "conv", 20, 20, (14, 14), (7, 7), (5, 5), (2, 2), groups=20, sources=(0,))
    found = at_own_widths(depthwise, "nhwc", Tiles(c_out=8))
    assert found["depthwise", "macs"] == 49 * 25 * 24
    assert found["depthwise", "remainder_macs"] == 49 * 25 * 4
    assert found["depthwise", "wide_window_macs"] == 49 * 25 * 24
    assert found["depthwise", "row_taps"] == 7 * 25
    assert found["depthwise", "strided_bytes"] == 49 * 24 * 4


def test_a_gpu_computes_a_least_number_of_outputs() -> None:
    """49 x 32 outputs cost as much as the 4096 that the device computes together; 8192 and more cost what they are."""
    tiles = Tiles(c_out=4, c_in=4, outputs=4096)
    assert at_own_widths(CONV, "gpu", tiles)["conv", "parallel_macs"] == 4096 * 20 * 9
    large = Workload("c", "conv", 20, 64, (16, 16), (16, 16), (3, 3), sources=(GRAPH_INPUT,))
    assert at_own_widths(large, "gpu", tiles)["conv", "parallel_macs"] == 256 * 64 * 20 * 9


def test_a_gpu_pays_for_skipped_positions_and_for_every_read_of_a_pool() -> None:
    """A depthwise kernel of stride 2 counts its multiplications again; a pool of 3x3 reads 9 elements an output."""
    depthwise = Workload("d", "conv", 20, 20, (14, 14), (7, 7), (3, 3), (2, 2), groups=20, sources=(0,))
    found = at_own_widths(depthwise, "gpu", Tiles(c_out=4, c_in=4))
    assert found["depthwise", "strided_macs"] == found["depthwise", "macs"] == depthwise.macs
    whole = dataclasses.replace(depthwise, in_hw=(7, 7), stride=(1, 1))
    assert at_own_widths(whole, "gpu", Tiles(c_out=4, c_in=4))["depthwise", "strided_macs"] == 0
    pool = Workload("p", "pool", 20, 20, (14, 14), (7, 7), (3, 3), (2, 2), sources=(0,))
    assert at_own_widths(pool, "gpu", Tiles(c_out=4, c_in=4))["pool", "input_reads"] == 49 * 20 * 9


def test_an_addition_costs_the_same_fused_or_alone() -> None:
    """LiteRT adds in a kernel of its own, wherever the graph has put the node."""
    fused = Workload("c", "conv", 16, 16, (7, 7), (7, 7), (3, 3), fused=("Add", "Relu"), sources=(0, 1))
    alone = Workload("a", "elementwise", 16, 16, (7, 7), (7, 7), operands=2, sources=(0, 1))
    for rules in ("nhwc", "gpu"):
        added = at_own_widths(fused, rules, Tiles())["elementwise", "output_bytes"]
        assert added == at_own_widths(alone, rules, Tiles())["elementwise", "output_bytes"] == 49 * 16 * 4


def test_grouped_kernels_are_not_padded() -> None:
    """The reference kernel of a grouped convolution multiplies what there is."""
    grouped = Workload("g", "conv", 12, 12, (7, 7), (7, 7), (3, 3), groups=4, sources=(0,))
    found = at_own_widths(grouped, "nhwc", Tiles(c_out=8, positions=1))
    assert found["grouped", "macs"] == grouped.macs


def test_scaling_by_a_small_tensor_is_a_broadcast() -> None:
    """Two sources and one large operand: rows of channels are scaled; a sum of two large ones is no broadcast."""
    scale = Workload("m", "elementwise", 16, 16, (7, 7), (7, 7), operands=1, sources=(0, 1))
    found = at_own_widths(scale, "nhwc", Tiles())
    assert found["elementwise", "broadcast_bytes"] == 49 * 16 * 4
    assert found["elementwise", "output_bytes"] == 0
    total = Workload("a", "elementwise", 16, 16, (7, 7), (7, 7), operands=2, sources=(0, 1))
    assert at_own_widths(total, "nhwc", Tiles())["elementwise", "broadcast_bytes"] == 0
