"""Convolutions in JAX, each the way that runs fastest on a CPU. Layout NCHW; weights OIHW.

XLA's CPU convolution is 30 times slower than needed on depthwise kernels and 60 times on maps smaller than the kernel,
so these become shifted multiplies and a matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from search.graph.ir import Node


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
    y = _conv(x, weight, strides=strides, pads=pads, dilations=dilations, groups=groups)
    return y if bias is None else y + bias.reshape(1, -1, *[1] * len(kernel))


def _conv(
    x: jax.Array,
    weight: jax.Array,
    *,
    strides: tuple[int, ...],
    pads: list[tuple[int, int]],
    dilations: tuple[int, ...],
    groups: int,
) -> jax.Array:
    kernel = weight.shape[2:]
    plain = len(kernel) == 2 and jnp.issubdtype(x.dtype, jnp.floating)
    padded = jnp.pad(x, [(0, 0), (0, 0), *pads]) if any(map(any, pads)) else x
    if plain and groups == 1 and kernel == (1, 1):
        return jnp.einsum("nchw,oc->nohw", padded[:, :, :: strides[0], :: strides[1]], weight[:, :, 0, 0])
    if plain and groups == x.shape[1] == weight.shape[0]:
        taps = shifted_windows(padded, kernel, strides, dilations)
        flat = weight.reshape(weight.shape[0], -1)
        return sum(
            (view * flat[None, :, i, None, None] for i, view in enumerate(taps[1:], 1)),
            taps[0] * flat[None, :, 0, None, None],
        )
    if plain and groups == 1 and math.prod(x.shape[2:]) <= math.prod(kernel):
        columns = jnp.stack(shifted_windows(padded, kernel, strides, dilations), axis=2)
        return jnp.einsum("nckhw,ock->nohw", columns, weight.reshape(*weight.shape[:2], -1))
    return lax.conv_general_dilated(x, weight, strides, pads, rhs_dilation=dilations, feature_group_count=groups)


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
