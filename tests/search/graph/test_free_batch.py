"""A batch that the file fixes at 1 is freed inside, exactly."""

from __future__ import annotations

import numpy as np

from search.graph.execute import Engine, trainable
from search.graph.onnx_export import export
from search.graph.onnx_import import load
from tests.search.graph.nets import Net, images, relative_error, run_ort


def fixed() -> Net:
    """A classifier as exporters write it at batch 1: the reshape to rows names the 1."""
    net = Net((1, 3, 8, 8))
    x = net.op("Relu", net.conv("x", 3, 6))
    net.gemm(net.op("Reshape", net.op("GlobalAveragePool", x), net.constant([1, 6])), 6, 5)
    return net


def test_many_samples_at_once_equal_one_by_one() -> None:
    """The engine on eight samples gives what ONNX Runtime gives on each alone, from the original file."""
    model = fixed().bytes()
    graph = load(model)
    x = images(8, 3, 8, 8)
    together = Engine(graph, batch=8)({name: graph.initializers[name] for name in trainable(graph)}, {"x": x})
    alone = [np.concatenate([run_ort(model, {"x": sample[None]})[0] for sample in x])]
    assert relative_error(together, alone) < 1e-5


def test_the_file_still_takes_its_own_batch() -> None:
    """What is written keeps the declared batch and the output."""
    model = fixed().bytes()
    x = images(1, 3, 8, 8)
    assert relative_error(run_ort(export(load(model)), {"x": x}), run_ort(model, {"x": x})) < 1e-6


def test_a_one_that_is_not_the_batch_stays() -> None:
    """A reshape of a value without the batch in front is left alone."""
    net = Net((1, 3, 8, 8))
    x = net.op("Transpose", "x", perm=[1, 0, 2, 3])
    net.op("Reshape", x, net.constant([1, 192]))
    model = net.bytes()
    x_value = images(1, 3, 8, 8)
    assert relative_error(run_ort(export(load(model)), {"x": x_value}), run_ort(model, {"x": x_value})) == 0
