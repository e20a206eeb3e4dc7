"""Widths on the grid, and which sparsity a runtime executes."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprofiles.device import DeviceProfile
from hwprofiles.registry import list_profiles, load_profile
from hwprofiles.rules import channel_options, executed_structures, sparsity_rule

TPU = load_profile("tpu-v5e")


@given(units=st.integers(1, 2048), grid=st.sampled_from([1, 4, 8, 16, 128]), minimum=st.none() | st.integers(1, 256))
def test_options_are_the_full_width_and_the_grid_below_it(units: int, grid: int, minimum: int | None) -> None:
    """The list equals a filter over all widths, widest first."""
    profile = dataclasses.replace(TPU, channel_grid=grid)
    least = grid if minimum is None else minimum
    expected = [width for width in range(units, 0, -1) if width == units or (width % grid == 0 and width >= least)]
    assert channel_options(units, profile, minimum) == expected


def test_the_profile_may_state_a_minimum() -> None:
    """``minimum_channels`` stands in where the caller names none."""
    assert channel_options(32, dataclasses.replace(TPU, channel_grid=8, minimum_channels=20)) == [32, 24]


@pytest.mark.parametrize("profile", list_profiles(), ids=lambda profile: profile.id)
def test_channels_and_depth_pay_everywhere(profile: DeviceProfile) -> None:
    """Every runtime executes a narrower or shorter network, and every rule gives its reason and source in words."""
    assert {"channel", "depth"} <= set(executed_structures(profile))
    for structure in ("channel", "depth", "block", "nm", "unstructured"):
        rule = sparsity_rule(structure, profile)
        assert rule.reason
        assert rule.source


def test_what_each_runtime_executes() -> None:
    """ONNX Runtime skips no zeros, TensorRT 2:4 only, XNNPACK unstructured above two thirds under conditions."""
    assert executed_structures(load_profile("host-cpu-onnxruntime")) == ("channel", "depth")
    assert executed_structures(load_profile("a100-tensorrt-fp16")) == ("channel", "depth", "nm")
    sparse = sparsity_rule("unstructured", load_profile("pixel4-1large-tflite-fp32"))
    assert sparse.executed
    assert sparse.min_level == pytest.approx(2 / 3)
    assert len(sparse.conditions) == 5


def test_an_unstated_rule_is_a_refusal_with_its_reason() -> None:
    """What a profile does not mention is not used."""
    rule = sparsity_rule("nm", dataclasses.replace(TPU, sparsity=()))
    assert not rule.executed
    assert "nothing is known" in rule.reason
