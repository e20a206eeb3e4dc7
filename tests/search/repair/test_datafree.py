"""Synthetic inputs: closer to what the network remembers than noise is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from search.graph.onnx.read import load
from search.repair.datafree import leaves, synthesise
from tests.search.graph.nets import Net, images, run_ort


def test_inputs_move_towards_the_statistics_of_batch_norm() -> None:
    """The mean and deviation before a norm come closer to what it stores, for inputs of the same shape."""
    net = Net()
    net.classifier(net.op("Relu", net.batch_norm("x", 3)), 3)
    graph = load(net.bytes())
    assert any(node.op == "BatchNormalization" for node in graph.nodes)
    mean, variance = (graph.initializers[name] for name in graph.nodes[0].inputs[3:5])

    def distance(x: np.ndarray) -> float:
        found = np.abs(x.mean((0, 2, 3)) - mean) + np.abs(x.std((0, 2, 3)) - np.sqrt(variance))
        return float(found.sum())

    noise = {"x": images(96, 3, 8, 8)}
    inputs = synthesise(graph, noise, np.random.default_rng(0))
    assert inputs["x"].shape == noise["x"].shape
    assert distance(inputs["x"]) < 0.5 * distance(noise["x"])


def test_every_class_is_answered_with_more_confidence() -> None:
    """Without a norm, the network's answers become surer, and more than one class is among them."""
    net = Net()
    net.gemm(net.op("Flatten", net.op("Relu", net.conv("x", 3, 8))), 512, 4)
    model = net.bytes()
    rng = np.random.default_rng(0)
    start = leaves((64, 3, 8, 8), np.random.default_rng(0))
    inputs = synthesise(load(model), {"x": start}, rng)

    def confidence(x: np.ndarray) -> float:
        scores = run_ort(model, {"x": x})[0]
        p = np.exp(scores - scores.max(1, keepdims=True))
        return float((p.max(1) / p.sum(1)).mean())

    assert confidence(inputs["x"]) > confidence(start)
    assert len(np.unique(run_ort(model, inputs)[0].argmax(1))) > 1


def test_leaves_have_the_spectrum_of_photographs() -> None:
    """Power falls with the square of the frequency (Field 1987), a quarter at twice the frequency; the deviation is one."""
    x = leaves((1000, 1, 32, 32), np.random.default_rng(0))
    power = np.square(np.abs(np.fft.fft2(x))).mean((0, 1))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(32), np.fft.fftfreq(32)))
    rings = [power[(frequency > f - 1 / 64) & (frequency <= f + 1 / 64)].mean() for f in (2 / 32, 4 / 32, 8 / 32)]
    assert abs(x.std() - 1) < 1e-3
    for low, high in itertools.pairwise(rings):
        assert 2.5 < low / high < 7  # photographs scatter as much; white noise has 1


def test_the_channels_of_leaves_are_alike() -> None:
    """Grey has a deviation of one and a tint a quarter of that, so that two channels correlate by 1 / (1 + 1 / 16)."""
    x = leaves((300, 3, 16, 16), np.random.default_rng(1)).transpose(1, 0, 2, 3).reshape(3, -1)
    assert np.corrcoef(x)[0, 1] == pytest.approx(16 / 17, abs=0.02)
