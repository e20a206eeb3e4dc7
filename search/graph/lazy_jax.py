"""JAX, loaded once something is traced: a file is read, coupled and priced without, a second earlier.

Modules that are needed for reading a file import ``jax``, ``jnp`` and ``lax`` from here; those that always compute import it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import jax
    import jax.numpy as jnp
    from jax import lax
else:

    class _Later:
        """A module whose names are looked up when they are used."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, attribute: str) -> Any:
            _enter_constants()
            found = getattr(importlib.import_module(self._name), attribute)
            setattr(self, attribute, found)
            return found

    jax, jnp, lax = _Later("jax"), _Later("jax.numpy"), _Later("jax.lax")

__all__ = ["Function", "constants", "is_loaded", "is_traced", "jax", "jnp", "lax", "unknown_yet", "with_gradient"]
Function = TypeVar("Function", bound=Callable[..., Any])
_waiting: list[contextlib.ExitStack] = []
"""Of `constants`, entered before JAX was loaded."""


def is_loaded() -> bool:
    """Whether anything was traced in this process, or may be."""
    return "jax" in sys.modules


def is_traced(value: Any) -> bool:
    """Whether a value is one of JAX's, and no array of numpy's."""
    return is_loaded() and isinstance(value, jax.Array)


@contextlib.contextmanager
def constants() -> Iterator[None]:
    """What is computed within is known at once, in ONNX's own types; JAX is told so if it is loaded, or as soon as it is."""
    with contextlib.ExitStack() as stack:
        _waiting.append(stack)
        try:
            if is_loaded():
                _enter_constants()
            yield
        finally:
            _waiting[:] = [other for other in _waiting if other is not stack]


def _enter_constants() -> None:
    while _waiting:
        stack, loaded = _waiting.pop(), importlib.import_module("jax")
        stack.enter_context(loaded.ensure_compile_time_eval())
        stack.enter_context(loaded.enable_x64(True))


def unknown_yet() -> tuple[type[Exception], ...]:
    """What JAX raises where a number has to be known before anything runs."""
    if not is_loaded():
        return ()
    return (
        jax.errors.ConcretizationTypeError,
        jax.errors.NonConcreteBooleanIndexError,
        jax.errors.TracerArrayConversionError,
        jax.errors.TracerIntegerConversionError,
    )


def with_gradient(
    forward: Callable[..., Any], backward: Callable[..., Any], *, static: tuple[int, ...] = ()
) -> Callable[[Function], Function]:
    """`jax.custom_vjp` of a function whose arguments at the places ``static`` are no arrays."""

    def decorate(function: Function) -> Function:
        @functools.cache
        def made() -> Any:
            found = jax.custom_vjp(function, nondiff_argnums=static)
            found.defvjp(forward, backward)
            return found

        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            return made()(*arguments, **named)

        return call  # type: ignore[return-value]  # of the same signature

    return decorate
