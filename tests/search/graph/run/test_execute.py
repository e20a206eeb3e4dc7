"""The JAX engine gives what ONNX Runtime gives, and finite gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from search.graph.onnx import read
from search.graph.run import execute
from search.graph.run.network import Network
from search.wire.errors import InvalidModel
from tests.search.graph.nets import Net, images, relative_error, resnet, run_ort


@pytest.mark.parametrize("batch_norm", [True, False])
def test_the_engine_agrees_with_onnx_runtime(batch_norm: bool) -> None:
    """Seven samples in batches of four: the padding of the last batch is cut off."""
    data = resnet(batch_norm=batch_norm).bytes()
    x = images(7, 3, 8, 8)
    outputs = execute.Engine(read.load(data), batch=4)({}, {"x": x})
    assert relative_error(outputs, run_ort(data, {"x": x})) < 1e-5


@pytest.mark.parametrize(
    ("k", "groups", "c_in", "c_out", "size", "stride"),
    [
        (1, 1, 6, 4, 5, 2),  # pointwise
        (3, 6, 6, 6, 9, 1),  # depthwise
        (5, 6, 6, 6, 9, 2),  # depthwise, strided
        (3, 6, 6, 12, 9, 1),  # depthwise with two outputs a channel
        (3, 3, 6, 9, 7, 1),  # grouped
        (3, 1, 6, 4, 2, 1),  # a map smaller than the kernel
        (3, 1, 6, 4, 11, 2),  # any other
    ],
)
def test_every_lowering_of_a_convolution(k: int, groups: int, c_in: int, c_out: int, size: int, stride: int) -> None:
    """Each of the ways to compute a convolution agrees with ONNX Runtime."""
    net = Net(("N", c_in, size, size))
    net.conv("x", c_in, c_out, k, groups=groups, stride=stride)
    x = images(2, c_in, size, size)
    outputs = execute.Engine(read.load(net.bytes()), batch=2)({}, {"x": x})
    assert relative_error(outputs, run_ort(net.bytes(), {"x": x})) < 1e-5


def test_static_shapes_are_known_without_computing() -> None:
    """Shapes equal those of a run; a Shape chain is a static value."""
    net = Net()
    net.op("Shape", net.conv("x", 3, 4))
    shapes, static = execute.shapes(read.load(net.bytes()), {"x": (1, 3, 8, 8)})
    assert shapes["conv0"] == (1, 4, 8, 8)
    assert static["shape1"].tolist() == [1, 4, 8, 8]


def test_gradients_of_the_module_equal_differences() -> None:
    """The directional derivative of the flax module's loss equals a central difference; every leaf is finite."""
    net = Net()
    y = net.op("Tanh", net.batch_norm(net.conv("x", 3, 6), 6))
    net.classifier(net.op("Add", y, net.conv(net.op("Sigmoid", net.conv(y, 6, 6, groups=6)), 6, 6, 1)), 6)
    network = Network(read.load(net.bytes()))
    x = images(4, 3, 8, 8)

    def loss(module: Network) -> jax.Array:
        return jnp.tanh(module({"x": x})[0]).sum()

    gradient = nnx.grad(loss)(network)
    graph, values = nnx.split(network)
    leaves, structure = jax.tree.flatten(values)
    slopes = jax.tree.leaves(gradient)
    assert all(np.isfinite(slope).all() for slope in slopes)
    random = np.random.default_rng(0)
    direction = [random.standard_normal(leaf.shape).astype(np.float32) for leaf in leaves]

    def at(step: float) -> float:
        moved = [leaf + step * d for leaf, d in zip(leaves, direction, strict=True)]
        return float(loss(nnx.merge(graph, jax.tree.unflatten(structure, moved))))

    expected = (at(1e-3) - at(-1e-3)) / 2e-3
    slope = sum(float((s * d).sum()) for s, d in zip(slopes, direction, strict=True))
    assert slope == pytest.approx(expected, rel=1e-2)  # differences of float32 sums


def test_trainable_names_weights_only() -> None:
    """Constants of arithmetic that are scalars, and shapes, are not weights."""
    net = Net()
    net.op("Mul", net.conv("x", 3, 4), net.constant(0.5, np.float32))
    graph = read.load(net.bytes())
    assert execute.trainable(graph) == ("w0", "w1")


def test_contradicting_shapes_name_the_node() -> None:
    """An input of the wrong shape is reported with the node that met it."""
    graph = read.load(resnet().bytes())
    with pytest.raises(InvalidModel, match="n_conv0"):
        execute.shapes(graph, {"x": (1, 4, 8, 8)})
