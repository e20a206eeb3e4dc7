"""Lowering of operators that act element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import onnx.numpy_helper

from search.graph.ir import Node
from search.graph.lazy_jax import is_traced, jax, jnp
from search.graph.ops import lower_conv2d
from search.graph.ops.lower import Inputs, Lower, Value, namespace, optional

FLOAT8 = (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e5m2, ml_dtypes.float8_e5m2fnuz)
SUB_BYTE = (ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.int2, ml_dtypes.uint2)


def with_attributes(function: Callable[..., Value], **defaults: Any) -> Lower:
    """Lower ``y = function(namespace, x, *attributes)``, the attributes as scalars of x's type."""

    def lower(node: Node, inputs: Inputs) -> Value:
        x = inputs[0]
        values = [np.asarray(node.get(name, default), x.dtype) for name, default in defaults.items()]
        return function(namespace(x), x, *values)

    return lower


def relu(xp: Any, x: Value) -> Value:
    """ONNX ``Relu``."""
    return lower_conv2d.relu(x) if is_traced(x) else xp.maximum(x, np.zeros((), x.dtype))


def divide(_: Node, inputs: Inputs) -> Value:
    """ONNX ``Div``: truncates towards zero on integers."""
    a, b = inputs
    xp = namespace(a, b)
    if np.issubdtype(a.dtype, np.unsignedinteger):
        return a // b
    if np.issubdtype(a.dtype, np.integer):
        return (xp.sign(a) * xp.sign(b) * (xp.abs(a) // xp.abs(b))).astype(a.dtype)
    return a / b


def power(_: Node, inputs: Inputs) -> Value:
    """ONNX ``Pow``: the result has the type of the base; computed in the wider of the two."""
    base, exponent = inputs
    if base.dtype == exponent.dtype:
        return namespace(base, exponent).power(base, exponent)
    wide = np.promote_types(base.dtype, exponent.dtype)
    return namespace(base, exponent).power(base.astype(wide), exponent.astype(wide)).astype(base.dtype)


def modulo(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Mod``: the sign of the divisor, or of the dividend with ``fmod``."""
    a, b = inputs
    xp = namespace(a, b)
    return xp.fmod(a, b) if node.get("fmod", 0) else xp.mod(a, b)


def bit_shift(node: Node, inputs: Inputs) -> Value:
    """ONNX ``BitShift``."""
    xp = namespace(*inputs)
    return (xp.left_shift if node.get("direction") == "LEFT" else xp.right_shift)(*inputs)


def bitcast(node: Node, inputs: Inputs) -> Value:
    """ONNX ``BitCast``: the same bits read as another type of the same width."""
    x, to = inputs[0], node.get("to")
    return jax.lax.bitcast_convert_type(x, to) if namespace(x) is jnp else x.view(to)


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


def cast(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Cast``; ``to`` is a numpy dtype by the time a node reaches us."""
    return _cast(node, inputs[0], np.dtype(node.get("to")))


def cast_like(node: Node, inputs: Inputs) -> Value:
    """ONNX ``CastLike``."""
    return _cast(node, inputs[0], inputs[1].dtype)


def _cast(node: Node, x: Value, to: np.dtype[Any]) -> Value:
    if to == ml_dtypes.float8_e8m0fnu:
        if namespace(x) is jnp:
            raise NotImplementedError("a cast to float8e8m0 of a value that is not constant")
        saturate, rounding = bool(node.get("saturate", 1)), node.get("round_mode", "up")
        return onnx.numpy_helper.to_float8e8m0(x, saturate, rounding).astype(to)
    if to in FLOAT8 and node.get("saturate", 1):
        limit = ml_dtypes.finfo(to)  # type: ignore[no-untyped-call]
        low, high = (np.asarray(v).astype(x.dtype) for v in (limit.min, limit.max))
        return namespace(x).clip(x, low, high).astype(to)
    if to in SUB_BYTE and namespace(x) is jnp and jnp.issubdtype(x.dtype, jnp.floating):
        return x.astype(jnp.int32).astype(to)  # XLA saturates where ONNX keeps the low bits
    return x.astype(object if to.kind in "SU" else to)


def prelu(_: Node, inputs: Inputs) -> Value:
    """ONNX ``PRelu``; the slope broadcasts to x from the right."""
    x, slope = inputs
    return namespace(x, slope).where(x < 0, x * slope, x)


def where(_: Node, inputs: Inputs) -> Value:
    """ONNX ``Where``."""
    return namespace(*inputs).where(*inputs)


def mean(_: Node, inputs: Inputs) -> Value:
    """ONNX ``Mean`` of any number of operands."""
    total = inputs[0]
    for value in inputs[1:]:
        total = total + value
    return total / np.asarray(len(inputs), total.dtype)


def is_inf(node: Node, inputs: Inputs) -> Value:
    """ONNX ``IsInf``; either sign can be left out."""
    x = inputs[0]
    xp = namespace(x)
    positive = xp.isinf(x) & (x > 0) if node.get("detect_positive", 1) else xp.zeros(x.shape, bool)
    negative = xp.isinf(x) & (x < 0) if node.get("detect_negative", 1) else xp.zeros(x.shape, bool)
    return positive | negative


def dropout(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Dropout`` as inference runs it: the identity, and a mask of ones.

    Raises:
        NotImplementedError: training mode with a ratio above zero: its result is random.
    """
    training, ratio = optional(inputs, 2), optional(inputs, 1)
    ratio = node.get("ratio", 0.5) if ratio is None else ratio
    if training is not None and bool(np.asarray(training)) and float(np.asarray(ratio)) > 0:
        raise NotImplementedError("Dropout in training mode is random")
    return inputs[0], np.ones(inputs[0].shape, bool)
