"""What ONNX's inference tells is what tracing finds; where it may not be, it says nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from search.graph.onnx.read import load
from search.graph.run import execute
from search.graph.run.told_shapes import told_shapes
from search.wire.request import JobSpec
from tests.search.graph.nets import Net, resnet


def every_kind() -> Net:
    """One use or more of every operator that is told."""
    net = Net()
    y = net.op("MaxPool", net.op("Relu", net.conv("x", 3, 8)), kernel_shape=[2, 2], strides=[2, 2])
    y = net.op("Mul", net.op("Sigmoid", y), net.op("HardSwish", net.op("Clip", y)))
    wide = net.op("Resize", y, "", net.constant([1, 1, 2, 2], np.float32), mode="nearest")
    padded = net.op("Pad", wide, net.constant([0, 0, 1, 0, 0, 0, 1, 0]))
    bounds = [net.constant([value]) for value in (1, 9, 2, 1)]
    y = net.op("Concat", net.op("Slice", padded, *bounds), net.op("AveragePool", wide, kernel_shape=[1, 1]), axis=0)
    y = net.op("Add", y, net.constant(np.ones((1, 8, 1, 1)), np.float32))
    pooled = net.op("Flatten", net.op("GlobalAveragePool", y))
    rows = net.op("Transpose", net.op("Reshape", pooled, net.constant([0, -1])), perm=[1, 0])
    net.op("Softmax", net.op("MatMul", rows, net.constant(np.ones((2, 5)), np.float32)))
    return net


@pytest.mark.parametrize("net", [every_kind(), resnet()], ids=["every kind", "resnet"])
def test_what_is_told_is_what_tracing_finds(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shapes of all values, and the same constants."""
    graph = load(net.bytes())
    feeds = {"x": (1, 3, 8, 8)}
    told = told_shapes(graph, feeds, execute.apply_node)
    assert told is not None
    monkeypatch.setattr(execute, "told_shapes", lambda *_: None)
    traced = execute.shapes(graph, feeds)
    assert told[0] == traced[0]
    assert told[1].keys() == traced[1].keys()


def test_an_odd_use_is_left_to_tracing() -> None:
    """Windows that are rounded up, and a shape of other elements than there are."""
    odd = Net()
    odd.op("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    unfit = Net(("N", 3, 8, "W"))
    unfit.op("Reshape", "x", unfit.constant([0, 3, 8, 8]))
    for net in (odd, unfit):
        assert told_shapes(load(net.bytes()), {"x": (1, 3, 8, 9)}, execute.apply_node) is None


def test_a_plain_network_is_looked_into_without_jax(tmp_path: Path) -> None:
    """Nor is Flax, SciPy or Matplotlib loaded: a dry run is over in a second."""
    (tmp_path / "model.onnx").write_bytes(resnet().bytes())
    (tmp_path / "request.json").write_text(JobSpec(("pixel4-1large-tflite-fp32",)).to_json())
    code = f"import sys; from search.__main__ import main; print(main(['inspect', {str(tmp_path)!r}]), *sys.modules)"
    done, *loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert done == "0"
    assert not {"jax", "flax", "scipy", "matplotlib"} & set(loaded)
