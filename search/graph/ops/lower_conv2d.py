"""2-D convolutions of floats in JAX, each the way that runs fastest on a CPU, forward and backward.

Inside, the layout is NHWC with kernels HWIO: XLA's CPU convolutions and products want channels last, and the transposes of
neighbours cancel (see `channels_last`). Measured on AVX-512, XLA's own convolution is at 40 to 100 GMAC/s, except
that depthwise kernels are 40 times and maps of a few pixels 100 times slower; these become shifted multiplies and
matrix products.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np

from search.graph.ir import Node
from search.graph.lazy_jax import is_traced, jax, jnp, lax, with_gradient
from search.graph.ops.lower import Inputs, Lower, Value

TINY_MAP = 4
"""Up to so many output positions a convolution is one matrix product."""
NARROW = 16
"""Up to so many output channels leave half of a core's vector registers empty."""
PARTIAL_SUMS = 8
"""The batch is added up in so many slices first: XLA's loops are fast over channels, not over what they sum."""


def to_last(x: jax.Array) -> jax.Array:
    """(N, C, H, W) to (N, H, W, C)."""
    return jnp.transpose(x, (0, 2, 3, 1))


def to_first(x: jax.Array) -> jax.Array:
    """(N, H, W, C) to (N, C, H, W)."""
    return jnp.transpose(x, (0, 3, 1, 2))


def channels_last(lower: Lower) -> Lower:
    """A function of elements, computed in NHWC where its traced operand is an image, so that transposes cancel."""

    def wrapped(node: Node, inputs: Inputs) -> Value:
        if not any(is_traced(value) and value.ndim == 4 for value in inputs):
            return lower(node, inputs)
        if any(getattr(value, "ndim", 0) > 4 for value in inputs):
            return lower(node, inputs)
        result = lower(node, [_operand_last(value) for value in inputs])
        if isinstance(result, tuple):
            return tuple(to_first(value) for value in result)
        return to_first(result)

    return wrapped


def _operand_last(value: Value) -> Value:
    """An operand that broadcasts against (N, C, H, W), for (N, H, W, C)."""
    if getattr(value, "ndim", 0) == 0:
        return value
    return value.reshape((1,) * (4 - value.ndim) + value.shape).transpose(0, 2, 3, 1)


@dataclasses.dataclass(frozen=True)
class Window:
    """How a kernel moves over an image (H, W): everything that is static about it."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]

    def output(self, size: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of what an image (H, W) gives."""
        h, w = (
            (n + sum(p) - (k - 1) * d - 1) // s + 1
            for n, k, s, d, p in zip(size, self.kernel, self.strides, self.dilations, self.pads, strict=True)
        )
        return h, w

    def padded(self, x: jax.Array, fill: float = 0.0) -> jax.Array:
        """The image (N, H, W, C) with its border."""
        if not any(map(any, self.pads)):
            return x
        return jnp.pad(x, ((0, 0), *self.pads, (0, 0)), constant_values=fill)

    def taps(self, padded: jax.Array) -> list[jax.Array]:
        """The views (N, H_out, W_out, C) of a padded image, one a kernel tap."""
        return [lax.slice(padded, *limits) for limits in self._slices(padded.shape)]

    def _slices(self, shape: tuple[int, ...]) -> list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
        reach = [(k - 1) * d for k, d in zip(self.kernel, self.dilations, strict=True)]
        sizes = [(n - r - 1) // s + 1 for n, r, s in zip(shape[1:3], reach, self.strides, strict=True)]
        slices = []
        for tap in np.ndindex(*self.kernel):
            starts = [t * d for t, d in zip(tap, self.dilations, strict=True)]
            stops = [a + (n - 1) * s + 1 for a, n, s in zip(starts, sizes, self.strides, strict=True)]
            slices.append(((0, *starts, 0), (shape[0], *stops, shape[3]), (1, *self.strides, 1)))
        return slices

    def spread(self, tap: int, y: jax.Array, size: tuple[int, ...]) -> jax.Array:
        """The transpose of one tap's view: y (N, H_out, W_out, C) back where it was read, zeros elsewhere, unpadded."""
        row, column = divmod(tap, self.kernel[1])
        config = [(0, 0, 0)]
        for axis, place in enumerate((row, column)):
            before, after = self.pads[axis]
            start, stride = place * self.dilations[axis], self.strides[axis]
            full = size[axis] + before + after
            reached = start + (y.shape[1 + axis] - 1) * stride + 1
            config.append((start - before, full - reached - after, stride - 1))
        return lax.pad(y, np.zeros((), y.dtype), [*config, (0, 0, 0)])


def conv2d(x: jax.Array, weight: jax.Array, bias: jax.Array | None, window: Window, groups: int) -> jax.Array:
    """Convolve x (N, C, H, W) with weight (M, C / groups, kh, kw), bias (M,) to (N, M, H_out, W_out)."""
    image, kernel = to_last(x), jnp.transpose(weight, (2, 3, 1, 0))
    y = _choose(image.shape, kernel.shape, window, groups)(image, kernel)
    return to_first(y if bias is None else y + bias)


def _choose(
    image: tuple[int, ...], kernel: tuple[int, ...], window: Window, groups: int
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """How to convolve an image (N, H, W, C) with a kernel (kh, kw, C / groups, M)."""
    if groups == 1 and window.kernel == (1, 1):
        return functools.partial(_pointwise, window=window)
    if groups == image[3] == kernel[3]:
        return functools.partial(_depthwise, window=window)
    if groups == 1 and math.prod(window.output(image[1:3])) <= TINY_MAP:
        return functools.partial(_tiny, window=window)
    if groups == 1 and _in_pairs(window, image, kernel):
        return functools.partial(_narrow, window=window)
    return functools.partial(_plain, window=window, groups=groups)


def _plain(x: jax.Array, kernel: jax.Array, window: Window, groups: int = 1) -> jax.Array:
    """XLA's own convolution."""
    return lax.conv_general_dilated(
        x, kernel, window.strides, window.pads, rhs_dilation=window.dilations,
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups,
    )  # fmt: skip


def _in_pairs(window: Window, image: tuple[int, ...], kernel: tuple[int, ...]) -> bool:
    """Whether few channels come out of a kernel that moves by one, to a map of even width."""
    plain = window.strides == window.dilations == (1, 1) and window.output(image[1:3])[1] % 2 == image[2] % 2 == 0
    return plain and kernel[3] <= 2 * NARROW and all(p <= k - 1 for p, k in _reaches(window))


def _reaches(window: Window) -> list[tuple[int, int]]:
    return [(max(pads), k) for pads, k in zip(window.pads, window.kernel, strict=True)]


def _pairs(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """Two neighbouring columns of the output at once: twice the channels for 4 / 3 of the products of a 3x3 kernel."""
    both = jnp.concatenate([jnp.pad(kernel, ((0, 0), (i, 1 - i), (0, 0), (0, 0))) for i in (0, 1)], axis=3)
    height, width = window.output(x.shape[1:3])
    y = _plain(x, both, dataclasses.replace(window, kernel=(window.kernel[0], window.kernel[1] + 1), strides=(1, 2)))
    return y.reshape(len(x), height, width, kernel.shape[3])


def _narrow_forward(x: jax.Array, kernel: jax.Array, window: Window) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _narrow(x, kernel, window), (x, kernel)


def _narrow_backward(window: Window, saved: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    to_kernel = _plain if kernel.shape[3] <= NARROW else _pairs
    pads = [(k - 1 - p[0], k - 1 - p[1]) for k, p in zip(window.kernel, window.pads, strict=True)]
    back = dataclasses.replace(window, pads=tuple(pads))
    dx = (_pairs if kernel.shape[2] <= NARROW else _plain)(dy, jnp.flip(kernel, (0, 1)).swapaxes(2, 3), back)
    return dx, jax.vjp(lambda k: to_kernel(x, k, window), kernel)[1](dy)[0]


@with_gradient(_narrow_forward, _narrow_backward, static=(2,))
def _narrow(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """A convolution to few channels; what fills the registers best differs between it and its gradients."""
    return (_pairs if kernel.shape[3] <= NARROW else _plain)(x, kernel, window)


def _pointwise(x: jax.Array, kernel: jax.Array, *, window: Window) -> jax.Array:
    """A matrix product."""
    x = window.padded(x)[:, :: window.strides[0], :: window.strides[1]]
    return (x.reshape(-1, x.shape[3]) @ kernel[0, 0]).reshape(*x.shape[:3], -1)


def _tiny(x: jax.Array, kernel: jax.Array, *, window: Window) -> jax.Array:
    """A matrix product of gathered taps, though many lie in the padding: leaving those out costs more in copies."""
    columns = jnp.concatenate(window.taps(window.padded(x)), axis=3)
    y = columns.reshape(-1, columns.shape[3]) @ kernel.reshape(-1, kernel.shape[3])
    return y.reshape(*columns.shape[:3], -1)


def _depthwise(x: jax.Array, kernel: jax.Array, *, window: Window) -> jax.Array:
    return _depthwise_taps(x, kernel.reshape(-1, kernel.shape[3]), window)


def _depthwise_forward(x: jax.Array, weights: jax.Array, window: Window) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    return _depthwise_taps(x, weights, window), (x, weights)


def _depthwise_backward(window: Window, saved: tuple[jax.Array, ...], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weights = saved
    size = x.shape[1:3]
    dx = functools.reduce(jnp.add, [window.spread(i, dy * weights[i], size) for i in range(len(weights))])
    return dx, jnp.stack([_summed_product(view, dy) for view in window.taps(window.padded(x))])


def _summed_product(a: jax.Array, b: jax.Array) -> jax.Array:
    """Sum over all but the channels of a * b, both (N, H, W, C)."""
    slices = math.gcd(PARTIAL_SUMS, len(a))
    size = len(a) // slices
    parts = [a[i * size : (i + 1) * size] * b[i * size : (i + 1) * size] for i in range(slices)]
    rows = functools.reduce(jnp.add, parts).reshape(-1, a.shape[3])
    return jnp.ones(len(rows), rows.dtype) @ rows


@with_gradient(_depthwise_forward, _depthwise_backward, static=(2,))
def _depthwise_taps(x: jax.Array, weights: jax.Array, window: Window) -> jax.Array:
    """Image (N, H, W, C), weights (taps, C): shifted multiplies, which XLA runs as one loop."""
    views = window.taps(window.padded(x))
    return functools.reduce(jnp.add, [view * weights[i] for i, view in enumerate(views)])


def max_pool2d(x: jax.Array, window: Window) -> jax.Array:
    """Largest of every window: x (N, C, H, W). Ceil-mode overhang is padding."""
    return to_first(_max_taps(to_last(x), window))


def _max_forward(x: jax.Array, window: Window) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = _max_taps(x, window)
    return y, (x, y)


def _max_backward(window: Window, saved: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array]:
    """The first largest element of a window gets its gradient."""
    x, y = saved
    taken = jnp.zeros(y.shape, bool)
    parts = []
    for tap, view in enumerate(window.taps(window.padded(x, -np.inf))):
        hit = (view == y) & ~taken
        taken = taken | hit
        parts.append(window.spread(tap, jnp.where(hit, dy, np.zeros((), dy.dtype)), x.shape[1:3]))
    return (functools.reduce(jnp.add, parts),)


@with_gradient(_max_forward, _max_backward, static=(1,))
def _max_taps(x: jax.Array, window: Window) -> jax.Array:
    return functools.reduce(jnp.maximum, window.taps(window.padded(x, -np.inf)))


def _relu_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = relu(x)
    return y, y


def _relu_backward(y: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    return (jnp.where(y > 0, dy, np.zeros((), dy.dtype)),)


@with_gradient(_relu_forward, _relu_backward)
def relu(x: jax.Array) -> jax.Array:
    """max(x, 0). Its gradient needs only the output, which the next layer keeps anyway."""
    return jnp.where(x < 0, np.zeros((), x.dtype), x)
