"""Fast convolutions and pools against XLA's own, forward and backward."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from search.graph.onnx import read
from search.graph.ops.lower_conv2d import Window, conv2d, max_pool2d, relu
from search.graph.run import execute
from tests.search.graph.nets import images, relative_error, resnet, run_ort

CASES = {
    "pointwise": ((3, 6, 5, 7), (4, 6, 1, 1), (1, 1), (1, 1), ((0, 0), (0, 0)), 1),
    "pointwise, strided and padded": ((2, 6, 5, 7), (4, 6, 1, 1), (2, 3), (1, 1), ((1, 0), (0, 2)), 1),
    "depthwise": ((6, 5, 8, 9), (5, 1, 3, 3), (2, 1), (1, 1), ((1, 0), (1, 1)), 5),
    "depthwise, dilated": ((8, 4, 9, 8), (4, 1, 3, 2), (1, 2), (2, 3), ((2, 2), (0, 1)), 4),
    "tiny map": ((3, 6, 2, 2), (7, 6, 3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)), 1),
    "tiny map, strided": ((3, 6, 4, 4), (7, 6, 3, 3), (2, 2), (1, 1), ((1, 1), (1, 1)), 1),
    "narrow": ((2, 5, 6, 8), (7, 5, 3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)), 1),
    "narrow, lopsided": ((2, 5, 6, 8), (7, 5, 3, 5), (1, 1), (1, 1), ((0, 2), (4, 0)), 1),
    "less narrow": ((2, 20, 6, 8), (24, 20, 3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)), 1),
    "wide": ((2, 40, 5, 5), (40, 40, 3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)), 1),
    "grouped": ((2, 8, 7, 7), (12, 4, 3, 3), (2, 2), (1, 1), ((1, 1), (1, 1)), 2),
    "two outputs a channel": ((2, 4, 7, 7), (8, 1, 3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)), 4),
}


@pytest.mark.parametrize("name", CASES)
def test_convolution_and_its_gradients_equal_xla(name: str) -> None:
    """Every way to convolve gives what `lax.conv_general_dilated` gives in NCHW, and the same gradients."""
    x_shape, w_shape, strides, dilations, pads, groups = CASES[name]
    x, w, b = images(*x_shape), images(*w_shape, seed=2), images(w_shape[0], seed=3)
    window = Window(w_shape[2:], strides, dilations, pads)

    def ours(x: jax.Array, w: jax.Array, b: jax.Array) -> jax.Array:
        return conv2d(x, w, b, window, groups)

    def plain(x: jax.Array, w: jax.Array, b: jax.Array) -> jax.Array:
        y = lax.conv_general_dilated(x, w, strides, pads, rhs_dilation=dilations, feature_group_count=groups)
        return y + b.reshape(1, -1, 1, 1)

    y, back = jax.vjp(ours, x, w, b)
    expected, expected_back = jax.vjp(plain, x, w, b)
    dy = jnp.asarray(images(*expected.shape, seed=4))
    for actual, wanted in zip((y, *back(dy)), (expected, *expected_back(dy)), strict=True):
        assert relative_error([np.asarray(actual)], [np.asarray(wanted)]) < 1e-5


@pytest.mark.parametrize(("kernel", "strides", "pads"), [(3, 2, ((1, 1), (1, 1))), (2, 2, ((0, 0), (0, 1)))])
def test_max_pool_and_its_gradient_equal_xla(
    kernel: int, strides: int, pads: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    """The pool and its gradient are those of `lax.reduce_window`; where values tie, the first takes the gradient."""
    x = np.round(images(2, 3, 8, 9) * 2)  # ties
    window = Window((kernel, kernel), (strides, strides), (1, 1), pads)

    def plain(x: jax.Array) -> jax.Array:
        sizes, steps = (1, 1, kernel, kernel), (1, 1, strides, strides)
        y: jax.Array = lax.reduce_window(x, -np.inf, lax.max, sizes, steps, ((0, 0), (0, 0), *pads))
        return y

    y, back = jax.vjp(lambda x: max_pool2d(x, window), x)
    expected, expected_back = jax.vjp(plain, x)
    np.testing.assert_array_equal(y, expected)
    dy = jnp.asarray(images(*expected.shape, seed=4))
    np.testing.assert_allclose(back(dy)[0], expected_back(dy)[0], rtol=1e-6)


def test_relu_keeps_what_is_not_a_number() -> None:
    """As in ONNX Runtime, a NaN passes; the gradient is that of max(x, 0)."""
    x = jnp.array([-1.0, 0.0, 2.0, jnp.nan])
    np.testing.assert_array_equal(relu(x), jnp.array([0.0, 0.0, 2.0, jnp.nan]))
    np.testing.assert_array_equal(jax.grad(lambda x: relu(x).sum())(x[:3]), jnp.array([0.0, 0.0, 1.0]))


def test_packed_parameters_compute_the_same() -> None:
    """Packing changes the layout of kernels only: unpacked they are the file's, and the engine takes either."""
    data = resnet().bytes()
    graph = read.load(data)
    parameters = {name: graph.initializers[name] for name in execute.trainable(graph)}
    packed = execute.pack(graph, parameters)
    for name, value in execute.unpack(graph, packed.arrays).items():
        np.testing.assert_array_equal(value, parameters[name])
    engine, x = execute.Engine(graph, batch=4), images(6, 3, 8, 8)
    assert relative_error(engine(packed, {"x": x}), run_ort(data, {"x": x})) < 1e-5
    assert relative_error(engine(parameters, {"x": x}), engine(packed, {"x": x})) == 0
