"""The operator table's lookup; `search.graph.ops` fills it with one file a family."""

from __future__ import annotations

from search.graph.ir import Node
from search.graph.ops.op import Op

OPS: dict[str, Op] = {}
"""By name; an operator of another domain than ONNX's own as ``domain::name``."""


def of(node: Node) -> Op | None:
    """The entry of a node's operator, or None where the table has none."""
    return named(node.domain, node.op)


def named(domain: str, op: str) -> Op | None:
    """The same of a name; ``domain`` is empty for ONNX's own."""
    return OPS.get(f"{domain}::{op}" if domain else op)
