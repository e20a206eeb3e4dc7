"""What is remembered of timings: of one file, under one set of conditions, and nothing else."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from hwprofiles.device import DeviceProfile
from hwprofiles.registry import load_profile
from search.graph.sampling import Sampling
from search.input.data import Part
from search.measure import stopwatch as module
from search.measure.benchmark import Timing
from search.measure.runtimes import RUNTIMES
from search.measure.stopwatch import ROUNDS, Timed

HOST = load_profile("host-cpu-onnxruntime")
MODELS = [b"dense", b"half", b"quarter"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was timed; a dense file takes 2 s, others half and a quarter of it."""
    calls: list[dict[str, Any]] = []
    ratios = {b"dense": 1.0, b"half": 0.5, b"quarter": 0.25}

    def measured(
        models: Sequence[bytes], feeds: dict[str, Any], *, rounds: int, threads: int, call: object
    ) -> list[Timing]:
        assert call == RUNTIMES["onnxruntime"].call
        calls.append({"models": list(models), "rounds": rounds, "threads": threads, "feeds": feeds})
        return [
            Timing(
                2 * ratios[m],
                1.8 * ratios[m],
                2.4 * ratios[m],
                ratios[m],
                0,
                0,
                rounds,
                (0.9 / ratios[m], 1.1 / ratios[m]),
            )
            for m in models
        ]

    monkeypatch.setattr(module, "measure_interleaved", measured)
    return calls


def timed(folder: Path, profile: DeviceProfile = HOST, size: int = 8, models: Sequence[bytes] = MODELS) -> list[Timed]:
    """Files on pictures of so many pixels a side."""
    part = Part({"x": np.zeros((64, 3, size, size), np.float32)}, None)
    return module.stopwatch(profile, part, Sampling({"x": 0}, {}), folder)(models)


def test_figures_by_hand(tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    """A latency is the dense one's median times the ratio, with the spread of the rounds; a speed-up has its own interval."""
    dense, half, quarter = timed(tmp_path)
    assert (dense.latency_s, half.latency_s, quarter.latency_s) == (2.0, 1.0, 0.5)
    assert half.interval_s == (pytest.approx(0.9), pytest.approx(1.2))
    assert (half.speedup, quarter.speedup) == (2.0, 4.0)
    assert half.speedup_interval == (1.8, 2.2)
    assert len(half.date) == len("2026-01-01")
    assert [call["rounds"] for call in asked] == [ROUNDS] == [40]


def test_the_same_files_under_the_same_conditions_are_timed_once(tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    """Another file is timed with the dense one; the others keep what was measured."""
    first = timed(tmp_path, models=MODELS[:2])
    assert timed(tmp_path, models=MODELS[:2]) == first
    assert timed(tmp_path)[:2] == first
    assert [call["models"] for call in asked] == [MODELS[:2], [b"dense", b"quarter"]]
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


@pytest.mark.parametrize(
    "change",
    [
        lambda monkeypatch: ({"profile": dataclasses.replace(HOST, threads=2)}),
        lambda monkeypatch: ({"profile": dataclasses.replace(HOST, batch=2)}),
        lambda monkeypatch: ({"size": 16}),
        lambda monkeypatch: monkeypatch.setattr(module, "cpu_name", lambda: "another") or {},
        lambda monkeypatch: monkeypatch.setattr(module, "instruction_set", lambda: "avx2") or {},
        lambda monkeypatch: monkeypatch.setattr(onnxruntime, "__version__", "0.1") or {},
    ],
    ids=["threads", "batch", "sizes", "cpu", "instructions", "version"],
)
def test_other_conditions_are_another_measurement(
    tmp_path: Path,
    asked: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[pytest.MonkeyPatch], dict[str, Any]],
) -> None:
    """Nothing of it is believed: threads, batch, sizes of a file that leaves them free, the CPU, the runtime's version."""
    timed(tmp_path)
    other = change(monkeypatch)
    timed(tmp_path, **other)
    assert len(asked) == 2
    assert asked[1]["threads"] == other.get("profile", HOST).threads


def test_a_file_from_elsewhere_is_not_believed(tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    """A name that fits is not enough: what it was timed under stands in it. Half a file, and one of before, are no answer."""
    timed(tmp_path)
    [path] = tmp_path.iterdir()
    kept = json.loads(path.read_text())
    for content in (
        json.dumps({**kept, "under": {**kept["under"], "machine": "another"}}),
        path.read_text()[:40],
        "{}",
        "3",
    ):
        path.write_text(content)
        assert timed(tmp_path)[1].speedup == 2.0
    assert len(asked) == 5
