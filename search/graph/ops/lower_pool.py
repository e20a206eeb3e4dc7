"""Pooling in JAX, layout NCHW, with ONNX's rounding and counting rules."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from search.graph.ir import Node
from search.graph.lazy_jax import jax, jnp, lax
from search.graph.ops.lower_conv import pads_of, shifted_windows
from search.graph.ops.lower_conv2d import Window, max_pool2d


def _window(
    node: Node, x: jax.Array
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], list[tuple[int, int]]]:
    """Window, strides, dilations and padding; ``ceil_mode`` becomes padding after."""
    kernel = tuple(node.get("kernel_shape"))
    strides = tuple(node.get("strides", [1] * len(kernel)))
    dilations = tuple(node.get("dilations", [1] * len(kernel)))
    pads = pads_of(node, x.shape[2:], kernel)
    if node.get("ceil_mode", 0):
        pads = [
            _ceil_pad(size, k, s, d, p)
            for size, k, s, d, p in zip(x.shape[2:], kernel, strides, dilations, pads, strict=True)
        ]
    return (1, 1, *kernel), (1, 1, *strides), (1, 1, *dilations), [(0, 0), (0, 0), *pads]


def _ceil_pad(size: int, kernel: int, stride: int, dilation: int, pad: tuple[int, int]) -> tuple[int, int]:
    span = size + sum(pad) - dilation * (kernel - 1) - 1
    out = math.ceil(span / stride) + 1
    if (out - 1) * stride >= size + pad[0]:  # a window may not start in the padding after the input
        out -= 1
    return pad[0], max(pad[1], (out - 1) * stride + dilation * (kernel - 1) + 1 - size - pad[0])


def max_pool(node: Node, x: jax.Array) -> Any:
    """ONNX ``MaxPool`` (first output)."""
    window, strides, dilations, pads = _window(node, x)
    if x.ndim == 4 and jnp.issubdtype(x.dtype, jnp.floating) and min(itertools.chain(*pads)) >= 0:
        return max_pool2d(x, Window(window[2:], strides[2:], dilations[2:], tuple(pads[2:])))
    lowest = -np.inf if jnp.issubdtype(x.dtype, jnp.floating) else np.iinfo(x.dtype).min
    return lax.reduce_window(x, np.array(lowest, x.dtype), lax.max, window, strides, pads, window_dilation=dilations)


def average_pool(node: Node, x: jax.Array) -> Any:
    """ONNX ``AveragePool``; padding counts only with ``count_include_pad``, ceil-mode overhang never does."""
    window, strides, dilations, pads = _window(node, x)
    zero = np.array(0, x.dtype)
    total = lax.reduce_window(x, zero, lax.add, window, strides, pads, window_dilation=dilations)
    ones = np.ones((1, 1, *x.shape[2:]), x.dtype)
    if node.get("count_include_pad", 0):
        declared = [(0, 0), (0, 0), *pads_of(node, x.shape[2:], window[2:])]
        ones = np.pad(ones, declared, constant_values=1)
        pads = [(before - d[0], after - d[1]) for (before, after), d in zip(pads, declared, strict=True)]
    return total / lax.reduce_window(jnp.asarray(ones), zero, lax.add, window, strides, pads, window_dilation=dilations)


def global_pool(x: jax.Array, reduce: str) -> Any:
    """ONNX ``GlobalAveragePool`` and ``GlobalMaxPool``."""
    axes = tuple(range(2, x.ndim))
    return x.mean(axes, keepdims=True) if reduce == "mean" else x.max(axes, keepdims=True)


def max_pool_with_indices(node: Node, x: jax.Array) -> Any:
    """ONNX ``MaxPool`` with the flat position of every maximum in the whole input."""
    window, strides, dilations, pads = _window(node, x)
    lowest = -np.inf if jnp.issubdtype(x.dtype, jnp.floating) else np.iinfo(x.dtype).min
    shape = x.shape[2:]
    flat = np.arange(int(np.prod(shape))).reshape(shape[::-1] if node.get("storage_order", 0) else shape)
    flat = flat.transpose() if node.get("storage_order", 0) else flat
    padded = jnp.pad(x, pads, constant_values=np.array(lowest, x.dtype))
    places = jnp.pad(jnp.asarray(flat)[None, None], pads, constant_values=-1)
    values = jnp.stack(shifted_windows(padded, window[2:], strides[2:], dilations[2:]))
    taps = jnp.stack(shifted_windows(places, window[2:], strides[2:], dilations[2:]))
    best = values.argmax(0)[None]
    index = jnp.take_along_axis(jnp.broadcast_to(taps, values.shape), best, axis=0)[0]
    start = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *[1] * len(shape)) * int(np.prod(shape))
    return values.max(0), (index + start).astype(jax.dtypes.canonicalize_dtype(np.int64))


def max_unpool(node: Node, inputs: Any) -> Any:
    """ONNX ``MaxUnpool``: every value goes back to the flat position it came from, zeros elsewhere."""
    x, index = jnp.asarray(inputs[0]), inputs[1]
    rank = x.ndim - 2
    kernel, strides = node.get("kernel_shape"), node.get("strides", [1] * rank)
    pads = node.get("pads", [0] * 2 * rank)
    natural = [(x.shape[2 + i] - 1) * strides[i] + kernel[i] - pads[i] - pads[i + rank] for i in range(rank)]
    small = (*x.shape[:2], *natural)
    y = jnp.zeros(math.prod(small), x.dtype).at[index.reshape(-1)].set(x.reshape(-1)).reshape(small)
    if len(inputs) < 3 or inputs[2] is None:
        return y
    wanted = [int(v) for v in np.asarray(inputs[2])]
    return jnp.pad(y, [(0, after - before) for before, after in zip(small, wanted, strict=True)])


def lp_pool(node: Node, x: jax.Array) -> Any:
    """ONNX ``LpPool``: the p-norm of every window."""
    window, strides, dilations, pads = _window(node, x)
    order = np.asarray(node.get("p", 2), x.dtype)
    powers = jnp.abs(x) ** order
    total = lax.reduce_window(powers, np.array(0, x.dtype), lax.add, window, strides, pads, window_dilation=dilations)
    return total ** (1 / order)


def global_lp_pool(node: Node, x: jax.Array) -> Any:
    """ONNX ``GlobalLpPool``."""
    order = np.asarray(node.get("p", 2), x.dtype)
    return (jnp.abs(x) ** order).sum(tuple(range(2, x.ndim)), keepdims=True) ** (1 / order)


def col2im(node: Node, inputs: Any) -> Any:
    """ONNX ``Col2Im``: sums overlapping blocks (N, C * block, L) into an image (N, C, *size)."""
    x = jnp.asarray(inputs[0])
    size, block = ([int(v) for v in np.asarray(value)] for value in inputs[1:3])
    rank = len(size)
    strides, dilations = node.get("strides", [1] * rank), node.get("dilations", [1] * rank)
    pads = node.get("pads", [0] * 2 * rank)
    padded = [size[i] + pads[i] + pads[i + rank] for i in range(rank)]
    counts = [(padded[i] - dilations[i] * (block[i] - 1) - 1) // strides[i] + 1 for i in range(rank)]
    parts = x.reshape(x.shape[0], -1, math.prod(block), *counts)
    image = jnp.zeros((*parts.shape[:2], *padded), x.dtype)
    for tap, place in enumerate(np.ndindex(*block)):
        where = tuple(
            slice(place[i] * dilations[i], place[i] * dilations[i] + (counts[i] - 1) * strides[i] + 1, strides[i])
            for i in range(rank)
        )
        image = image.at[(slice(None), slice(None), *where)].add(parts[:, :, tap])
    return image[(slice(None), slice(None), *(slice(pads[i], pads[i] + size[i]) for i in range(rank)))]
