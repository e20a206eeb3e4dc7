"""Lowering of gathers, scatters and of what selects elements by their value."""

from __future__ import annotations

from typing import Any

import numpy as np

from search.graph.ir import Node
from search.graph.lazy_jax import is_traced, jnp
from search.graph.ops.lower import Inputs, Value, ints, namespace, optional


def _positive(index: Value, size: int) -> Value:
    return namespace(index).where(index < 0, index + np.asarray(size, index.dtype), index)


def gather_elements(node: Node, inputs: Inputs) -> Value:
    """ONNX ``GatherElements``: y[i, j] = x[index[i, j], j] along the axis."""
    x, index = inputs
    axis = node.get("axis", 0)
    every = list(np.indices(index.shape))
    every[axis] = _positive(index, x.shape[axis])
    return x[tuple(every)]


def gather_nd(node: Node, inputs: Inputs) -> Value:
    """ONNX ``GatherND``: the last axis of the indices addresses x, after ``batch_dims`` common axes."""
    x, index = inputs
    common = int(node.get("batch_dims", 0))
    batch = [np.arange(x.shape[i]).reshape([-1 if j == i else 1 for j in range(index.ndim - 1)]) for i in range(common)]
    parts = [_positive(index[..., i], x.shape[common + i]) for i in range(index.shape[-1])]
    return x[tuple(batch + parts)]


REDUCTIONS = {"add": "add", "mul": "multiply", "max": "max", "min": "min"}


def _update(x: Value, index: tuple[Any, ...], updates: Value, reduction: str) -> Value:
    at = jnp.asarray(x).at[index]
    return at.set(updates) if reduction == "none" else getattr(at, REDUCTIONS[reduction])(updates)


def scatter_elements(node: Node, inputs: Inputs) -> Value:
    """ONNX ``ScatterElements``: x[index[i, j], j] becomes, or is combined with, updates[i, j]."""
    x, index, updates = inputs
    axis = node.get("axis", 0)
    every = list(np.indices(index.shape))
    every[axis] = _positive(index, x.shape[axis])
    return _update(x, tuple(every), updates, node.get("reduction", "none"))


def scatter_nd(node: Node, inputs: Inputs) -> Value:
    """ONNX ``ScatterND``."""
    x, index, updates = inputs
    parts = tuple(_positive(index[..., i], x.shape[i]) for i in range(index.shape[-1]))
    return _update(x, parts, updates, node.get("reduction", "none"))


def tensor_scatter(node: Node, inputs: Inputs) -> Value:
    """ONNX ``TensorScatter``: writes new steps into a cache along an axis, from a start of each sample's own."""
    cache, update, start = inputs[0], inputs[1], optional(inputs, 2)
    axis = node.get("axis", -2) % cache.ndim
    steps = np.arange(update.shape[axis])[None, :] + (0 if start is None else start[:, None])
    steps = steps % cache.shape[axis] if node.get("mode", "linear") == "circular" else steps
    index = list(np.indices(update.shape))
    index[axis] = steps.reshape([-1 if i == 0 else update.shape[axis] if i == axis else 1 for i in range(cache.ndim)])
    return jnp.asarray(cache).at[tuple(index)].set(update)


def one_hot(node: Node, inputs: Inputs) -> Value:
    """ONNX ``OneHot``: indices outside the depth give no hot element."""
    index, depth, values = inputs
    size = ints(depth)[0]
    axis = node.get("axis", -1)
    hot = jnp.expand_dims(_positive(jnp.asarray(index), size), axis)
    steps = np.arange(size).reshape([-1 if i == axis % hot.ndim else 1 for i in range(hot.ndim)])
    return jnp.where(hot == steps.astype(hot.dtype), values[1], values[0])


def compress(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Compress``: needs a constant condition."""
    x = inputs[0]
    chosen = np.flatnonzero(ints(inputs[1]))
    axis = node.get("axis")
    return x.reshape(-1)[chosen] if axis is None else x.take(chosen, axis=axis)


def non_zero(_: Node, inputs: Inputs) -> Value:
    """ONNX ``NonZero``: needs a constant input."""
    return np.stack(np.nonzero(_constant(inputs[0]))).astype(np.int64)


def unique(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Unique``: needs a constant input."""
    x, axis = _constant(inputs[0]), node.get("axis")
    values, first, inverse, counts = np.unique(x, True, True, True, axis=axis)
    inverse = inverse.reshape(-1)
    if not node.get("sorted", 1):
        order = np.argsort(first)
        values = values[order] if axis is None else values.take(order, axis)
        first, counts, inverse = first[order], counts[order], np.argsort(order)[inverse]
    return values, first.astype(np.int64), inverse.astype(np.int64), counts.astype(np.int64)


def _constant(x: Value) -> Any:
    if is_traced(x):
        raise NotImplementedError("the size of the output depends on the data")
    return np.asarray(x)


def non_max_suppression(node: Node, inputs: Inputs) -> Value:
    """ONNX ``NonMaxSuppression``: needs constant inputs. Returns rows (batch, class, box)."""
    boxes, scores = _constant(inputs[0]), _constant(inputs[1])
    limits = [optional(inputs, i) for i in (2, 3, 4)]
    count = 0 if limits[0] is None else ints(limits[0])[0]
    overlap, lowest = (None if v is None else float(np.asarray(v).reshape(-1)[0]) for v in limits[1:])
    corners = boxes if not node.get("center_point_box", 0) else _corners(boxes)
    rows = []
    for batch, kind in np.ndindex(*scores.shape[:2]):
        kept: list[int] = []
        for box in np.argsort(-scores[batch, kind], kind="stable"):
            if len(kept) == count or (lowest is not None and scores[batch, kind, box] <= lowest):
                break
            if all(_overlap(corners[batch, box], corners[batch, k]) <= (overlap or 0.0) for k in kept):
                kept.append(int(box))
        rows += [(batch, kind, box) for box in kept]
    return np.array(rows, np.int64).reshape(-1, 3)


def _corners(boxes: Any) -> Any:
    x, y, w, h = np.moveaxis(boxes, -1, 0)
    return np.stack([y - h / 2, x - w / 2, y + h / 2, x + w / 2], axis=-1)


def _overlap(a: Any, b: Any) -> float:
    """Intersection over union of two boxes (y1, x1, y2, x2), corners in any order."""
    (a1, a2), (b1, b2) = ((np.minimum(v[:2], v[2:]), np.maximum(v[:2], v[2:])) for v in (a, b))
    common = np.prod(np.maximum(np.minimum(a2, b2) - np.maximum(a1, b1), 0))
    union = np.prod(a2 - a1) + np.prod(b2 - b1) - common
    return float(common / union) if union > 0 else 0.0
