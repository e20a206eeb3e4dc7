"""THE operator table: one entry an operator, one file a family.

An entry says all that the engine asks of an operator: how it is computed, how unit ids flow through it when channels are
coupled, what it says about sizes and how that is cut, which inputs hold trainable weights, how it is refitted, what kernel a
device runs for it. Passes that rewrite a pattern name what they match; nobody else lists operators. An operator that is not in
the table is run by ONNX Runtime as it is; it freezes its neighbours and is explained, and never fails a job on its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from search.graph.ir import Node
from search.graph.ops import (
    arithmetic,
    attention,
    conv,
    dense,
    move,
    norm,
    pointwise,
    pool,
    quant,
    recurrent,
    reduce,
    resample,
    select,
    sequence,
    signal,
    static,
)
from search.graph.ops.op import Op

__all__ = ["OPS", "Op", "named", "of"]

OPS: Mapping[str, Op] = {
    **conv.OPS,
    **dense.OPS,
    **recurrent.OPS,
    **attention.OPS,
    **norm.OPS,
    **pool.OPS,
    **quant.OPS,
    **arithmetic.OPS,
    **pointwise.OPS,
    **reduce.OPS,
    **move.OPS,
    **resample.OPS,
    **select.OPS,
    **signal.OPS,
    **static.OPS,
    **sequence.OPS,
}
"""By name; an operator of another domain than ONNX's own as ``domain::name``."""


def of(node: Node) -> Op | None:
    """The entry of a node's operator, or None where the table has none."""
    return named(node.domain, node.op)


def named(domain: str, op: str) -> Op | None:
    """The same of a name; ``domain`` is empty for ONNX's own."""
    return OPS.get(f"{domain}::{op}" if domain else op)
