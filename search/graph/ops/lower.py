"""Lowering of everything but convolution and pooling: one small function a family of operators.

Every function works on numpy and on JAX arrays alike (`namespace` picks): values that do not depend on the graph's
inputs stay numpy, so that chains of Shape, Gather and Concat fold while tracing, and unit ids can travel through the
very same code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from search.graph.ir import Node
from search.graph.lazy_jax import is_traced, jnp

Value = Any  # np.ndarray (static) or jax.Array (traced); None where an optional input is left out
Inputs = Sequence[Value]
Lower = Callable[[Node, Inputs], Value]


def namespace(*values: Value) -> Any:
    """`numpy` while everything is static, `jax.numpy` from the first traced value on."""
    return jnp if any(is_traced(value) for value in values) else np


def ints(value: Value) -> list[int]:
    """A static integer vector as a list.

    Raises:
        NotImplementedError: the value depends on the graph's inputs; its users need static shapes.
    """
    if is_traced(value):
        raise NotImplementedError("a shape, axis or index depends on the data")
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


def axes_of(node: Node, inputs: Inputs, position: int) -> list[int] | None:
    """Axes given as an attribute (older opsets) or as an input."""
    if node.get("axes") is not None:
        return [int(axis) for axis in node.get("axes")]
    value = optional(inputs, position)
    return None if value is None else ints(value)
