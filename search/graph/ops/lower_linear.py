"""Lowering of matrix products: Gemm, MatMul, Einsum, Det, and the integer ones."""

from __future__ import annotations

import numpy as np

from search.graph.ir import Node
from search.graph.lazy_jax import jnp
from search.graph.ops.lower import Inputs, Value, namespace, optional


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
    """ONNX ``MatMul``, numpy's rules; the type stays, though numpy multiplies bfloat16 into float32."""
    return namespace(*inputs).matmul(inputs[0], inputs[1]).astype(inputs[0].dtype)


def einsum(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Einsum``."""
    return namespace(*inputs).einsum(node.get("equation"), *inputs)


def determinant(_: Node, inputs: Inputs) -> Value:
    """ONNX ``Det`` of the last two axes."""
    return namespace(inputs[0]).linalg.det(inputs[0])


def centred(x: Value, zero_point: Value, axis: int) -> Value:
    """An integer tensor as int32, minus its zero point: one for all, or one for every position along ``axis``."""
    wide = jnp.asarray(x).astype(jnp.int32)
    if zero_point is None:
        return wide
    zero = jnp.asarray(zero_point).astype(jnp.int32)
    if zero.ndim == 1 and zero.size > 1:
        zero = zero.reshape([-1 if i == axis % wide.ndim else 1 for i in range(wide.ndim)])
    return wide - (zero if zero.ndim == wide.ndim else zero.reshape(()) if zero.size == 1 else zero)


def matmul_integer(_: Node, inputs: Inputs) -> Value:
    """ONNX ``MatMulInteger``: int32 product of 8-bit matrices."""
    a = centred(inputs[0], optional(inputs, 2), -2)
    return jnp.matmul(a, centred(inputs[1], optional(inputs, 3), -1))


def qlinear_matmul(_: Node, inputs: Inputs) -> Value:
    """ONNX ``QLinearMatMul``: quantised in, quantised out."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = inputs
    product = jnp.matmul(centred(a, a_zero, -2), centred(b, b_zero, -1))
    return requantised(product, a_scale, b_scale, y_scale, y_zero)


def requantised(product: Value, a_scale: Value, b_scale: Value, y_scale: Value, y_zero: Value) -> Value:
    """An int32 product rounded to the grid of its quantised output."""
    scale = jnp.asarray(a_scale, jnp.float32) * jnp.asarray(b_scale, jnp.float32) / jnp.asarray(y_scale, jnp.float32)
    limit = np.iinfo(y_zero.dtype)
    steps = jnp.round(product.astype(jnp.float32) * scale) + jnp.asarray(y_zero).astype(jnp.float32)
    return jnp.clip(steps, limit.min, limit.max).astype(y_zero.dtype)
