"""Lowering of quantisation: to and from integers and 8-bit floats, a scale a tensor, an axis or a block."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from onnx import helper

from search.graph.ir import Node
from search.graph.lazy_jax import jnp
from search.graph.ops.lower import Inputs, Value, optional
from search.graph.ops.lower_conv import conv
from search.graph.ops.lower_linear import centred, requantised


def _spread(value: Value, x: Any, node: Node) -> Any:
    """A scale or zero point broadcast against x: of a tensor, along an axis, or of blocks along it."""
    if value.ndim == 0 or value.size == 1:
        return value.reshape(())
    axis = node.get("axis", 1) % x.ndim
    if value.ndim == 1:
        return value.reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    block = int(node.get("block_size", 0)) or -(-x.shape[axis] // value.shape[axis])
    return value.repeat(block, axis=axis)[tuple(slice(size) for size in x.shape)]


def _limits(dtype: Any) -> tuple[float, float]:
    limits = ml_dtypes.iinfo if jnp.issubdtype(dtype, jnp.integer) else ml_dtypes.finfo
    info = limits(dtype)
    return float(info.min), float(info.max)


def quantize(node: Node, inputs: Inputs) -> Value:
    """ONNX ``QuantizeLinear``: saturates, rounds half to even."""
    x, scale, zero = (
        np.asarray(inputs[0]) if isinstance(inputs[0], np.ndarray) else inputs[0],
        inputs[1],
        optional(inputs, 2),
    )
    code = node.get("output_dtype", 0)
    to = zero.dtype if zero is not None else helper.tensor_dtype_to_np_dtype(code) if code else np.dtype(np.uint8)
    wide = x.astype(np.float32) / _spread(scale, x, node).astype(np.float32)
    low, high = _limits(to)
    if jnp.issubdtype(to, jnp.integer):
        steps = wide.round() + (0 if zero is None else _spread(zero, x, node).astype(np.float32))
        steps = steps.clip(low, high).astype(np.int32 if high < 2**31 else np.int64)
        return steps.astype(to)
    if zero is not None:
        wide = wide + _spread(zero, x, node).astype(np.float32)
    return (wide.clip(low, high) if node.get("saturate", 1) else wide).astype(to)


def dequantize(node: Node, inputs: Inputs) -> Value:
    """ONNX ``DequantizeLinear``: (x - zero point) * scale, in the scale's type."""
    x, scale, zero = inputs[0], inputs[1], optional(inputs, 2)
    code = node.get("output_dtype", 0)
    to = helper.tensor_dtype_to_np_dtype(code) if code else scale.dtype
    integer = jnp.issubdtype(x.dtype, jnp.integer)
    wide = (
        x.astype(np.int64 if x.dtype == np.int32 else np.int32).astype(np.float32) if integer else x.astype(np.float32)
    )
    if zero is not None:
        wide = wide - _spread(zero, x, node).astype(np.float32)
    return (wide * _spread(scale, x, node).astype(np.float32)).astype(to)


def conv_integer(node: Node, inputs: Inputs) -> Value:
    """ONNX ``ConvInteger``: int32 sums of 8-bit products."""
    x, weight = centred(inputs[0], optional(inputs, 2), 1), centred(inputs[1], optional(inputs, 3), 0)
    return conv(node, x, weight)


def qlinear_conv(node: Node, inputs: Inputs) -> Value:
    """ONNX ``QLinearConv``: quantised in, quantised out; the bias is in steps of both scales."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = inputs[:8]
    bias = optional(inputs, 8)
    total = conv(node, centred(x, x_zero, 1), centred(w, w_zero, 0), None if bias is None else jnp.asarray(bias))
    scale = jnp.asarray(w_scale).reshape(-1, *[1] * (total.ndim - 2)) if np.size(w_scale) > 1 else w_scale
    return requantised(total, x_scale, scale, y_scale, y_zero)
