"""Which operators ONNX Runtime has. Loads no JAX: a file is read and refused without it."""

from __future__ import annotations

import functools

from onnxruntime.capi import onnxruntime_pybind11_state


@functools.cache
def _schemas() -> frozenset[tuple[str, str]]:
    return frozenset((schema.domain, schema.name) for schema in onnxruntime_pybind11_state.get_all_operator_schema())


def runtime_knows(domain: str, op: str) -> bool:
    """Whether ONNX Runtime has the operator, in any version."""
    return (domain, op) in _schemas()
