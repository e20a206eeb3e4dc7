"""The quick part of ``real_files``: a file as its exporter writes it, through the whole product and its referee.

A Flax network through jax2onnx is the demonstration's, which has a test of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.benchmarks import real_exports
from tests.benchmarks.real_verdict import Habits, agrees, judge

PROFILE = "host-cpu-onnxruntime"  # on phones nothing that these few products could lose is cheaper


def _compress(folder: Path, habits: Habits) -> dict[str, dict[str, float]]:
    """The product on model.onnx and job.npz; every point judged. Points by id: reported and own figures."""
    command = [str(Path(sys.executable).with_name("secateur")), "compress", str(folder / "model.onnx")]
    command += ["--data", str(folder / "job.npz"), "--profile", PROFILE, "--points", "3", "--out", str(folder / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads((folder / "out/report.json").read_text())
    front = report["fronts"][PROFILE]
    dense = folder / "out" / front["dense"]["artifact"]
    assert dense.read_bytes() == (folder / "model.onnx").read_bytes()
    found = {}
    for point in front["points"]:
        verdict = judge(folder / "model.onnx", folder / "out" / point["artifact"], folder, habits)
        assert verdict.faults == [], point["id"]
        assert agrees(point["accuracy"], verdict), (point["id"], point["accuracy"], verdict.quality)
        found[point["id"]] = verdict.quality
    return found


def test_a_scikit_learn_pipeline_as_skl2onnx_writes_it(tmp_path: Path) -> None:
    """A Scaler ahead, labels and a ZipMap behind, all of ai.onnx.ml: kept as they are, and the layers between are cut."""
    _pipeline(tmp_path / "model.onnx")
    np.savez(tmp_path / "job.npz", **real_exports.digits_flat("job", tmp_path, 200))
    np.savez(tmp_path / "judge.npz", **real_exports.digits_flat("judge", tmp_path, 0))
    classes = {"output_label": -1, "output_probability": 1}
    found = _compress(tmp_path, Habits(batch={}, states={}, classes=classes, together=False))
    assert found
    assert max(q["top1"] for q in found.values()) > 0.9


def _pipeline(path: Path) -> None:
    """A scaler and a perceptron of scikit-learn as skl2onnx 1.20 writes them, node by node."""
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import StandardScaler

    x, y = real_exports.digits("train")
    scaler = StandardScaler().fit(x)
    net = MLPClassifier((512, 256), max_iter=200, tol=1e-2, n_iter_no_change=3, random_state=0).fit(
        scaler.transform(x), y
    )
    kept = [numpy_helper.from_array(np.arange(10), "classes"), numpy_helper.from_array(np.int64([-1]), "shape_tensor")]
    nodes = [
        helper.make_node(
            "Scaler", ["X"], ["variable"], domain="ai.onnx.ml",
            offset=scaler.mean_.tolist(), scale=(1 / scaler.scale_).tolist(),
        ),
        helper.make_node("Cast", ["variable"], ["next"], to=onnx.TensorProto.FLOAT),
    ]  # fmt: skip
    last, value = len(net.coefs_) - 1, "next"
    for i, (w, b) in enumerate(zip(net.coefs_, net.intercepts_, strict=True)):
        kept += [
            numpy_helper.from_array(w.astype(np.float32), f"coefficient{i}"),
            numpy_helper.from_array(b.astype(np.float32)[None], f"intercepts{i}"),
        ]
        nodes += [
            helper.make_node("MatMul", [value, f"coefficient{i}"], [f"mul_result{i}"]),
            helper.make_node("Add", [f"mul_result{i}", f"intercepts{i}"], [f"add_result{i}"]),
            helper.make_node("Softmax" if i == last else "Relu", [f"add_result{i}"], [f"activations{i}"]),
        ]
        value = f"activations{i}"
    nodes += [
        helper.make_node("ArgMax", [value], ["argmax_output"], axis=1),
        helper.make_node(
            "ZipMap", [value], ["output_probability"], domain="ai.onnx.ml", classlabels_int64s=list(range(10))
        ),
        helper.make_node("ArrayFeatureExtractor", ["classes", "argmax_output"], ["extracted"], domain="ai.onnx.ml"),
        helper.make_node("Reshape", ["extracted", "shape_tensor"], ["output_label"]),
    ]
    columns = helper.make_map_type_proto(
        onnx.TensorProto.INT64, helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)
    )
    graph = helper.make_graph(
        nodes,
        "pipeline",
        [helper.make_tensor_value_info("X", onnx.TensorProto.FLOAT, [None, 64])],
        [
            helper.make_tensor_value_info("output_label", onnx.TensorProto.INT64, [None]),
            helper.make_value_info("output_probability", helper.make_sequence_type_proto(columns)),
        ],
        kept,
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="skl2onnx"), path)
