"""THE operator table: one entry an operator.

An entry says how the operator is computed (`lower`), how unit ids flow through it when channels are coupled (`flow`),
which inputs hold trainable weights (`weights`) and what kernel a device runs for it (`kind`). An operator that is not
in the table freezes its neighbours and is explained; it never fails a job on its own.
"""

from __future__ import annotations

from search.graph import ops_math, ops_move, ops_nn
from search.graph.op import Op

OPS: dict[str, Op] = {
    **ops_nn.WEIGHTED,
    **ops_nn.NORMS,
    **ops_nn.POOLS,
    **ops_nn.ATTENTION,
    **ops_math.ARITHMETIC,
    **ops_math.POINTWISE,
    **ops_math.REDUCTIONS,
    **ops_move.MOVEMENT,
    **ops_move.SELECTION,
    **ops_move.STATIC,
    **ops_move.SEQUENCES,
}
