"""What the engine knows of one operator, and short ways to say it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from hwprofiles.workload import Kind
from search.graph import flow
from search.graph.ops import lower_math
from search.graph.ops.lower import Lower, Value, binary, unary, variadic


@dataclasses.dataclass(frozen=True)
class Op:
    """One entry of the table."""

    lower: Lower | Callable[[int], Lower]
    """The computation; with ``by_opset`` a function that gives it for a version."""
    flow: flow.Flow = flow.freeze
    weights: tuple[int, ...] = ()
    """Inputs that hold trainable weights."""
    static: tuple[int, ...] = ()
    """Inputs that decide the output's shape, or which elements are read: they are known before the network runs."""
    kind: Kind | None = None
    """Kind of the kernel that a device runs; None when the operator costs nothing at run time."""
    fusible: bool = False
    """Runs inside the kernel that produces its first input (activations, norms, a residual addition)."""
    by_opset: bool = False

    def lowering(self, opset: int) -> Lower:
        """The computation for a version of the operator set."""
        return self.lower(opset) if self.by_opset else self.lower  # type: ignore[return-value, call-arg, arg-type]


def pointwise(function: Callable[[Any, Value], Value]) -> Op:
    """A function of one element, given as ``function(namespace, x)``."""
    return Op(unary(function), flow.same, kind="elementwise", fusible=True)


def activation(function: Callable[..., Value], **defaults: float) -> Op:
    """A function of one element with attributes, given as ``function(namespace, x, *attributes)``."""
    return Op(lower_math.with_attributes(function, **defaults), flow.same, kind="elementwise", fusible=True)


def arithmetic(name: str, *, fusible: bool = False) -> Op:
    """A function of two operands whose constants are weights."""
    return Op(binary(name), flow.elementwise, weights=(0, 1), kind="elementwise", fusible=fusible)


def comparison(name: str) -> Op:
    """A function of two operands without weights."""
    return Op(binary(name), flow.elementwise, kind="elementwise")


def folded(name: str) -> Op:
    """A function of any number of operands."""
    return Op(variadic(name), flow.elementwise, kind="elementwise")


def elementwise(function: Lower) -> Op:
    """Any other function of several operands, element by element."""
    return Op(function, flow.elementwise, kind="elementwise")


def movement(function: Lower, *static: int) -> Op:
    """Elements change places; a device copies them. ``static`` as for `Op`."""
    return Op(function, flow.move, static=static, kind="data_movement")


def view(function: Lower, *static: int) -> Op:
    """A movement that costs nothing at run time. ``static`` as for `Op`."""
    return Op(function, flow.move, static=static)


def selection(function: Lower, *static: int) -> Op:
    """Elements are chosen by what other operands say; channels are not followed. ``static`` as for `Op`."""
    return Op(function, static=static, kind="data_movement")


def constant(function: Lower, *static: int) -> Op:
    """A value that depends on shapes only, and on operands that are ``static``."""
    return Op(function, flow.forget, static=static)
