"""Share of the variance that is right (r2), the mean over columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from search.graph.ir import Array
from search.judge import intervals
from search.judge.metrics.base import FAR, Quality

WORST_R2 = -1.0
"""Of one of several columns: one that hardly varies, and so is easily missed by many times its spread, must not hide what became
of the others."""
HARDLY = 1e-8
"""Part of the largest variance of a column, from which on a column counts: what spreads a ten thousandth as far as another is the
black border of a picture, or rounding."""
TINY = 1e-30


@dataclasses.dataclass(frozen=True)
class R2:
    """A `Metric`; scores (N, C) are squared errors of every column, over the variance of what is wanted there."""

    name: str = "r2"

    def score(self, pairs: Sequence[tuple[Array, Array]]) -> Quality:
        """Outputs and what is wanted of them, judged together.

        Values are judged column by column: an output of large numbers must not hide what became of one of small numbers.
        """
        found = [_of_columns(output, wanted) for output, wanted in pairs]
        weights = [np.full(errors.shape[1], 1 / errors.shape[1] / len(found)) for errors, _ in found]
        errors, spread = (np.concatenate(parts, 1) for parts in zip(*found, strict=True))
        return Quality(errors, self, spread, np.concatenate(weights))

    def value(self, judged: Quality) -> float:
        """Mean over columns of 1 - squared error / variance, none less than `WORST_R2` if there are several."""
        return 1 - _lost(judged, judged.scores).value

    def interval(self, judged: Quality) -> tuple[float, float]:
        """Of the ratio of means, which knows that the variance is estimated."""
        low, high = _lost(judged, judged.scores).interval()
        return 1 - high, 1 - low

    def difference(self, pruned: Quality, dense: Quality) -> intervals.Belief:
        """What the pruned network loses less."""
        return _lost(pruned, dense.scores - pruned.scores)

    def divergence(self, output: Array, dense: Array) -> float:
        """Squared error over variance, the mean over columns; of whole numbers and bools the share of entries that differ."""
        return float(_of_columns(output, dense)[0].mean())


def _lost(judged: Quality, errors: Array) -> intervals.Mean:
    """Squared errors (N, C), or their differences, over the variance: a mean over the columns."""
    assert judged.spread is not None
    assert judged.weights is not None
    most = 1 - WORST_R2 if len(judged.weights) > 1 else np.inf
    return intervals.of_ratios(errors, judged.spread, judged.weights, most)


def _of_columns(outputs: Array, wanted: Array) -> tuple[Array, Array]:
    """Squared errors and squared deviations of every sample and column that varies, (N, C) both, over the column's variance."""
    found, reference = in_columns(outputs), in_columns(wanted)
    if wanted.dtype.kind in "iub":  # an entry differs or not
        return (found != reference).mean(2), np.ones(found.shape[:2])
    finite = np.isfinite(reference)
    counts = np.maximum(finite.sum((0, 2), keepdims=True), 1)
    mean = np.where(finite, reference, 0).sum((0, 2), keepdims=True, dtype=np.float64) / counts
    variance = (np.where(finite, reference - mean, 0) ** 2).sum((0, 2)) / counts[0, :, 0]
    varies = variance > HARDLY * variance.max(initial=0)
    if not varies.any():
        varies[:] = True
    kept, means = reference[:, varies], np.broadcast_to(mean, reference.shape)[:, varies]
    axes = (0, 2)
    return relative_errors(found[:, varies], kept, axes).mean(2), relative_errors(means, kept, axes).mean(2)


def in_columns(value: Array) -> Array:
    """Values (N, ...) as (N, columns, positions): the columns are the shorter of axis 1 and the last one, as channels are."""
    if value.ndim < 3:
        return value.reshape(len(value), -1, 1)
    axis = 1 if value.shape[1] <= value.shape[-1] else value.ndim - 1
    return np.moveaxis(value, axis, 1).reshape(len(value), value.shape[axis], -1)


def relative_errors(outputs: Array, wanted: Array, axis: tuple[int, ...] | None = None) -> Array:
    """Squared errors, one an entry, over the variance of what is wanted about its mean; at most `FAR`, also where not finite.

    Entries that are wanted to be infinite or no number are left out: theirs are 0, and the others count for them in any mean.
    Whole numbers and bools differ or not.

    Args:
        outputs: what was found.
        wanted: shaped as these.
        axis: the variance is that over these axes; None: over all.
    """
    if wanted.dtype.kind in "iub":
        return np.asarray(outputs != wanted, np.float64)
    found, reference = outputs.astype(np.float64), wanted.astype(np.float64)
    finite = np.isfinite(reference)
    share = np.maximum(finite.mean(axis, keepdims=True), TINY)
    found, reference = np.where(finite, found, 0.0), np.where(finite, reference, 0.0)
    mean = reference.mean(axis, keepdims=True) / share
    variance = np.where(finite, (reference - mean) ** 2, 0.0).mean(axis, keepdims=True) / share
    with np.errstate(over="ignore", invalid="ignore"):
        errors = np.nan_to_num(np.minimum((found - reference) ** 2 / np.maximum(variance, TINY), FAR), nan=FAR)
    return np.asarray(errors / share)


VALUES = R2()
