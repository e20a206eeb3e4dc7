"""THE operator table: one entry an operator.

An entry says how the operator is computed (`lower`), how unit ids flow through it when channels are coupled (`flow`),
which inputs hold trainable weights (`weights`) and what kernel a device runs for it (`kind`). An operator that is not
in the table freezes its neighbours and is explained; it never fails a job on its own.
"""

from __future__ import annotations

from search.graph.ops import math, move, nn
from search.graph.ops.op import Op

OPS: dict[str, Op] = {
    **nn.WEIGHTED,
    **nn.NORMS,
    **nn.POOLS,
    **nn.ATTENTION,
    **math.ARITHMETIC,
    **math.POINTWISE,
    **math.REDUCTIONS,
    **move.MOVEMENT,
    **move.SELECTION,
    **move.STATIC,
    **move.SEQUENCES,
}
