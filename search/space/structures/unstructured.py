"""Unstructured sparsity: any entries of a weight, those whose loss the rest can best make up for."""

from __future__ import annotations

import numpy as np

from search.graph.ir import Array
from search.space.structures.sparse import SPAN, Sparse, lowest, spans_of, sweep


def unstructured(weight: Array, hessian: Array, sparsity: float) -> Sparse:
    """Exactly ``round(sparsity * size)`` zeros, the same share in every `SPAN` columns, freely divided within.

    Args:
        weight: (outputs, inputs).
        hessian: (inputs, inputs), positive definite.
        sparsity: share of zeros, 0 to 1.
    """
    done = zeros = 0

    def choose(span: Array, upper: Array) -> Array:
        nonlocal done, zeros
        done += span.size
        count = round(sparsity * done) - zeros
        zeros += count
        return ~lowest((span / np.diag(upper)) ** 2, count)

    return sweep(weight, hessian, spans_of(weight.shape[1], SPAN), choose)
