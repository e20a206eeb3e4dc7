"""Synthetic inputs: closer to what the network remembers than noise is."""

from __future__ import annotations

import numpy as np

from search.graph.onnx_import import load
from search.recover.datafree import smooth, synthesise
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
    start = smooth((64, 3, 8, 8), np.random.default_rng(0))
    inputs = synthesise(load(model), {"x": start}, rng)

    def confidence(x: np.ndarray) -> float:
        scores = run_ort(model, {"x": x})[0]
        p = np.exp(scores - scores.max(1, keepdims=True))
        return float((p.max(1) / p.sum(1)).mean())

    assert confidence(inputs["x"]) > confidence(start)
    assert len(np.unique(run_ort(model, inputs)[0].argmax(1))) > 1


def test_noise_has_the_spectrum_of_photographs() -> None:
    """Power falls with the square of the frequency: a quarter at twice the frequency; the deviation is one."""
    x = smooth((400, 1, 32, 32), np.random.default_rng(0))
    power = np.square(np.abs(np.fft.rfft2(x))).mean((0, 1))
    assert abs(x.std() - 1) < 1e-3
    for low, high in (((0, 3), (0, 6)), ((2, 2), (4, 4))):
        assert 3.2 < power[low] / power[high] < 4.8  # 400 draws of an exponential: 5 % deviation of each mean
