"""Lowering of everything but convolution and pooling: one small function a family of operators.

Every function works on numpy and on JAX arrays alike (`namespace` picks): values that do not depend on the graph's
inputs stay numpy, so that chains of Shape, Gather and Concat fold while tracing, and unit ids can travel through the
very same code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from search.graph.ir import Node

Value = Any  # np.ndarray (static) or jax.Array (traced); None where an optional input is left out
Inputs = Sequence[Value]
Lower = Callable[[Node, Inputs], Value]


def namespace(*values: Value) -> Any:
    """`numpy` while everything is static, `jax.numpy` from the first traced value on."""
    return jnp if any(isinstance(value, jax.Array) for value in values) else np


def ints(value: Value) -> list[int]:
    """A static integer vector as a list.

    Raises:
        TypeError: the value depends on the graph's inputs; its users need static shapes.
    """
    if isinstance(value, jax.Array):
        raise TypeError("a shape, axis or index depends on the data")
    return [int(v) for v in np.asarray(value).reshape(-1)]


def optional(inputs: Inputs, position: int) -> Value:
    """An input or None."""
    return inputs[position] if position < len(inputs) else None


def unary(function: Callable[[Any, Value], Value]) -> Lower:
    """Lower ``y = function(namespace, x)``."""
    return lambda _, inputs: function(namespace(inputs[0]), inputs[0])


def binary(name: str) -> Lower:
    """Lower a broadcasting numpy function of two operands."""
    return lambda _, inputs: getattr(namespace(*inputs), name)(inputs[0], inputs[1])


def variadic(name: str) -> Lower:
    """Lower a numpy function folded over any number of operands."""

    def lower(_: Node, inputs: Inputs) -> Value:
        total = inputs[0]
        for value in inputs[1:]:
            total = getattr(namespace(total, value), name)(total, value)
        return total

    return lower


def divide(_: Node, inputs: Inputs) -> Value:
    """ONNX ``Div``: truncates towards zero on integers."""
    a, b = inputs
    xp = namespace(a, b)
    if np.issubdtype(a.dtype, np.integer):
        return (xp.sign(a) * xp.sign(b) * (xp.abs(a) // xp.abs(b))).astype(a.dtype)
    return a / b


def sigmoid(xp: Any, x: Value) -> Value:
    """1 / (1 + exp(-x)), without overflow."""
    return jax.nn.sigmoid(x) if xp is jnp else (1 / (1 + np.exp(-x))).astype(x.dtype)


def clip(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Clip``, bounds as inputs (11 on) or as attributes."""
    x = inputs[0]
    low, high = node.get("min", optional(inputs, 1)), node.get("max", optional(inputs, 2))
    xp = namespace(*[value for value in (x, low, high) if value is not None])
    x = x if low is None else xp.maximum(x, xp.asarray(low, x.dtype))
    return x if high is None else xp.minimum(x, xp.asarray(high, x.dtype))


def batch_norm(node: Node, inputs: Inputs) -> Value:
    """ONNX ``BatchNormalization`` in inference: x (N, C, ...), four vectors (C,)."""
    x, scale, bias, mean, variance = inputs
    xp = namespace(*inputs)
    shape = (1, -1) + (1,) * (x.ndim - 2)
    gain = scale / xp.sqrt(variance + node.get("epsilon", 1e-5))
    return (x * gain.reshape(shape) + (bias - mean * gain).reshape(shape)).astype(x.dtype)


def gemm(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Gemm``: alpha * A' B' + beta * C."""
    a = inputs[0].T if node.get("transA", 0) else inputs[0]
    b = inputs[1].T if node.get("transB", 0) else inputs[1]
    y = a @ b
    if node.get("alpha", 1.0) != 1.0:
        y = y * np.asarray(node.get("alpha"), y.dtype)
    c = optional(inputs, 2)
    if c is None:
        return y
    return y + (c if node.get("beta", 1.0) == 1.0 else c * np.asarray(node.get("beta"), y.dtype))


def matmul(_: Node, inputs: Inputs) -> Value:
    """ONNX ``MatMul``, numpy's rules."""
    return namespace(*inputs).matmul(inputs[0], inputs[1])


def axes_of(node: Node, inputs: Inputs, position: int) -> list[int] | None:
    """Axes given as an attribute (older opsets) or as an input."""
    if node.get("axes") is not None:
        return [int(axis) for axis in node.get("axes")]
    value = optional(inputs, position)
    return None if value is None else ints(value)


def reduce(name: str) -> Lower:
    """Lower ``ReduceMean`` and its family: ``name`` is numpy's reduction."""

    def lower(node: Node, inputs: Inputs) -> Value:
        x = inputs[0]
        axes = axes_of(node, inputs, 1)
        if not axes and node.get("noop_with_empty_axes", 0):
            return x
        return getattr(namespace(x), name)(
            x, axis=tuple(axes) if axes else None, keepdims=bool(node.get("keepdims", 1))
        )

    return lower


def softmax(log: bool) -> Callable[[int], Lower]:
    """Lower ``Softmax``/``LogSoftmax``; before opset 13 the input is flattened to two axes first."""

    def at(opset: int) -> Lower:
        def lower(node: Node, inputs: Inputs) -> Value:
            function = jax.nn.log_softmax if log else jax.nn.softmax
            x = jnp.asarray(inputs[0])
            if opset >= 13:
                return function(x, axis=node.get("axis", -1))
            axis = node.get("axis", 1) % x.ndim
            rows = int(np.prod(x.shape[:axis]))
            return function(x.reshape(rows, -1), axis=-1).reshape(x.shape)

        return lower

    return at


def reshape(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Reshape``: 0 copies a dimension unless ``allowzero``, -1 is inferred."""
    wanted = ints(inputs[1]) if len(inputs) > 1 else list(node.get("shape"))
    if not node.get("allowzero", 0):
        wanted = [inputs[0].shape[i] if size == 0 else size for i, size in enumerate(wanted)]
    return inputs[0].reshape(wanted)


def flatten(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Flatten``: to two axes, split at ``axis``."""
    x = inputs[0]
    axis = node.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return (
        x.reshape(int(np.prod(x.shape[:axis])), -1)
        if x.size
        else x.reshape(int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis:])))
    )


def transpose(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Transpose``; reverses the axes by default."""
    return namespace(inputs[0]).transpose(inputs[0], node.get("perm"))


def concat(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Concat``."""
    return namespace(*inputs).concatenate(list(inputs), axis=node.get("axis"))


def split(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Split`` into the sizes given, or into as equal parts as ``num_outputs`` allows."""
    x, axis = inputs[0], node.get("axis", 0)
    sizes = node.get("split") or (ints(inputs[1]) if optional(inputs, 1) is not None else None)
    if sizes is None:
        count = node.get("num_outputs", len(node.outputs))
        each = -(-x.shape[axis] // count)
        sizes = [each] * (count - 1) + [x.shape[axis] - each * (count - 1)]
    return tuple(namespace(x).split(x, np.cumsum(sizes)[:-1].tolist(), axis=axis))


def slice_(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Slice``, bounds as inputs (10 on) or as attributes."""
    x = inputs[0]
    if len(inputs) > 1:
        starts, ends = ints(inputs[1]), ints(inputs[2])
        axes = ints(inputs[3]) if optional(inputs, 3) is not None else list(range(len(starts)))
        steps = ints(inputs[4]) if optional(inputs, 4) is not None else [1] * len(starts)
    else:
        starts, ends = list(node.get("starts")), list(node.get("ends"))
        axes, steps = list(node.get("axes", range(len(starts)))), [1] * len(starts)
    index = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index[axis] = slice(*_bounds(start, end, step, x.shape[axis]), step)
    return x[tuple(index)]


def _bounds(start: int, end: int, step: int, size: int) -> tuple[int, int | None]:
    """ONNX clamps where Python would wrap: an ``end`` below the first element means "to the very first"."""
    start = start + size if start < 0 else start
    end = end + size if end < 0 else end
    if step > 0:
        return min(max(start, 0), size), min(max(end, 0), size)
    start = min(max(start, 0), size - 1)
    return start, (None if end < 0 else min(end, size - 1))


def pad(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Pad``; negative pads crop."""
    x = inputs[0]
    flat = ints(inputs[1]) if len(inputs) > 1 else list(node.get("pads"))
    axes = ints(inputs[3]) if optional(inputs, 3) is not None else list(range(x.ndim))
    pads = [(0, 0)] * x.ndim
    for i, axis in enumerate(axes):
        pads[axis] = (flat[i], flat[i + len(axes)])
    crop = tuple(slice(max(-before, 0), x.shape[i] - max(-after, 0)) for i, (before, after) in enumerate(pads))
    grow = [(max(before, 0), max(after, 0)) for before, after in pads]
    mode = node.get("mode", "constant")
    if mode != "constant":
        return namespace(x).pad(x[crop], grow, mode=mode)
    fill = optional(inputs, 2)
    fill = node.get("value", 0) if fill is None else np.asarray(fill).reshape(-1)[0]
    return namespace(x).pad(x[crop], grow, constant_values=fill)


def gather(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Gather``; negative indices count from the end."""
    x, index = inputs
    axis = node.get("axis", 0)
    xp = namespace(x, index)
    return xp.take(x, xp.where(index < 0, index + x.shape[axis], index), axis=axis)


def squeeze(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Squeeze``; all axes of size 1 by default."""
    axes = axes_of(node, inputs, 1)
    return namespace(inputs[0]).squeeze(inputs[0], axis=tuple(axes) if axes is not None else None)


def unsqueeze(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Unsqueeze``."""
    axes = axes_of(node, inputs, 1)
    return namespace(inputs[0]).expand_dims(inputs[0], tuple(axes or ()))


def expand(_: Node, inputs: Inputs) -> Value:
    """ONNX ``Expand``: two-way broadcasting."""
    shape = np.broadcast_shapes(inputs[0].shape, tuple(ints(inputs[1])))
    return namespace(inputs[0]).broadcast_to(inputs[0], shape)


def cast(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Cast``; ``to`` is a numpy dtype by the time a node reaches us."""
    return inputs[0].astype(node.get("to"))


def shape(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Shape``: always static."""
    return np.array(inputs[0].shape, np.int64)[node.get("start", 0) : node.get("end")]


def constant_of_shape(node: Node, inputs: Inputs) -> Value:
    """ONNX ``ConstantOfShape``."""
    value = node.get("value")
    return np.full(
        ints(inputs[0]), 0.0 if value is None else value.reshape(-1)[0], np.float32 if value is None else value.dtype
    )


def range_(_: Node, inputs: Inputs) -> Value:
    """ONNX ``Range``."""
    start, stop, step = (np.asarray(value).reshape(-1)[0] for value in inputs)
    return np.arange(start, stop, step, dtype=inputs[0].dtype)


def prelu(_: Node, inputs: Inputs) -> Value:
    """ONNX ``PRelu``; the slope broadcasts to x from the right."""
    x, slope = inputs
    return namespace(x, slope).where(x < 0, x * slope, x)


def layer_norm(node: Node, inputs: Inputs) -> Value:
    """ONNX ``LayerNormalization`` (first output)."""
    x, scale = inputs[0], inputs[1]
    axes = tuple(range(node.get("axis", -1) % x.ndim, x.ndim))
    centred = x - x.mean(axes, keepdims=True)
    y = centred / namespace(x).sqrt((centred**2).mean(axes, keepdims=True) + node.get("epsilon", 1e-5)) * scale
    bias = optional(inputs, 2)
    return y if bias is None else y + bias


def where(_: Node, inputs: Inputs) -> Value:
    """ONNX ``Where``."""
    return namespace(*inputs).where(*inputs)


def argmax(node: Node, inputs: Inputs) -> Value:
    """ONNX ``ArgMax`` (first of equals)."""
    index = namespace(inputs[0]).argmax(inputs[0], axis=node.get("axis", 0), keepdims=bool(node.get("keepdims", 1)))
    return index.astype(np.int64 if isinstance(index, np.ndarray) else index.dtype)


def resize_nearest(node: Node, inputs: Inputs, opset: int) -> Value:
    """ONNX ``Resize``/``Upsample`` by whole factors with nearest neighbours: repeats every element.

    Raises:
        NotImplementedError: another mode; the caller then treats the operator as unknown.
    """
    x = inputs[0]
    if node.op == "Upsample":
        scales = node.get("scales", optional(inputs, 1))
    else:
        scales = optional(inputs, 2 if opset > 10 else 1)
        sizes = optional(inputs, 3)
        if sizes is not None and np.asarray(sizes).size:
            scales = [size / old for size, old in zip(ints(sizes), x.shape, strict=True)]
    factors = [float(s) for s in np.asarray(scales).reshape(-1)]
    if node.get("mode", "nearest") != "nearest" or any(f != int(f) for f in factors):
        raise NotImplementedError(f"mode {node.get('mode')!r} with scales {factors}")
    for axis, factor in enumerate(factors):
        x = namespace(x).repeat(x, int(factor), axis=axis) if factor != 1 else x
    return x
