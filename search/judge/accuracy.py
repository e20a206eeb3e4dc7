"""Quality of outputs against labels, or against the dense model, with intervals; and the divergence that ranks candidates."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special, stats

from search.graph.ir import Array
from search.input.task import Task, decide
from search.judge import intervals
from search.wire.errors import InternalError
from search.wire.report import Accuracy

Z95 = float(stats.norm.ppf(0.975))
FAR = 1e6
"""Squared error, in variances of the dense output, or nats, of what is not finite where the dense model is: worse than any
network that still computes, and yet a number that means and comparisons can work with."""
WORST_R2 = -1.0
"""Of one of several columns: one that hardly varies, and so is easily missed by many times its spread, must not hide what became
of the others."""
HARDLY = 1e-8
"""Part of the largest variance of a column, from which on a column counts: what spreads a ten thousandth as far as another is the
black border of a picture, or rounding."""
TINY = 1e-30


@dataclasses.dataclass(frozen=True)
class Quality:
    """What every sample scored."""

    scores: Array
    """(N,): 1 or 0 for a hit, their mean for maps. For values (N, C): squared errors of every column, over the variance of what
    is wanted there."""
    metric: str
    spread: Array | None = None
    """For values (N, C): squared deviations of what is wanted from its column's mean, over the same variance."""
    weights: Array | None = None
    """For values (C,): what each column counts; of several outputs each counts alike, and so does each column of one."""

    @property
    def value(self) -> float:
        """Mean hit rate, or the mean over columns of 1 - squared error / variance, none less than `WORST_R2` if several."""
        if self.spread is None or self.weights is None:
            return float(self.scores.mean())
        return 1 - self.lost(self.scores).value

    def lost(self, errors: Array) -> intervals.Mean:
        """Squared errors (N, C), or their differences, over the variance: a mean over the columns."""
        assert self.spread is not None
        assert self.weights is not None
        most = 1 - WORST_R2 if len(self.weights) > 1 else np.inf
        return intervals.of_ratios(errors, self.spread, self.weights, most)

    def take(self, index: Any) -> Quality:
        """Of the samples at these positions."""
        return dataclasses.replace(
            self, scores=self.scores[index], spread=None if self.spread is None else self.spread[index]
        )


def quality(
    outputs: Sequence[Array], labels: Array | None, dense: Sequence[Array], task: Task | None = None
) -> Quality:
    """Score every sample.

    Without labels values of several outputs are judged together. Values are judged column by column: an output of large numbers
    must not hide what became of one of small numbers.

    Args:
        outputs: of the model, each (N, C, ...) scores or (N, ...) values.
        labels: in normal form where there is a task, or as `search.input.task.decide` takes them; None: against ``dense``.
        dense: the dense model's outputs, shaped as ``outputs``.
        task: what both mean; None: decided by ``dense`` and ``labels``.
    """
    if task is None:
        task, labels = decide(dense, labels)
    judged, reference = outputs[task.output], dense[task.output]
    if task.kind != "values":
        wanted = task.answers(reference) if labels is None else labels
        return Quality(_hits(task.answers(judged), wanted), "agreement" if labels is None else "top1")
    if labels is not None:
        pairs = [(judged, labels.reshape(judged.shape))]
    else:
        pairs = [(outputs[k], dense[k]) for k in task.counted if len(dense[k]) == len(judged)]
    found = [_of_columns(output, wanted) for output, wanted in pairs]
    weights = [np.full(errors.shape[1], 1 / errors.shape[1] / len(found)) for errors, _ in found]
    errors, spread = (np.concatenate(parts, 1) for parts in zip(*found, strict=True))
    return Quality(errors, "r2", spread, np.concatenate(weights))


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


def _hits(found: Array, wanted: Array) -> Array:
    if found.shape != wanted.shape:  # numpy would compare every answer with every label
        raise InternalError(f"answers of shape {found.shape} are compared with labels of shape {wanted.shape}")
    return np.asarray((found == wanted).reshape(len(found), -1).mean(1), np.float64)


def accuracy(pruned: Quality, dense: Quality, limit: float | None = None) -> Accuracy:
    """A 95 % interval for the value and for the paired difference to the dense model.

    Args:
        pruned: of the network.
        dense: of the dense one, on the same samples.
        limit: the most that may be lost; the result then says how surely no more is.
    """
    n = len(pruned.scores)
    difference: intervals.Belief
    if pruned.metric == "r2":
        low, high = (1 - bound for bound in reversed(pruned.lost(pruned.scores).interval()))
        difference = pruned.lost(dense.scores - pruned.scores)
    else:
        low, high = intervals.of_rate(pruned.scores)
        difference = intervals.of_differences(pruned.scores - dense.scores)
    kept = None if limit is None else difference.confidence(-limit)
    return Accuracy(pruned.value, low, high, difference.value, *difference.interval(), n, pruned.metric, kept)


def divergence(outputs: Sequence[Array], dense: Sequence[Array], task: Task | None = None) -> float:
    """How far outputs moved from the dense model's: the mean over all that count, each scaled by its own spread.

    Class scores or probabilities (N, C) move by mean KL(dense || pruned), where the task says that they are classes; floats by
    squared error over variance, the mean over columns; whole numbers and bools by the share of entries that differ.

    Args:
        outputs: of the model.
        dense: of the dense model, shaped as ``outputs``.
        task: which outputs count, and what they mean; None: decided by ``dense``.
    """
    task = decide(dense, None)[0] if task is None else task
    moved = [
        _kl(outputs[k], dense[k])
        if k == task.output and task.scores(dense)
        else float(_of_columns(outputs[k], dense[k])[0].mean())
        for k in task.counted
        if dense[k].size
    ]
    return float(np.mean(moved)) if moved else 0.0


def _kl(scores: Array, dense: Array) -> float:
    """Mean KL(dense || pruned) of rows, over the classes whose dense scores are finite; at most `FAR` a sample."""
    finite = np.isfinite(dense)
    log_q, log_p = (_log_probabilities(np.where(finite, x.astype(np.float64), -np.inf)) for x in (scores, dense))
    with np.errstate(invalid="ignore"):
        found = np.where(finite, np.exp(log_p) * (log_p - log_q), 0.0).sum(1)[finite.any(1)]
    return float(np.nan_to_num(np.minimum(found, FAR), nan=FAR).mean()) if found.size else 0.0


def _log_probabilities(scores: Array) -> Array:
    is_probability = scores.min() >= 0 and np.allclose(scores.sum(1), 1, atol=1e-3)
    logits = np.log(np.maximum(scores, 1e-12)) if is_probability else scores
    with np.errstate(invalid="ignore"):
        return np.asarray(special.log_softmax(logits, axis=1))
