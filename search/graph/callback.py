"""Operators outside the table that ONNX Runtime knows: computed there, forward only.

Gradients stop at such an operator, and the channels around it stay; nothing else of the network is lost.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

from search.graph.ir import Array, Node
from search.graph.proto import from_node

WIDER = {"int32": "int64", "uint32": "uint64"}
"""JAX traces 64-bit integers as 32-bit ones; where ONNX Runtime wants the former it gets them."""


def run(node: Node, inputs: Sequence[Any], opset: int) -> tuple[Any, ...]:
    """Compute a node in ONNX Runtime; traced inputs go through a callback.

    Raises:
        NotImplementedError: ONNX Runtime refuses the node for inputs of these types, or fails on them.
    """
    given = tuple(None if value is None else str(value.dtype) for value in inputs)
    outputs = tuple(f"o{i}" if name else "" for i, name in enumerate(node.outputs))
    names = tuple("" if value is None else f"i{i}" for i, value in enumerate(inputs))
    plain = Node("node", node.op, names, outputs, node.attributes, node.domain)
    call = _session(from_node(plain).SerializeToString(deterministic=True), given, opset)
    present = [value for value in inputs if value is not None]
    if not any(isinstance(value, jax.Array) for value in present):
        return _named(outputs, call(*present))
    probe = call(*(np.zeros(value.shape, value.dtype) for value in present))
    specs = [_spec(value) for value in probe]
    host = functools.partial(_host, call, specs)
    stopped = [jax.lax.stop_gradient(value) for value in present]
    results = jax.pure_callback(host, specs, *stopped, vmap_method="sequential")  # the node knows no further axis
    return _named(outputs, results)


def _named(outputs: Sequence[str], values: Sequence[Any]) -> tuple[Any, ...]:
    found = iter(values)
    return tuple(next(found) if name else None for name in outputs)


def _spec(value: Array) -> Any:
    return jax.ShapeDtypeStruct(value.shape, jax.dtypes.canonicalize_dtype(value.dtype))  # type: ignore[no-untyped-call]


def _host(call: Any, specs: Sequence[Any], *values: Any) -> list[Array]:
    results = call(*(np.asarray(value) for value in values))
    return [np.asarray(result, spec.dtype) for result, spec in zip(results, specs, strict=True)]


@functools.lru_cache(maxsize=256)
def _session(node: bytes, given: tuple[str | None, ...], opset: int) -> Any:
    """A function of the present inputs, in a session of one node; narrow integers are widened where that is needed."""
    wide = tuple(WIDER.get(dtype, dtype) if dtype else None for dtype in given)
    for types in dict.fromkeys((given, wide)):
        try:
            session = _build(onnx.NodeProto.FromString(node), types, opset)
        except Exception as error:  # noqa: BLE001 - the runtime's own errors have no common class
            last = str(error).splitlines()[0]
            continue
        return functools.partial(_call, session, [dtype for dtype in types if dtype])
    raise NotImplementedError(f"ONNX Runtime refuses it: {last}")


def _build(node: onnx.NodeProto, types: Sequence[str | None], opset: int) -> ort.InferenceSession:
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), None)
        for name, dtype in zip(node.input, types, strict=True)
        if dtype
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], "node", inputs, outputs)
    opsets = [helper.make_opsetid("", opset)]
    if node.domain:
        opsets.append(helper.make_opsetid(node.domain, 1))
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _call(session: ort.InferenceSession, types: Sequence[str], *values: Array) -> list[Array]:
    names = [item.name for item in session.get_inputs()]
    feeds = {name: np.asarray(value).astype(dtype) for name, value, dtype in zip(names, values, types, strict=True)}
    try:
        results = session.run(None, feeds)
    except Exception as error:  # the runtime's own errors have no common class
        raise NotImplementedError(f"ONNX Runtime fails on it: {str(error).splitlines()[0]}") from error
    return [np.asarray(value) for value in results]
