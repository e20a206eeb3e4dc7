"""Pooling in JAX, layout NCHW, with ONNX's rounding and counting rules."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from search.graph.ir import Node
from search.graph.lower_conv import pads_of


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
