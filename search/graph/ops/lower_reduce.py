"""Lowering of reductions, running sums, and what orders elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from search.graph.ir import Node
from search.graph.lazy_jax import jax
from search.graph.ops.lower import Inputs, Lower, Value, axes_of, ints, namespace, optional

Reduce = Callable[[Any, Value, "tuple[int, ...] | None", bool], Value]


def named(name: str) -> Reduce:
    """A reduction of numpy's by its name; the largest and smallest of nothing are the type's limits."""

    def reduce(xp: Any, x: Value, axes: tuple[int, ...] | None, keep: bool) -> Value:
        if name in ("max", "min") and x.size == 0:
            return xp.full(_reduced(x.shape, axes, keep), _limit(x.dtype, lowest=name == "max"), x.dtype)
        return getattr(xp, name)(x, axis=axes, keepdims=keep).astype(x.dtype)

    return reduce


def _reduced(shape: tuple[int, ...], axes: tuple[int, ...] | None, keep: bool) -> list[int]:
    gone = {axis % len(shape) for axis in axes} if axes is not None else set(range(len(shape)))
    return [1 if i in gone else size for i, size in enumerate(shape) if keep or i not in gone]


def _limit(dtype: np.dtype[Any], *, lowest: bool) -> Any:
    if dtype == np.bool_:
        return not lowest
    if np.issubdtype(dtype, np.integer):
        return np.iinfo(dtype).min if lowest else np.iinfo(dtype).max
    return -np.inf if lowest else np.inf


def l1(xp: Any, x: Value, axes: tuple[int, ...] | None, keep: bool) -> Value:
    """Sum of magnitudes."""
    return xp.abs(x).sum(axis=axes, keepdims=keep).astype(x.dtype)


def l2(xp: Any, x: Value, axes: tuple[int, ...] | None, keep: bool) -> Value:
    """Square root of the sum of squares."""
    return xp.sqrt(xp.square(x).sum(axis=axes, keepdims=keep)).astype(x.dtype)


def sum_square(xp: Any, x: Value, axes: tuple[int, ...] | None, keep: bool) -> Value:
    """Sum of squares."""
    return xp.square(x).sum(axis=axes, keepdims=keep).astype(x.dtype)


def log_sum(xp: Any, x: Value, axes: tuple[int, ...] | None, keep: bool) -> Value:
    """Logarithm of the sum."""
    return xp.log(x.sum(axis=axes, keepdims=keep)).astype(x.dtype)


def log_sum_exp(xp: Any, x: Value, axes: tuple[int, ...] | None, keep: bool) -> Value:
    """Logarithm of the sum of exponentials, shifted by the largest."""
    if x.size == 0:
        return xp.full(_reduced(x.shape, axes, keep), -np.inf, x.dtype)
    return jax.scipy.special.logsumexp(jax.numpy.asarray(x), axis=axes, keepdims=keep)


def reduce(function: Reduce) -> Lower:
    """Lower ``ReduceMean`` and its family."""

    def lower(node: Node, inputs: Inputs) -> Value:
        x = inputs[0]
        axes = axes_of(node, inputs, 1)
        keep = bool(node.get("keepdims", 1))
        if not axes and node.get("noop_with_empty_axes", 0):
            return x if function in KEEPS else function(namespace(x), x, (), keep)
        return function(namespace(x), x, tuple(axes) if axes else None, keep)

    return lower


SUM, MEAN, LARGEST, SMALLEST, PRODUCT = (named(name) for name in ("sum", "mean", "max", "min", "prod"))
KEEPS = (SUM, MEAN, LARGEST, SMALLEST, PRODUCT)


def arg(name: str) -> Lower:
    """Lower ``ArgMax`` and ``ArgMin``; of equal elements the first, or the last one."""

    def lower(node: Node, inputs: Inputs) -> Value:
        x, axis = inputs[0], node.get("axis", 0)
        xp = namespace(x)
        last = node.get("select_last_index", 0)
        index = getattr(xp, name)(xp.flip(x, axis) if last else x, axis=axis, keepdims=bool(node.get("keepdims", 1)))
        index = x.shape[axis] - 1 - index if last else index
        return index.astype(np.int64 if isinstance(index, np.ndarray) else index.dtype)

    return lower


def cumulative(name: str) -> Lower:
    """Lower ``CumSum`` and ``CumProd``."""

    def lower(node: Node, inputs: Inputs) -> Value:
        x = inputs[0]
        xp, axis = namespace(x), ints(inputs[1])[0]
        x = xp.flip(x, axis) if node.get("reverse", 0) else x
        if node.get("exclusive", 0):
            neutral = xp.full_like(x.take(np.arange(1), axis=axis), 0 if name == "cumsum" else 1)
            x = xp.concatenate([neutral, x.take(np.arange(x.shape[axis] - 1), axis=axis)], axis=axis)
        y = getattr(xp, name)(x, axis=axis).astype(x.dtype)
        return xp.flip(y, axis) if node.get("reverse", 0) else y

    return lower


def top_k(node: Node, inputs: Inputs) -> Value:
    """ONNX ``TopK``: values and indices; of equal elements the one with the lower index first."""
    x, axis = inputs[0], node.get("axis", -1)
    count = ints(inputs[1])[0] if optional(inputs, 1) is not None else int(node.get("k"))
    xp = namespace(x)
    if node.get("largest", 1):
        order = x.shape[axis] - 1 - xp.flip(xp.argsort(xp.flip(x, axis), axis=axis, stable=True), axis)
    else:
        order = xp.argsort(x, axis=axis, stable=True)
    index = order.take(np.arange(count), axis=axis)
    return xp.take_along_axis(x, index, axis), index.astype(np.int64 if xp is np else index.dtype)
