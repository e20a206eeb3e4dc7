"""Which operators outside the table ONNX Runtime knows. Loads no JAX: a file is read and refused without it."""

from __future__ import annotations

import functools

from onnxruntime.capi import onnxruntime_pybind11_state

DOMAINS = ("", "com.microsoft")
"""Domains that we pass on; the second has one version only."""
ENDLESS = ("Loop",)
"""A loop may never end, and a session cannot be interrupted."""


@functools.cache
def _schemas() -> frozenset[tuple[str, str]]:
    return frozenset((schema.domain, schema.name) for schema in onnxruntime_pybind11_state.get_all_operator_schema())


def runtime_knows(domain: str, op: str) -> bool:
    """Whether ONNX Runtime has the operator and we may pass it on."""
    return domain in DOMAINS and op not in ENDLESS and (domain, op) in _schemas()
