"""Convolutions that ONNX Runtime fused, as it stores them, against the network before fusion and its own answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from search.graph.onnx import read
from search.graph.onnx.write import export
from search.graph.run import execute, fuse
from search.space import surgery
from search.space.blocks import Variant
from search.space.written import written
from tests.search.graph.nets import Net, images, relative_error, resnet, run_ort
from tests.search.space.laws import couple, cut_against_masked, keep_some

DOMAIN = "com.microsoft"
ACTIVATIONS: dict[str, list[float]] = {
    "": [],
    "Relu": [],
    "Tanh": [],
    "Sigmoid": [],
    "LeakyRelu": [0.3],
    "Clip": [-0.2, 0.4],
    "HardSigmoid": [0.4, 0.3],
}


def _stored_by_onnx_runtime(net: Net, path: Path) -> bytes:
    """The file that ONNX Runtime stores after its extended rewrites."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    ort.InferenceSession(net.bytes(), options, providers=["CPUExecutionProvider"])
    return path.read_bytes()


def _kernels(data: bytes) -> tuple[list[tuple[object, ...]], list[str]]:
    """Kernels in any order, and what runs inside any of them: both convolutions before a sum can take it in."""
    graph = read.load(data)
    kernels = fuse.workloads(graph, *execute.shapes(graph, {"x": (1, 3, 8, 8)}))
    return sorted((k.kind, k.macs, k.kernel, k.out_hw) for k in kernels), sorted(op for k in kernels for op in k.fused)


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_answer_is_the_runtimes(activation: str, *, added: bool) -> None:
    """Every activation that the runtime has, with and without something that is added before it."""
    net = Net(("N", 6, 5, 7))
    more = ["x"] if added else []
    said: dict[str, object] = {"activation": activation} if activation else {}
    said |= {"activation_params": ACTIVATIONS[activation]} if ACTIVATIONS[activation] else {}
    weights = net.weight(6, 2, 3, 3), net.weight(6)
    net.op("FusedConv", "x", *weights, *more, domain=DOMAIN, group=3, pads=[1] * 4, **said)
    graph = read.load(net.bytes())
    assert graph.kinds is not None
    assert not graph.kinds.carried
    feeds = {"x": images(2, 6, 5, 7)}
    found = execute.forward(graph)({}, feeds)
    assert relative_error([np.asarray(value) for value in found], run_ort(net.bytes(), feeds)) < 1e-5


def test_a_fused_network_is_the_one_before_fusion(tmp_path: Path) -> None:
    """The same groups and the same kernels; and what is cut computes what is masked."""
    net = resnet(batch_norm=False)
    data = _stored_by_onnx_runtime(net, tmp_path / "fused.onnx")
    assert sum(node.domain == DOMAIN for node in read.load(data).nodes) == 3
    assert [len(group) for group in couple(read.load(data)).prunable] == [
        len(group) for group in couple(read.load(net.bytes())).prunable
    ]
    assert _kernels(data) == _kernels(net.bytes())
    for seed in range(3):
        cut, error, _ = cut_against_masked(data, seed=seed)
        assert error < 1e-5
        assert len(cut) < len(data)


def test_the_written_file_declares_the_sizes_that_it_has(tmp_path: Path) -> None:
    """ONNX Runtime notes the size of every value in its file, and refuses one whose notes contradict the weights."""
    data, feeds = _stored_by_onnx_runtime(resnet(), tmp_path / "fused.onnx"), {"x": images(2, 3, 8, 8)}
    graph = read.load(data)
    groups = couple(graph)
    keep = keep_some(groups)
    params = surgery.mask(graph.initializers, groups, keep)
    patched, _ = written(graph, Variant(graph, groups), keep, params)
    masked = export(graph.with_initializers(params))
    assert relative_error(run_ort(patched.model, feeds), run_ort(masked, feeds)) < 1e-5
    assert len(patched.model) < len(data)


def test_channels_are_cut_with_what_is_added_to_them() -> None:
    """A depthwise kernel goes with its channel and its group count; a sum ties its operands; a constant is cut as well."""
    net = Net((1, 3, 8, 8))
    x = net.conv("x", 3, 8)
    y = net.op("FusedConv", x, net.weight(8, 1, 3, 3), domain=DOMAIN, group=8, pads=[1] * 4)
    y = net.op("FusedConv", y, net.weight(8, 8, 1, 1), net.weight(8), x, domain=DOMAIN, activation="Relu")
    y = net.op("FusedConv", y, net.weight(9, 8, 1, 1), "", net.weight(1, 9, 8, 8), domain=DOMAIN, activation="Tanh")
    net.classifier(y, 9)
    for seed in range(3):
        _, error, groups = cut_against_masked(net.bytes(), seed=seed)
        assert error < 1e-5
    assert [len(group) for group in groups.prunable] == [8, 9]
    assert groups.prunable[0].nodes == ("n_conv0", "n_fusedconv1", "n_fusedconv2", "n_fusedconv3")
