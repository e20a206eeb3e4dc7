"""Zeros inside a weight: one sweep over its columns that cuts entries and lets the columns behind make up for them.

For outputs Y = X W' of a layer and H = X'X / R + lambda I, the upper Cholesky factor U of H^-1 (H^-1 = U'U) holds the
inverse Hessians of all trailing columns at once: (H[i:, i:])^-1 = U[i:, i:]' U[i:, i:]. So one factor serves every row,
whatever each row has lost: cutting w_i costs (w_i / U_ii)^2 and is made up for by W[:, i:] -= (w_i / U_ii) U[i, i:].

Source: SparseGPT, Frantar & Alistarh (2023), section 3 and algorithm 1; `unstructured`, `nm` and `block` choose what goes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from search.graph.ir import Array

SPAN = 8
"""Columns among which zeros are divided freely, over all outputs. On layers of ResNet-20 at 50 and 75 % zeros, 8 lose 15 and 32 %
less than the paper's 128: within a span, scores know only of the columns behind, so early columns lose too much."""


@dataclasses.dataclass(frozen=True)
class Sparse:
    """A weight (outputs, inputs) with exact zeros."""

    mask: Array
    """True stays."""
    weight: Array
    error: float
    """Energy of the change of the outputs over the energy of the outputs, both about their means."""

    @property
    def sparsity(self) -> float:
        """Share of zeros."""
        return float(1 - self.mask.mean())


Choose = Callable[[Array, Array], Array]
"""(weights (outputs, span), their part of U (span, span)) to the mask of the span."""


def damped(gram: Array, damping: float) -> Array:
    """Second moments (d, d) with ``damping`` times their mean diagonal added, float64: positive definite."""
    moments: Array = gram.astype(np.float64)
    return np.asarray(moments + (damping * np.trace(moments) / len(moments) + 1e-12) * np.eye(len(moments)))


def sweep(weight: Array, hessian: Array, spans: Sequence[slice], choose: Choose) -> Sparse:
    """Cut span after span, left to right.

    Args:
        weight: (outputs, inputs).
        hessian: (inputs, inputs), positive definite.
        spans: adjacent slices that cover the inputs.
        choose: what stays of a span, given its weights as the cuts before have left them.
    """
    import scipy.linalg  # 0.2 s that naming a pattern does without  # noqa: PLC0415

    upper = scipy.linalg.cholesky(np.linalg.inv(hessian))
    left = weight.astype(np.float64)
    mask = np.ones(weight.shape, bool)
    for span in spans:
        mask[:, span] = choose(left[:, span], upper[span, span])
        errors = _clear(left[:, span], mask[:, span], upper[span, span])
        left[:, span.stop :] -= errors @ upper[span, span.stop :]
    return Sparse(mask, left, output_error(weight, left, hessian))


def _clear(weight: Array, mask: Array, upper: Array) -> Array:
    """Zero what the mask cuts, in place, column by column; what later columns must make up for, (outputs, span)."""
    errors = np.zeros_like(weight)
    for i in range(weight.shape[1]):
        errors[:, i] = np.where(mask[:, i], 0.0, weight[:, i] / upper[i, i])
        weight[:, i:] -= errors[:, i : i + 1] * upper[i, i:]
        weight[~mask[:, i], i] = 0.0
    return errors


def output_error(before: Array, after: Array, hessian: Array) -> float:
    """tr(D H D') / tr(W H W') with D the change of W."""
    change = after - before
    energy = float(((before @ hessian) * before).sum())
    return float(((change @ hessian) * change).sum()) / max(energy, 1e-30)


def refit(weight: Array, hessian: Array, mask: Array) -> Sparse:
    """The best weights on a given mask: every row solves H_KK w_K = (H w_dense)_K over its kept columns K.

    Costs a factorisation a row; the sweep is within a few per cent of it.
    """
    wanted = weight.astype(np.float64) @ hessian
    best = np.zeros(weight.shape)
    for row, keep in enumerate(mask):
        kept = np.flatnonzero(keep)
        best[row, kept] = np.linalg.solve(hessian[np.ix_(kept, kept)], wanted[row, kept])
    return Sparse(mask, best, output_error(weight, best, hessian))


def spans_of(columns: int, width: int) -> list[slice]:
    """Adjacent slices of ``width`` columns; the last may be narrower.

    Example:
        >>> spans_of(5, 2)
        [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(start, min(start + width, columns)) for start in range(0, columns, width)]


def lowest(scores: Array, count: int) -> Array:
    """Boolean, shaped as ``scores``: True at its ``count`` lowest; of equals, the earlier.

    Example:
        >>> lowest(np.array([3.0, 1.0, 2.0, 1.0]), 2).tolist()
        [False, True, False, True]
    """
    chosen = np.zeros(scores.size, bool)
    chosen[np.argsort(scores, axis=None, kind="stable")[:count]] = True
    return chosen.reshape(scores.shape)
