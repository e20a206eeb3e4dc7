"""Gradient checkpointing: the same values and gradients as without, in less memory."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from search.graph.ir import Graph
from search.graph.onnx.read import load
from search.graph.run.execute import forward, needed, trainable
from search.graph.run.segments import checkpointed, stretches
from tests.search.graph.nets import Net, images


def residual(blocks: int) -> Graph:
    """Residual blocks with batch norm, so that values live across stretches."""
    net = Net()
    x = net.op("Relu", net.conv("x", 3, 8))
    for _ in range(blocks):
        y = net.op("Relu", net.batch_norm(net.conv(x, 8, 8), 8))
        x = net.op("Relu", net.op("Add", net.conv(y, 8, 8), x))
    net.classifier(x, 8)
    return load(net.bytes())


def shaped() -> Graph:
    """A reshape whose target is computed from the input's shape: constants that pass from stretch to stretch."""
    net = Net()
    x = net.op("Relu", net.conv("x", 3, 8))
    batch = net.op("Slice", net.op("Shape", x), *[net.constant([i], np.int64) for i in (0, 1)])
    target = net.op("Concat", batch, net.constant([-1], np.int64), axis=0)
    net.gemm(net.op("Reshape", net.op("Sigmoid", net.op("Neg", x)), target), 512, 4)
    return load(net.bytes())


@pytest.mark.parametrize(
    "graph", [residual(1), residual(5), shaped()], ids=["one block", "five blocks", "computed shape"]
)
def test_values_and_gradients_are_those_of_the_whole_graph(graph: Graph) -> None:
    """To rounding, for every weight; an inner value may be asked for as well."""
    names = [graph.nodes[0].outputs[0], *(info.name for info in graph.outputs)]
    parameters = {name: jnp.asarray(graph.initializers[name]) for name in trainable(graph)}
    feeds = {"x": images(4, 3, 8, 8)}

    def loss(run: object) -> object:
        return lambda p: sum((value**2).mean() for value in run(p, feeds))  # type: ignore[operator]

    expected, wanted = jax.value_and_grad(loss(forward(graph, outputs=names)))(parameters)  # type: ignore[arg-type]
    found, gradient = jax.value_and_grad(loss(checkpointed(graph, outputs=names)))(parameters)  # type: ignore[arg-type]
    assert np.allclose(found, expected, rtol=1e-5)
    for name in parameters:
        assert np.allclose(gradient[name], wanted[name], rtol=1e-3, atol=1e-5 * float(abs(wanted[name]).max())), name


def test_stretches_are_all_nodes_once_and_keep_what_is_read_later() -> None:
    """In order; a value that only its own stretch reads is not kept."""
    graph = residual(3)
    outputs = [info.name for info in graph.outputs]
    parts = stretches(needed(graph, outputs), outputs)
    assert [node for nodes, _ in parts for node in nodes] == list(graph.nodes)
    for i, (nodes, kept) in enumerate(parts):
        made = {name for node in nodes for name in node.outputs}
        later = {name for others, _ in parts[i + 1 :] for node in others for name in node.inputs}
        assert set(kept) == made & (later | set(outputs))


def test_a_deep_network_needs_less_memory() -> None:
    """As the compiler states it: under two thirds on 12 blocks, where without stretches every activation is kept."""
    graph = residual(12)
    names = [info.name for info in graph.outputs]
    parameters = {name: graph.initializers[name] for name in trainable(graph)}
    feeds = {"x": images(64, 3, 8, 8)}

    def bytes_of(run: object) -> int:
        gradient = jax.grad(lambda p, x: (run(p, x)[0] ** 2).mean())  # type: ignore[operator]
        return int(jax.jit(gradient).lower(parameters, feeds).compile().memory_analysis().temp_size_in_bytes)

    assert bytes_of(checkpointed(graph, outputs=names)) < 2 / 3 * bytes_of(forward(graph, outputs=names))
