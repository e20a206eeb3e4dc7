"""Calibration: what we believe of ONNX Runtime's kernels against what ONNX Runtime says it does."""

from __future__ import annotations

import collections
import importlib.util
import json
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

from hwprofiles.kernels import Tiles
from hwprofiles.layout import reorders
from hwprofiles.registry import load_profile, parse_as, save_profile
from hwprofiles.rows import Planned
from search.graph.onnx.traced import trace
from search.measure.benchmark import open_session
from search.measure.calibrate import calibration
from search.measure.calibrate.builder import Builder, MicroNetwork
from search.measure.calibrate.calibration import host_profile, measure, random_networks
from search.measure.calibrate.kit import write_kit
from search.measure.calibrate.micronets import SEQUENCES, micro_network
from search.measure.cpu import vector_channels
from search.measure.runtimes import RUNTIMES
from search.measure.runtimes.litert import open_interpreter
from search.wire.errors import InvalidProfile


def optimised(model: bytes, folder: Path) -> collections.Counter[str]:
    """Operators of the graph that ONNX Runtime makes of a model, with how many times each occurs."""
    path = folder / "optimised.onnx"
    open_session(model, optimised_copy=path)
    return collections.Counter(node.op_type for node in onnx.load(path).graph.node)


def network(*widths: int, groups: int = 1, kernel: int = 3) -> MicroNetwork:
    """Three convolutions of the widths given, the middle one with ``groups`` and ``kernel``, and a classifier."""
    builder = Builder(np.random.default_rng(0), 3, 16)
    builder.conv(widths[0])
    builder.conv(widths[1], kernel, groups=groups)
    builder.conv(widths[2], 1)
    builder.head(flatten=False)
    return builder.build("test")


@pytest.mark.parametrize(
    "model",
    [
        network(64, 64, 32),
        network(60, 64, 32),
        network(62, 62, 32),
        network(60, 62, 32),
        network(12, 32, 32),
        network(13, 32, 32),
        network(60, 60, 32, groups=60),
        network(62, 62, 32, groups=62),
        network(64, 64, 32, groups=4),
        network(64, 64, 32, groups=8),
        network(64, 64, 32, kernel=1),
        *(micro_network(np.random.default_rng(seed)) for seed in range(60)),
        *(build(np.random.default_rng(seed)).build(kind) for kind, build in SEQUENCES.items() for seed in range(4)),
    ],
    ids=lambda model: f"{model.kind}-{model.input_shape[1]}",
)
def test_layout_reorders_are_those_that_onnxruntime_inserts(model: MicroNetwork, tmp_path: Path) -> None:
    """The simulated layout rules insert as many reorders in each direction as ONNX Runtime's optimiser."""
    block = vector_channels()
    predicted = collections.Counter(
        direction for direction, _ in reorders(trace(model.model).workloads(), Tiles(block=block))
    )
    actual = optimised(model.model, tmp_path)
    assert (predicted["reorder_in"], predicted["reorder_out"]) == (actual["ReorderInput"], actual["ReorderOutput"])


def test_lowered_macs_are_those_of_the_builder() -> None:
    """The kernels of a random network have the multiply-adds that its builder counted by hand, plus the classifier's."""
    for seed in range(10):
        builder = Builder(np.random.default_rng(seed), 3, 24)
        builder.conv(20, 5, 2)
        builder.depthwise(3, 2)
        builder.conv(36, 1)
        convolutions = builder.macs
        builder.head(flatten=True)
        by_hand = 12 * 12 * 20 * 3 * 25 + 6 * 6 * 20 * 9 + 6 * 6 * 20 * 36
        kernels = trace(builder.build("test").model).workloads()
        assert convolutions == by_hand
        assert sum(w.macs for w in kernels if w.kind == "conv") == by_hand
        assert [w.c_in for w in kernels if w.kind == "dense"] == [36 * 6 * 6]


def test_random_networks_follow_the_seed() -> None:
    """The same seed gives the same bytes, another seed others."""
    first, again, other = (micro_network(np.random.default_rng(seed)).model for seed in (3, 3, 4))
    assert first == again
    assert first != other


@pytest.mark.parametrize("runtime", list(RUNTIMES))
def test_a_calibration_is_a_profile_that_can_be_saved(runtime: str, tmp_path: Path) -> None:
    """A short calibration gives a fitted, measured-here profile that reads back equal and wins over the built-in one."""
    name = RUNTIMES[runtime].profile_id
    few = [model for _, model in zip(range(40), random_networks(0), strict=False)]
    progress: list[float] = []
    profile = host_profile(
        name, measure(few, runtime_name=runtime, budget_s=0.1, progress=progress.append), runtime_name=runtime
    )
    save_profile(profile, tmp_path)
    assert load_profile(name, [tmp_path]) == profile
    assert (profile.runtime, profile.calibrated, profile.latency_kind) == (runtime, True, "fitted model")
    assert profile.held_out_error is not None
    assert profile.held_out_error.n == 40
    assert progress == sorted(progress)
    assert 0 < progress[-1] <= 1


def test_a_kit_times_the_networks_of_its_manifest(tmp_path: Path) -> None:
    """Every network of the manifest is a file that ONNX Runtime loads and one for LiteRT, with the kernels listed."""
    assert write_kit(tmp_path, networks=3, seed=5) == 3
    listed = json.loads((tmp_path / "manifest.json").read_text())["networks"]
    for network in listed:
        file = tmp_path / "networks" / f"{network['network']}.onnx"
        open_session(file)
        assert len(open_interpreter(file.with_suffix(".tflite").read_bytes()).get_output_details()) == 1
        assert parse_as(network, Planned, "manifest").workloads == tuple(trace(file.read_bytes()).workloads())
    assert (tmp_path / "results.csv").read_text() == "network,latency_ms\n"
    assert (tmp_path / "measure.sh").stat().st_mode & 0o100


def test_the_script_of_a_kit_is_a_shell_script(tmp_path: Path) -> None:
    """The shell parses it, and without a tool's name it says how it is used."""
    write_kit(tmp_path, networks=1, seed=5)
    subprocess.run(["sh", "-n", str(tmp_path / "measure.sh")], check=True)
    run = subprocess.run(["sh", str(tmp_path / "measure.sh")], capture_output=True, text=True, check=False)
    assert (run.returncode, "trtexec" in run.stderr) == (2, True)


def test_a_runtime_that_is_unknown_or_absent_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which runtimes can be timed here, or how to install the one asked for."""
    with pytest.raises(
        InvalidProfile, match="`tensorrt` cannot be timed on this machine; it can time onnxruntime, litert"
    ):
        measure([], runtime_name="tensorrt")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(InvalidProfile, match=r"LiteRT is not installed: pip install 'secateur\[litert\]'"):
        measure([], runtime_name="litert")


def test_a_latency_is_what_is_taken_undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten rounds, four of them disturbed, the 20 % quantile: between the second and the third shortest, by hand."""
    taken = iter([3.0, 1.2, 9.0, 1.0, 1.4, 1.1, 8.0, 1.3, 7.0, 1.5])
    monkeypatch.setattr(calibration, "take_turns", lambda calls, **_: np.array([[next(taken)] * len(calls)]))
    monkeypatch.setattr(calibration, "MAX_ROUNDS", 10)
    [row] = measure([network(16, 16, 16)], budget_s=1e6)
    assert row.latency_s == pytest.approx(1.1 + 0.8 * (1.2 - 1.1))
