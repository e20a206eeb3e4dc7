"""Lowering of Resize and of sampling at a grid of points.

Resizing is separable, and what it weighs is known before it runs: one matrix (out, in) an axis, made with numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from search.graph.ir import Array, Node
from search.graph.lazy_jax import jnp
from search.graph.ops.lower import Inputs, Lower, Value, ints, namespace, optional


def resize(opset: int) -> Lower:
    """Lower ``Resize`` and ``Upsample`` for a version of the operator set."""

    def lower(node: Node, inputs: Inputs) -> Value:
        x = inputs[0]
        axes = [int(a) % x.ndim for a in node.get("axes", range(x.ndim))]
        modern = node.op == "Resize" and opset > 10
        scales = _numbers(optional(inputs, 2 if modern else 1), node.get("scales"))
        sizes = optional(inputs, 3) if modern else None
        regions = _numbers(optional(inputs, 1), None) if modern else []
        if sizes is not None and np.asarray(sizes).size:
            scales, targets = _from_sizes(node, [x.shape[a] for a in axes], ints(sizes))
        else:
            targets = [int(np.floor(x.shape[a] * s)) for a, s in zip(axes, scales, strict=True)]
        for i, axis in enumerate(axes):
            region = (regions[i], regions[i + len(axes)]) if len(regions) == 2 * len(axes) else (0.0, 1.0)
            if scales[i] != 1 or targets[i] != x.shape[axis] or region != (0.0, 1.0):
                x = _along(node, x, axis, targets[i], scales[i], region, legacy=not modern)
        return x

    return lower


def _numbers(value: Value, attribute: Any) -> list[float]:
    if value is not None and not isinstance(value, np.ndarray):
        raise NotImplementedError("scales that depend on the data")
    return [float(v) for v in np.asarray(attribute if value is None else value).reshape(-1) if v is not None]


def _from_sizes(node: Node, old: list[int], sizes: list[int]) -> tuple[list[float], list[int]]:
    scales = [size / before for size, before in zip(sizes, old, strict=True)]
    policy = node.get("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return scales, sizes
    scale = min(scales) if policy == "not_larger" else max(scales)
    return [scale] * len(scales), [int(np.floor(scale * before + 0.5)) for before in old]


def _along(
    node: Node, x: Value, axis: int, target: int, scale: float, region: tuple[float, float], *, legacy: bool
) -> Value:
    size = x.shape[axis]
    position = _positions(node, size, target, scale, region, legacy=legacy)
    outside = (position < 0) | (position > size - 1)
    mode = node.get("mode", "nearest")
    if mode == "nearest":
        index = _nearest(node.get("nearest_mode", "floor" if legacy else "round_prefer_floor"), position)
        y = x.take(np.clip(index, 0, size - 1).astype(np.int32), axis=axis)
    else:
        stretch = max(1.0, 1 / scale) if node.get("antialias", 0) else 1.0
        matrix = _weights(node, mode, position, size, stretch).astype(x.dtype)
        y = namespace(x).moveaxis(namespace(x).tensordot(x, matrix, axes=((axis,), (1,))), -1, axis)
    if node.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        fill = np.asarray(node.get("extrapolation_value", 0.0), x.dtype)
        shape = [-1 if i == axis else 1 for i in range(x.ndim)]
        y = namespace(x).where(outside.reshape(shape), fill, y)
    return y


def _positions(node: Node, size: int, target: int, scale: float, region: tuple[float, float], *, legacy: bool) -> Array:
    """Where in the input every output element lies."""
    out = np.arange(target, dtype=np.float64)
    width = size * scale
    mode = "asymmetric" if legacy else node.get("coordinate_transformation_mode", "half_pixel")
    if mode == "align_corners":
        return out * (size - 1) / (width - 1) if width > 1 else 0 * out
    if mode == "asymmetric":
        return out / scale
    if mode == "tf_crop_and_resize":
        start, end = region
        if target > 1:
            return start * (size - 1) + out * (end - start) * (size - 1) / (target - 1)
        return np.full(1, 0.5 * (start + end) * (size - 1))
    if mode == "pytorch_half_pixel":
        return (out + 0.5) / scale - 0.5 if target > 1 else 0 * out - 0.5
    if mode == "half_pixel_symmetric":
        offset = size / 2 * (1 - target / width)
        return offset + (out + 0.5) / scale - 0.5
    return (out + 0.5) / scale - 0.5


def _nearest(mode: str, position: Array) -> Array:
    rules: dict[str, Callable[[Array], Array]] = {
        "round_prefer_floor": lambda p: np.ceil(p - 0.5),
        "round_prefer_ceil": lambda p: np.floor(p + 0.5),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    return rules[mode](position)


def _weights(node: Node, mode: str, position: Array, size: int, stretch: float) -> Array:
    """Matrix (out, in): what every input element adds to every output element; beyond the border, the border."""
    reach = (2 if mode == "cubic" else 1) * stretch
    first = np.floor(position - reach).astype(int) + 1
    taps = first[:, None] + np.arange(int(np.ceil(2 * reach)) + 1)[None, :]
    distance = np.abs(taps - position[:, None]) / stretch
    weight = _cubic(distance, node.get("cubic_coeff_a", -0.75)) if mode == "cubic" else np.maximum(1 - distance, 0)
    if node.get("exclude_outside", 0):
        weight = np.where((taps >= 0) & (taps < size), weight, 0)
    weight = weight / weight.sum(1, keepdims=True)
    matrix = np.zeros((len(position), size))
    np.add.at(matrix, (np.arange(len(position))[:, None], np.clip(taps, 0, size - 1)), weight)
    return matrix


def _cubic(distance: Any, a: float, xp: Any = np) -> Any:
    """Keys' kernel of parameter a (1981, eq. 4)."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return xp.where(distance <= 1, near, xp.where(distance < 2, far, 0.0))


def grid_sample(node: Node, inputs: Inputs) -> Value:
    """ONNX ``GridSample``: x (N, C, *in) at grid (N, *out, rank) gives (N, C, *out)."""
    x, grid = jnp.asarray(inputs[0]), jnp.asarray(inputs[1])
    rank, align = x.ndim - 2, bool(node.get("align_corners", 0))
    sizes = x.shape[2:]
    border = node.get("padding_mode", "zeros")
    places = [_denormalised(grid[..., rank - 1 - i], sizes[i], align=align) for i in range(rank)]
    mode = node.get("mode", "linear")
    if mode in ("nearest", "linear", "bilinear") and border != "zeros":
        places = [_bordered(p, n, border, align=align) for p, n in zip(places, sizes, strict=True)]
    taps = [_grid_taps(place, mode) for place in places]
    total: Any = 0
    for choice in np.ndindex(*[len(t) for t in taps]):
        index = [taps[i][k][0] for i, k in enumerate(choice)]
        weight = 1.0
        for i, k in enumerate(choice):
            weight = weight * taps[i][k][1]
        inside = jnp.ones(grid.shape[:-1], bool)
        for i, size in enumerate(sizes):
            inside &= (index[i] >= 0) & (index[i] < size)
            folded = index[i] if border == "zeros" else _bordered(index[i], size, border, align=align)
            index[i] = jnp.clip(jnp.round(folded), 0, size - 1).astype(int)
        batch = jnp.arange(x.shape[0]).reshape(-1, *[1] * rank)
        value = jnp.moveaxis(x, 1, -1)[(batch, *index)]
        value = jnp.where(inside[..., None], value, 0) if border == "zeros" else value
        total = total + value * jnp.asarray(weight, x.dtype)[..., None]
    return jnp.moveaxis(total, -1, 1).astype(x.dtype)


def _denormalised(place: Any, size: int, *, align: bool) -> Any:
    return (place + 1) / 2 * (size - 1) if align else ((place + 1) * size - 1) / 2


def _grid_taps(place: Any, mode: str) -> list[tuple[Any, Any]]:
    """(index, weight) of the neighbours along one axis."""
    if mode == "nearest":
        return [(jnp.round(place), 1.0)]
    low = jnp.floor(place)
    if mode in ("cubic", "bicubic"):
        return [(low + k, _cubic(jnp.abs(low + k - place), -0.75, jnp)) for k in (-1, 0, 1, 2)]
    return [(low, low + 1 - place), (low + 1, place - low)]


def _bordered(place: Any, size: int, mode: str, *, align: bool) -> Any:
    if mode == "border":
        return jnp.clip(place, 0, size - 1)
    low, high = (0.0, size - 1.0) if align else (-0.5, size - 0.5)
    span = high - low
    if span == 0:
        return jnp.zeros_like(place)
    folded = jnp.mod(jnp.abs(place - low), 2 * span)
    return jnp.where(folded > span, 2 * span - folded, folded) + low
