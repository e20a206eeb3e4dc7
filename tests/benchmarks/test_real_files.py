"""The referee of ``real_files``: what it finds wrong, and what it counts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from tests.benchmarks.real_files import run
from tests.benchmarks.real_verdict import Habits, Verdict, agrees, answers, by_column, figures, interface_faults, judge

Array = NDArray[Any]
PLAIN = Habits(batch={}, states={}, classes={}, together=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An upload of free batch and width, ``y = relu(x) w`` over the last axis, with samples that fit and others that also do."""
    weights = np.random.default_rng(0).normal(size=(1, 4)).astype(np.float32)
    _save(tmp_path / "model.onnx", weights)
    draw = np.random.default_rng(1)
    np.savez(tmp_path / "judge.npz", x=draw.normal(size=(40, 6, 1)).astype(np.float32))
    np.savez(tmp_path / "other.npz", x=draw.normal(size=(3, 9, 1)).astype(np.float32))
    return tmp_path


def _save(path: Path, weights: Array, *, name: str = "y", sizes: str | int = "length") -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("MatMul", ["r", "w"], [name])]
    if isinstance(sizes, int):  # only of this size, whatever the interface says
        nodes.append(helper.make_node("Reshape", [name, "s"], ["fixed"]))
        nodes[1].output[0], nodes[2].input[0], nodes[2].output[0] = "m", "m", name
    kept = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.int64([-1, 6, 4]), "s")]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", "length", 1])],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", "length", 4])],
        kept,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_the_upload_itself_has_no_faults(folder: Path) -> None:
    """What the dense control must be."""
    verdict = judge(folder / "model.onnx", folder / "model.onnx", folder, PLAIN)
    assert verdict.quality == {"y": 1.0}
    assert verdict.faults == []


def test_a_column_that_is_destroyed_counts_by_column() -> None:
    """Two of four columns hardly vary: lost, they are half of the columns and next to nothing of the sum of squares."""
    draw = np.random.default_rng(0)
    wanted = draw.normal(size=(400, 4)) * [10, 10, 0.1, 0.1]
    found = wanted * [1, 1, 0, 0]
    assert figures({"y": found}, {"y": wanted}, {}, None)["y"] > 0.99
    assert by_column({"y": found}, {"y": wanted})["y by column"] == pytest.approx(0.5, abs=0.02)


def test_what_a_job_says_is_compared_on_samples_of_its_kind(folder: Path) -> None:
    """Those that are drawn again from what it was given, where there are any."""
    _save(folder / "other.onnx", np.asarray([[1.0, 0.0, 0.0, 0.0]], np.float32))
    first = judge(folder / "model.onnx", folder / "other.onnx", folder, PLAIN)
    assert first.alike == (first.quality, first.r2)
    np.savez(folder / "again.npz", x=np.zeros((5, 6, 1), np.float32) + np.arange(5, dtype=np.float32)[:, None, None])
    second = judge(folder / "model.onnx", folder / "other.onnx", folder, PLAIN)
    assert second.quality == first.quality
    assert second.alike[0] != first.quality


def test_quality_is_what_the_change_of_a_weight_costs(folder: Path) -> None:
    """R2 by hand: one of four columns is off by a tenth of itself."""
    weights = numpy_helper.to_array(onnx.load(folder / "model.onnx").graph.initializer[0]).copy()
    weights[:, 0] *= 1.1
    _save(folder / "other.onnx", weights)
    verdict = judge(folder / "model.onnx", folder / "other.onnx", folder, PLAIN)
    with np.load(folder / "judge.npz") as arrays:
        exact = np.maximum(arrays["x"], 0) @ (weights / [1.1, 1, 1, 1])
    expected = 1 - (0.1 * exact[..., 0]) ** 2 @ np.ones(6) / 24 @ np.ones(40) / 40 / exact.var()
    assert verdict.quality["y"] == pytest.approx(expected, abs=1e-5)
    assert verdict.faults == []


def test_a_lost_producer_and_a_renamed_output_are_faults(folder: Path) -> None:
    """Both are fields that a client sees."""
    model = onnx.load(folder / "model.onnx")
    model.producer_name = "another"
    model.graph.output[0].doc_string = "scores"
    onnx.save(model, folder / "other.onnx")
    faults = interface_faults(folder / "model.onnx", folder / "other.onnx")
    assert faults == ["graph.output differs from the upload's", "producer_name is 'another', the upload's is ''"]


def test_a_file_that_froze_a_free_size_is_found_out(folder: Path) -> None:
    """It runs at the data's sizes only."""
    weights = numpy_helper.to_array(onnx.load(folder / "model.onnx").graph.initializer[0])
    _save(folder / "other.onnx", weights, sizes=6)
    verdict = judge(folder / "model.onnx", folder / "other.onnx", folder, PLAIN)
    assert verdict.quality == {"y": 1.0}
    assert "does not run at other sizes" in verdict.faults[-1]


def test_a_larger_file_is_a_fault(folder: Path) -> None:
    """The upload with something nobody needs."""
    model = onnx.load(folder / "model.onnx")
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(100), "unused"))
    onnx.save(model, folder / "other.onnx")
    verdict = judge(folder / "model.onnx", folder / "other.onnx", folder, PLAIN)
    assert len(verdict.faults) == 1
    assert "bytes, the upload has" in verdict.faults[0]


def test_a_batch_in_another_place_comes_first_in_answers(tmp_path: Path) -> None:
    """A state of shape (2, N) goes in as zeros, an output (time, N) comes back samples first, a fixed batch goes one by one."""
    graph = helper.make_graph(
        [helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]), helper.make_node("Add", ["t", "state"], ["y"])],
        "g",
        [
            helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 2]),
            helper.make_tensor_value_info("state", onnx.TensorProto.FLOAT, [2, 1]),
        ],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 1])],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "model.onnx"
    )
    x = np.arange(10, dtype=np.float32).reshape(5, 2)
    habits = Habits(batch={"state": 1, "y": 1}, states={"state": (2, 1)}, classes={}, together=False)
    assert np.array_equal(answers(tmp_path / "model.onnx", {"x": x}, habits)["y"], x)


def test_figures_leave_out_constants_and_count_classes() -> None:
    """Three of four answers agree, two are right, and an output that never moves says nothing."""
    scores = np.eye(4, dtype=np.float32)
    moved = scores[[0, 1, 2, 2]]
    still = np.ones((4, 2), np.float32)
    found = figures({"a": moved, "b": still}, {"a": scores, "b": still}, {"a": 1}, np.array([0, 1, 3, 3]))
    assert found == {"a": 0.75, "top1": 0.5}
    verdict = Verdict(quality={"a": 0.1}, r2={"a": 0.9}, faults=[], alike=(found, {"a": 0.2}))
    assert agrees({"metric": "agreement", "low": 0.7, "high": 0.8}, verdict)
    assert not agrees({"metric": "r2", "low": 0.7, "high": 0.8}, verdict)
    assert not agrees({"metric": "agreement", "low": 0.9, "high": 1.0}, verdict)


def test_a_child_that_never_ends_is_ended(tmp_path: Path) -> None:
    """And what it used until then is told."""
    child = run([sys.executable, "-c", "x = bytearray(80 << 20)\nwhile True: pass"], 6, tmp_path)
    assert child.code == -9
    assert child.peak_bytes > 80 << 20
    assert child.cpu_s > 0.5  # of six seconds, however many others want the core
