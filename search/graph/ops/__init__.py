"""THE operator table: one entry an operator, one file a family.

An entry says all that the engine asks of an operator: how it is computed, how unit ids flow through it when channels are
coupled, what it says about sizes and how that is cut, which inputs hold trainable weights, how it is refitted, what kernel a
device runs for it. Passes that rewrite a pattern name what they match; nobody else lists operators. An operator that is not in
the table is run by ONNX Runtime as it is; it freezes its neighbours and is explained, and never fails a job on its own.
"""

from __future__ import annotations

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
from search.graph.ops.table import OPS, named, of

__all__ = ["OPS", "Op", "named", "of"]

for family in (
    conv,
    dense,
    recurrent,
    attention,
    norm,
    pool,
    quant,
    arithmetic,
    pointwise,
    reduce,
    move,
    resample,
    select,
    signal,
    static,
    sequence,
):
    OPS.update(family.OPS)
