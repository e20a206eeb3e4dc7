"""Nodes of our graph that stand for a part of the file that ONNX Runtime runs as it is: forward only.

Gradients stop at such a node, and the channels around it stay; nothing else of the network is lost.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from search.graph.ir import Array, Node
from search.graph.lazy_jax import is_traced, jax, jnp
from search.graph.run import runtime
from search.wire.errors import SecateurError, UnsupportedOperator

COMPARED_ELEMENTS = 1024
"""Of constants that count as the same when they are equal; of more, only one and the same array is."""
Spec = tuple[tuple[int, ...], str]


class _Constant:
    """An array as a key."""

    def __init__(self, value: Array) -> None:
        self.value = value
        small = value.size <= COMPARED_ELEMENTS
        self._key = (str(value.dtype), value.shape, tuple(value.reshape(-1).tolist())) if small else id(value)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Constant) and self._key == other._key


def run(node: Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """Compute a carried node; traced inputs go through a callback, and where all are constants so is the result.

    Raises:
        NotImplementedError: ONNX Runtime refuses the part, or fails on inputs of these shapes.
        ResourceLimit: it takes too long; names the node of the file.
    """
    constants = tuple((i, _Constant(np.asarray(v))) for i, v in enumerate(inputs) if not is_traced(v))
    moving = [value for value in inputs if is_traced(value)]
    call = _call(node.attributes["model"], constants)
    if not moving:
        return tuple(call())
    if not any(isinstance(value, jax.core.Tracer) for value in moving):
        return tuple(jnp.asarray(value) for value in call(*(np.asarray(value) for value in moving)))
    specs = [
        jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype))  # type: ignore[no-untyped-call]
        for shape, dtype in _specs(call, tuple((value.shape, str(value.dtype)) for value in moving))
    ]
    host = functools.partial(_host, node, call, specs)
    return tuple(jax.pure_callback(host, specs, *(jax.lax.stop_gradient(v) for v in moving), vmap_method="sequential"))


def _host(node: Node, call: Callable[..., list[Array]], specs: Sequence[Any], *values: Any) -> list[Array]:
    """Errors cross compiled code as text only, so the error itself is kept beside."""
    try:
        results = _of_shapes([spec.shape for spec in specs], call(*(np.asarray(value) for value in values)))
    except NotImplementedError as error:
        problem = UnsupportedOperator(
            f"node `{node.name}`, run by ONNX Runtime as it is: {error}; export the model with standard ONNX operators",
            node=node.name,
            operator=node.op,
        )
        runtime.keep(problem)
        raise RuntimeError(problem.detail) from error
    except SecateurError as error:
        runtime.keep(error)
        raise
    return [np.asarray(value, spec.dtype) for value, spec in zip(results, specs, strict=True)]


def _of_shapes(wanted: list[tuple[int, ...]], results: list[Array]) -> list[Array]:
    found = [value.shape for value in results]
    if found != wanted:
        raise NotImplementedError(f"it gives values of shapes {found}, {wanted} on other data")
    return results


@functools.lru_cache(maxsize=256)
def _call(model: bytes, constants: tuple[tuple[int, _Constant], ...]) -> Callable[..., list[Array]]:
    """A function of the inputs that move, in a session in which the others are constants."""
    proto = onnx.ModelProto.FromString(model)
    infos, known = list(proto.graph.input), dict(constants)
    for i, constant in known.items():
        code = infos[i].type.tensor_type.elem_type
        value = constant.value.astype(helper.tensor_dtype_to_np_dtype(code))
        proto.graph.initializer.append(numpy_helper.from_array(value, infos[i].name))
    moving = [info for i, info in enumerate(infos) if i not in known]
    del proto.graph.input[:]
    proto.graph.input.extend(moving)
    runner = runtime.Runner(proto.SerializeToString())
    types = {info.name: helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type) for info in moving}

    def call(*values: Array) -> list[Array]:
        feeds = {name: value.astype(types[name], copy=False) for name, value in zip(types, values, strict=True)}
        return [_widened(np.asarray(value)) for value in runner(feeds)]

    return call


def _widened(value: Array) -> Array:
    """As the view has it, in which half precision is float32."""
    return value.astype(np.float32) if value.dtype == np.float16 else value


@functools.lru_cache(maxsize=256)
def _specs(call: Callable[..., list[Array]], given: tuple[Spec, ...]) -> tuple[Spec, ...]:
    """Shapes and types of the results for inputs of given ones, found by a run on noise, else on zeros, else on ones."""
    random = np.random.default_rng(0)
    kinds: Sequence[Callable[[tuple[int, ...]], Any]] = (random.standard_normal, np.zeros, np.ones)
    for position, kind in enumerate(kinds):
        try:
            results = call(*(np.asarray(np.abs(kind(s)) if "u" in d else kind(s)).astype(d) for s, d in given))
        except NotImplementedError:
            if position == len(kinds) - 1:
                raise
            continue
        break
    return tuple((value.shape, str(value.dtype)) for value in results)
