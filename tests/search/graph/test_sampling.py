"""Samples wherever a file has them: every way of running a network equals ONNX Runtime, sample by sample."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
import pytest
from onnx import TensorProto, helper

from search.graph.ir import Graph
from search.graph.onnx.read import load
from search.graph.onnx.write import export
from search.graph.run.execute import Engine, forward, trainable
from search.graph.run.parts import divided, values_of
from search.graph.run.segments import checkpointed
from search.graph.sampling import Sampling
from search.judge.sessions import Session
from tests.search.graph.nets import Array, Net, images, relative_error, run_ort

COUNT = 7
"""Samples: no multiple of any batch below."""
Chunk = Callable[[dict[str, Array]], dict[str, Array]]


def _reshape_to_one() -> tuple[Net, Sampling]:
    """Batch 1, written into a Reshape, as torch's exporter does by default."""
    net = Net((1, 3, 8, 8))
    x = net.conv(net.op("Relu", net.conv("x", 3, 8)), 8, 8, groups=8)
    x = net.op("Reshape", net.op("GlobalAveragePool", net.op("MaxPool", x, kernel_shape=[2, 2])), net.constant([1, -1]))
    net.gemm(x, 8, 5)
    return net, Sampling({"x": 0}, {net.last: 0}, 1)


def _squeezed() -> tuple[Net, Sampling]:
    """One picture in, a plain vector of scores out."""
    net = Net((1, 3, 8, 8))
    x = net.op("Squeeze", net.op("GlobalAveragePool", net.op("Relu", net.conv("x", 3, 8))))
    net.op("MatMul", x, net.weight(8, 5))
    return net, Sampling({"x": 0}, {net.last: None}, 1)


def _four() -> tuple[Net, Sampling]:
    """Exactly four pictures, told apart by a constant of four rows."""
    net = Net((4, 3, 8, 8))
    x = net.op("Reshape", net.op("GlobalAveragePool", net.conv("x", 3, 8)), net.constant([4, 8]))
    net.op("Relu", net.op("Add", net.gemm(x, 8, 5), net.constant([[0.0], [1.0], [2.0], [3.0]], np.float32)))
    return net, Sampling({"x": 0}, {net.last: 0}, 4)


def _time_first() -> tuple[Net, Sampling]:
    """(T, N, F) to scores of the last step, with shapes computed from the input."""
    net = Net(("T", "N", 6))
    y = net.op("LSTM", "x", net.weight(1, 16, 6), net.weight(1, 16, 4), hidden_size=4)
    shape = net.op("Shape", "x")
    sizes = [net.op("Gather", shape, net.constant([i])) for i in (0, 1)]
    target = net.op("Concat", *sizes, net.constant([4]), axis=0)
    last = net.op("Gather", net.op("Reshape", y, target), net.constant(-1), axis=0)
    net.gemm(last, 4, 3)
    return net, Sampling({"x": 1}, {net.last: 0})


def _beside_a_scalar() -> tuple[Net, Sampling]:
    """Scores and one number over everything that is in a run."""
    net = Net(("N", 3, 8, 8))
    x = net.conv("x", 3, 4)
    scores = net.classifier(x, 4)
    level = net.op("ReduceMean", x, keepdims=0)
    return net, Sampling({"x": 0}, {scores: 0, level: None})


def _picture_without_batch() -> tuple[Net, Sampling]:
    """A picture (3, H, W) is one sample."""
    net = Net((3, 8, 8))
    net.classifier(net.conv(net.op("Unsqueeze", "x", net.constant([0])), 3, 8), 8)
    return net, Sampling({"x": None}, {net.last: 0})


def _state_and_rate() -> tuple[Net, Sampling]:
    """A state (2, N, F) that comes back, and a rate of no axis at all that scales the input."""
    net = Net(("N", 6))
    net.inputs.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, [2, "N", 6]))
    net.inputs.append(helper.make_tensor_value_info("rate", TensorProto.FLOAT, []))
    new = net.op("Add", net.op("Mul", "x", "rate"), "h")
    net.gemm(net.op("ReduceMax", net.op("Relu", new), axes=[0], keepdims=0), 6, 3)
    return net, Sampling({"x": 0, "h": 1, "rate": None}, {net.last: 0, new: 1})


CASES = (_reshape_to_one, _squeezed, _four, _time_first, _beside_a_scalar, _picture_without_batch, _state_and_rate)


def _loaded(case: Callable[[], tuple[Net, Sampling]]) -> tuple[bytes, Graph, dict[str, Array]]:
    net, sampling = case()
    model = net.proto(*sampling.outputs).SerializeToString()
    graph = load(model).replace(sampling=sampling)
    sizes = {"T": 5, "N": sampling.chunk}
    shapes = {i.name: [d if isinstance(d, int) else sizes[str(d)] for d in i.shape] for i in graph.inputs}
    samples = {name: sampling.sample_shape(name, shape) for name, shape in shapes.items()}
    return model, graph, {name: images(COUNT, *shape, seed=len(name)) for name, shape in samples.items()}


def _one_by_one(model: bytes, sampling: Sampling, feeds: dict[str, Array]) -> list[Array]:
    """What ONNX Runtime says of each sample in a run in which no other sample is, but for those that the batch wants."""
    parts = []
    for first in range(0, COUNT, sampling.chunk):
        rows = [min(first + i, COUNT - 1) for i in range(sampling.chunk)]
        run = {}
        for name, axis in sampling.inputs.items():
            run[name] = (
                np.asarray(feeds[name][first]) if axis is None else np.stack([feeds[name][row] for row in rows], axis)
            )
        made = dict(zip(sampling.outputs, run_ort(model, run), strict=True))
        parts += [
            [
                value if sampling.outputs[name] is None else value.take(i, sampling.outputs[name])
                for name, value in made.items()
            ]
            for i in range(sampling.chunk)
        ]
    return [np.stack(of_one)[:COUNT] for of_one in zip(*parts, strict=True)]


@pytest.mark.parametrize("case", CASES)
def test_every_way_of_running_equals_the_runtime_sample_by_sample(case: Callable[[], tuple[Net, Sampling]]) -> None:
    """Compiled whole, in stretches, and ONNX Runtime's own batches, of the file and of our view of it."""
    model, graph, feeds = _loaded(case)
    expected = _one_by_one(model, graph.sampling, feeds)
    weights = {name: graph.initializers[name] for name in trainable(graph)}
    names = [info.name for info in graph.outputs]

    assert relative_error(Engine(graph, batch=3)(weights, feeds), expected) < 1e-5
    runs = list(values_of(graph, divided(graph.sampling, feeds, COUNT), names))
    made = [np.stack([run[name] for run in runs]) for name in names]
    whole = (
        [made_of[0] for made_of in made]
        if graph.sampling.native
        else [graph.sampling.samples(name, value, COUNT) for name, value in zip(names, made, strict=True)]
    )
    assert relative_error(whole, expected) < 1e-5
    assert relative_error([np.asarray(v) for v in forward(graph)(weights, feeds)], expected) < 1e-5
    stretched = jax.jit(checkpointed(graph, outputs=names))(weights, feeds)
    assert relative_error([np.asarray(v) for v in stretched], expected) < 1e-5
    assert relative_error(Session(model, graph.sampling)(feeds), expected) < 1e-5
    assert relative_error(Session(export(graph), graph.sampling)(feeds), expected) < 1e-5
