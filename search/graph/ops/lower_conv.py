"""Convolutions of any rank in JAX. Layout NCHW; weights OIHW. Images of floats go the fast way of `lower_conv2d`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from search.graph.ir import Node
from search.graph.lazy_jax import jax, jnp, lax
from search.graph.ops.lower_conv2d import Window, conv2d


def pads_of(node: Node, input_hw: Sequence[int], kernel: Sequence[int]) -> list[tuple[int, int]]:
    """Padding (before, after) of every spatial axis, with ``auto_pad`` resolved."""
    rank = len(kernel)
    strides = node.get("strides", [1] * rank)
    dilations = node.get("dilations", [1] * rank)
    auto = node.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        flat = node.get("pads", [0] * (2 * rank))
        return [(int(flat[i]), int(flat[i + rank])) for i in range(rank)]
    if auto == "VALID":
        return [(0, 0)] * rank
    pads = []
    for size, k, stride, dilation in zip(input_hw, kernel, strides, dilations, strict=True):
        total = max((math.ceil(size / stride) - 1) * stride + (k - 1) * dilation + 1 - size, 0)
        small, large = total // 2, total - total // 2
        pads.append((small, large) if auto == "SAME_UPPER" else (large, small))
    return pads


def shifted_windows(
    x: jax.Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[jax.Array]:
    """The k*k strided views of a padded input ``x`` (N, C, H, W), one a kernel tap, each (N, C, H_out, W_out)."""
    sizes = [
        (x.shape[2 + i] - (k - 1) * d - 1) // s + 1
        for i, (k, s, d) in enumerate(zip(kernel, strides, dilations, strict=True))
    ]
    views = []
    for tap in np.ndindex(*kernel):
        starts = [t * d for t, d in zip(tap, dilations, strict=True)]
        stops = [a + (n - 1) * s + 1 for a, n, s in zip(starts, sizes, strides, strict=True)]
        views.append(lax.slice(x, (0, 0, *starts), (*x.shape[:2], *stops), (1, 1, *strides)))
    return views


def conv(node: Node, x: jax.Array, weight: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    """ONNX ``Conv``: x (N, C, *spatial), weight (M, C/groups, *kernel), bias (M,)."""
    kernel = weight.shape[2:]
    strides = tuple(node.get("strides", [1] * len(kernel)))
    dilations = tuple(node.get("dilations", [1] * len(kernel)))
    pads = pads_of(node, x.shape[2:], kernel)
    groups = int(node.get("group", 1))
    if weight.ndim == 4 and jnp.issubdtype(x.dtype, jnp.floating):
        return conv2d(x, weight, bias, Window(kernel, strides, dilations, tuple(pads)), groups)
    y = lax.conv_general_dilated(x, weight, strides, pads, rhs_dilation=dilations, feature_group_count=groups)
    return y if bias is None else y + bias.reshape(1, -1, *[1] * len(kernel))


def conv_transpose(node: Node, x: jax.Array, weight: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    """ONNX ``ConvTranspose``: weight (C, M/groups, *kernel), as a convolution of the input spread by its strides."""
    kernel = weight.shape[2:]
    rank = len(kernel)
    strides = tuple(node.get("strides", [1] * rank))
    dilations = tuple(node.get("dilations", [1] * rank))
    groups = int(node.get("group", 1))
    extra = node.get("output_padding", [0] * rank)
    full = [(x.shape[2 + i] - 1) * strides[i] + extra[i] + (kernel[i] - 1) * dilations[i] + 1 for i in range(rank)]
    begin, end = _transpose_pads(node, x, full, strides)
    split = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    flipped = jnp.flip(jnp.swapaxes(split, 1, 2), axis=tuple(range(3, 3 + rank)))
    flipped = flipped.reshape(-1, weight.shape[0] // groups, *kernel)
    reach = [(kernel[i] - 1) * dilations[i] for i in range(rank)]
    pads = [(reach[i] - begin[i], reach[i] - end[i] + extra[i]) for i in range(rank)]
    y = lax.conv_general_dilated(
        x, flipped, [1] * rank, pads, lhs_dilation=strides, rhs_dilation=dilations, feature_group_count=groups
    )
    return y if bias is None else y + bias.reshape(1, -1, *[1] * rank)


def _transpose_pads(node: Node, x: jax.Array, full: list[int], strides: tuple[int, ...]) -> tuple[list[int], list[int]]:
    rank = len(full)
    wanted = node.get("output_shape")
    auto = node.get("auto_pad", "NOTSET")
    if wanted is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [x.shape[2 + i] * strides[i] for i in range(rank)]
    if wanted is None:
        flat = node.get("pads", [0] * (2 * rank)) if auto in ("NOTSET", "") else [0] * (2 * rank)
        return list(flat[:rank]), list(flat[rank:])
    total = [full[i] - wanted[-rank + i] for i in range(rank)]
    small = [t // 2 for t in total]
    large = [t - s for t, s in zip(total, small, strict=True)]
    return (small, large) if auto == "SAME_UPPER" else (large, small)
