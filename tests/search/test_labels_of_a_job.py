"""Whole jobs on labels in forms other than integers (N,): the dense network, its own answers as labels, scores 100 %."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from search.graph.ir import Array
from search.judge.dense import ADVICE
from search.wire.errors import InvalidDataset
from search.wire.progress import Progress
from tests.search.graph.nets import Net, images, run_ort
from tests.search.prepared import prepared
from tests.search.train.test_finetune import SPEC, TARGET, data_file, run


def sigmoid_network() -> bytes:
    """One probability of images (N, 3, 8, 8)."""
    net = Net(("N", 3, 8, 8), seed=5)
    hidden = net.op("Relu", net.conv("x", 3, 16, stride=2))
    net.op("Sigmoid", net.gemm(net.op("Flatten", hidden), 256, 1))
    return net.bytes()


def token_network() -> bytes:
    """Scores (N, 8, 6): six classes for every row of an image."""
    net = Net(("N", 3, 8, 8), seed=5)
    hidden = net.op("Relu", net.conv("x", 3, 16))
    rows = net.op("Reshape", net.op("Transpose", hidden, perm=[0, 2, 1, 3]), net.constant([-1, 8, 128]))
    net.op("MatMul", rows, net.weight(128, 6))
    return net.bytes()


def answers(model: bytes) -> Array:
    """Of the images in `data_file`."""
    return run_ort(model, {"x": images(400, 3, 8, 8)})[0]


def test_a_sigmoid_is_trained_and_judged_on_yes_and_no(tmp_path: Path) -> None:
    """Labels (N, 1) as Keras has them: no warning, no NaN, and points that differ from the dense network."""
    model = sigmoid_network()
    y = (answers(model) > 0.5).astype(np.float32)
    report = run(tmp_path / "a", data_file(tmp_path, y=y), model=model)
    dense = report.fronts[TARGET].dense.accuracy
    assert (dense.metric, dense.value) == ("top1", 1.0)
    assert not any("stopped being a number" in words or ADVICE in words for words in report.warnings)
    assert list((tmp_path / "a" / "units").glob("trained-*.npz"))
    assert 0.5 < report.fronts[TARGET].points[0].accuracy.value <= 1.0


def test_tokens_are_judged_one_by_one(tmp_path: Path) -> None:
    """Labels (N, T) of scores (N, T, C)."""
    model = token_network()
    report = run(tmp_path / "a", data_file(tmp_path, y=answers(model).argmax(-1)), model=model)
    dense = report.fronts[TARGET].dense.accuracy
    assert (dense.metric, dense.value) == ("top1", 1.0)


def test_labels_of_no_known_form_are_refused_before_anything_is_timed(tmp_path: Path) -> None:
    """Several classes of a sample: no calibration has begun."""
    with pytest.raises(InvalidDataset, match="one-hot classes of shape"):
        run(tmp_path / "a", data_file(tmp_path, y=np.ones((400, 4), np.int64)))
    assert not (tmp_path / "a" / "units").exists()


def test_shuffled_labels_are_doubted_before_the_search(tmp_path: Path) -> None:
    """The dense network is at chance: the job is told so when its data are read."""
    progress = Progress(None)
    data = data_file(tmp_path, y=np.random.default_rng(0).integers(0, 2, 400))
    prepared(SPEC, sigmoid_network(), data, progress)
    assert any(words.endswith(ADVICE) for words in progress.warnings)
