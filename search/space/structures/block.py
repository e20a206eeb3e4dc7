"""Block sparsity: tiles of neighbouring outputs and inputs go together; 1 x k is a run of inputs of one output."""

from __future__ import annotations

import numpy as np

from search.graph.ir import Array
from search.space.structures.sparse import SPAN, Sparse, lowest, spans_of, sweep


def block(weight: Array, hessian: Array, sparsity: float, shape: tuple[int, int] = (1, 4)) -> Sparse:
    """A share of the tiles is zero, the same in about every `SPAN` columns; tiles at the edges may be smaller.

    Cutting columns b of one output costs |w_b (U_bb)^-1|^2; a tile costs the sum over its outputs.

    Args:
        weight: (outputs, inputs).
        hessian: (inputs, inputs), positive definite.
        sparsity: share of tiles that go, 0 to 1; the nearest whole number of tiles goes.
        shape: outputs and inputs of a tile.
    """
    rows, columns = shape
    done = cut = 0

    def choose(span: Array, upper: Array) -> Array:
        nonlocal done, cut
        tops = np.arange(0, len(span), rows)
        runs = spans_of(span.shape[1], columns)
        losses = np.stack([_loss(span[:, run], upper[run, run]) for run in runs], 1)
        scores = np.add.reduceat(losses, tops, axis=0)
        done += scores.size
        count = round(sparsity * done) - cut
        cut += count
        keep = np.repeat(~lowest(scores, count), rows, axis=0)[: len(span)]
        return np.repeat(keep, columns, axis=1)[:, : span.shape[1]]

    width = max(1, SPAN // columns) * columns
    return sweep(weight, hessian, spans_of(weight.shape[1], width), choose)


def _loss(weight: Array, upper: Array) -> Array:
    return np.asarray((np.linalg.solve(upper.T, weight.T) ** 2).sum(0))
