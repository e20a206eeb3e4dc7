"""Lowering of normalisations and of softmax and its kin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from search.graph.ir import Node
from search.graph.lazy_jax import jax, jnp
from search.graph.ops.lower import Inputs, Lower, Value, namespace, optional


def _by_channel(vector: Value, rank: int) -> Value:
    """A vector (C,) that broadcasts against (N, C, ...)."""
    return vector.reshape(1, -1, *[1] * (rank - 2))


def batch_norm(node: Node, inputs: Inputs) -> Value:
    """ONNX ``BatchNormalization``: x (N, C, ...), four vectors (C,); statistics of the batch in training mode."""
    x, scale, bias, mean, variance = inputs
    xp = namespace(*inputs)
    outputs: tuple[Value, ...] = ()
    if node.get("training_mode", 0):
        axes = (0, *range(2, x.ndim))
        old, momentum = (mean, variance), np.asarray(node.get("momentum", 0.9), x.dtype)
        mean, variance = x.mean(axes), x.var(axes)
        outputs = tuple(
            before * momentum + now * (1 - momentum) for before, now in zip(old, (mean, variance), strict=True)
        )
    gain = scale / xp.sqrt(variance + np.asarray(node.get("epsilon", 1e-5), variance.dtype))
    shift = bias - mean * gain
    y = (x * _by_channel(gain.astype(x.dtype), x.ndim) + _by_channel(shift.astype(x.dtype), x.ndim)).astype(x.dtype)
    return (y, *outputs)


def standardised(x: Value, axes: tuple[int, ...], epsilon: float) -> tuple[Value, Value, Value]:
    """(x - mean) / sqrt(variance + epsilon) over ``axes``; also the mean and the inverse deviation."""
    mean = x.mean(axes, keepdims=True)
    centred = x - mean
    inverse = 1 / namespace(x).sqrt((centred * centred).mean(axes, keepdims=True) + np.asarray(epsilon, x.dtype))
    return centred * inverse, mean, inverse


def layer_norm(node: Node, inputs: Inputs) -> Value:
    """ONNX ``LayerNormalization`` with its mean and inverse deviation; computed in float32 at least."""
    x, scale = inputs[0], inputs[1]
    axes = tuple(range(node.get("axis", -1) % x.ndim, x.ndim))
    wide = x if x.dtype == np.float64 else x.astype(np.float32)
    y, mean, inverse = standardised(wide, axes, node.get("epsilon", 1e-5))
    bias = optional(inputs, 2)
    y = y.astype(x.dtype) * scale
    return (y if bias is None else y + bias), mean, inverse


def instance_norm(node: Node, inputs: Inputs) -> Value:
    """ONNX ``InstanceNormalization``: over the spatial axes of every sample and channel."""
    x, scale, bias = inputs
    y = standardised(x, tuple(range(2, x.ndim)), node.get("epsilon", 1e-5))[0]
    return y * _by_channel(scale, x.ndim) + _by_channel(bias, x.ndim)


def group_norm(node: Node, inputs: Inputs) -> Value:
    """ONNX ``GroupNormalization``: scale and bias a channel (21 on) or a group (18)."""
    x, scale, bias = inputs
    groups = int(node.get("num_groups"))
    rows = x.reshape(x.shape[0], groups, -1)
    y = standardised(rows, (2,), node.get("epsilon", 1e-5))[0].reshape(x.shape)
    each = x.shape[1] // scale.shape[0]
    scale, bias = (namespace(v).repeat(v, each) if each > 1 else v for v in (scale, bias))
    return y * _by_channel(scale, x.ndim) + _by_channel(bias, x.ndim)


def local_response_norm(node: Node, inputs: Inputs) -> Value:
    """ONNX ``LRN``: divides by a sum of squares over neighbouring channels."""
    x = jnp.asarray(inputs[0])
    size = int(node.get("size"))
    padded = jnp.pad(x * x, [(0, 0), ((size - 1) // 2, size // 2), *[(0, 0)] * (x.ndim - 2)])
    total = sum(padded[:, i : i + x.shape[1]] for i in range(size))
    alpha, beta, bias = node.get("alpha", 1e-4), node.get("beta", 0.75), node.get("bias", 1.0)
    return x / (bias + alpha / size * total) ** beta


def lp_norm(node: Node, inputs: Inputs) -> Value:
    """ONNX ``LpNormalization``; a zero vector stays zero."""
    x = inputs[0]
    xp = namespace(x)
    order, axis = node.get("p", 2), node.get("axis", -1)
    norm = (xp.abs(x) if order == 1 else x * x).sum(axis, keepdims=True)
    norm = norm if order == 1 else xp.sqrt(norm)
    return xp.where(norm == 0, xp.zeros_like(x), x / xp.where(norm == 0, xp.ones_like(norm), norm))


def softmax(log: bool) -> Callable[[int], Lower]:
    """Lower ``Softmax``/``LogSoftmax``; before opset 13 the input is flattened to two axes first."""
    return _over_axis(lambda x, axis: (jax.nn.log_softmax if log else jax.nn.softmax)(x, axis=axis))


def hardmax(opset: int) -> Lower:
    """Lower ``Hardmax``: one at the first largest element."""
    return _over_axis(lambda x, axis: jax.nn.one_hot(x.argmax(axis), x.shape[axis], axis=axis, dtype=x.dtype))(opset)


def _over_axis(function: Callable[..., Any]) -> Callable[[int], Lower]:
    def at(opset: int) -> Lower:
        def lower(node: Node, inputs: Inputs) -> Value:
            x = jnp.asarray(inputs[0])
            if opset >= 13:
                return function(x, axis=node.get("axis", -1))
            axis = node.get("axis", 1) % x.ndim
            rows = int(np.prod(x.shape[:axis]))
            return function(x.reshape(rows, -1), axis=-1).reshape(x.shape)

        return lower

    return at
