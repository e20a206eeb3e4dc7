"""Real networks beside the project: imported, pruned, exported, equal to masked in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from search.graph.onnx import read
from search.graph.run import execute
from tests.search.graph.nets import images, relative_error, run_ort
from tests.search.space.laws import cut_against_masked

NAMES = ("FastestDet", "mnist-opt", "resnet20", "resnet32", "resnet32_bn", "ultralight-version-slim-320")


@pytest.mark.shared
@pytest.mark.parametrize("name", NAMES)
def test_a_real_network_is_cut(name: str, shared: Path) -> None:
    """30 % of every group go: the cut file is smaller and equals the masked one."""
    data = (shared / "models" / f"{name}.onnx").read_bytes()
    cut, error, found = cut_against_masked(data, share=0.7)
    assert error < 1e-4
    assert found.prunable
    assert len(cut) < 0.8 * len(data)


@pytest.mark.shared
@pytest.mark.parametrize("name", NAMES)
def test_a_real_network_runs_in_jax(name: str, shared: Path) -> None:
    """The engine's outputs equal ONNX Runtime's of the original file."""
    data = (shared / "models" / f"{name}.onnx").read_bytes()
    graph = read.load(data)
    (info,) = graph.inputs
    shape = tuple(size if isinstance(size, int) else 1 for size in info.shape)
    feeds = {info.name: images(*shape)}
    outputs = [np.asarray(value) for value in execute.forward(graph)({}, feeds)]
    assert relative_error(outputs, run_ort(data, feeds)) < 1e-4
