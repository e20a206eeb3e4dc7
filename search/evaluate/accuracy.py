"""Quality of outputs against labels, or against the dense model, with intervals; and the divergence that ranks candidates."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import special, stats

from search.errors import InternalError
from search.graph.ir import Array
from search.report import Accuracy
from search.task import Task, decide

Z95 = float(stats.norm.ppf(0.975))
FAR = 1e6
"""Squared error, in variances of the dense output, or nats, of what is not finite where the dense model is: worse than any
network that still computes, and yet a number that means and comparisons can work with."""
WORST_R2 = -1.0
"""Of one of several outputs: an output that hardly varies, and so is easily missed by many times its spread, must not hide what
became of the others."""


@dataclasses.dataclass(frozen=True)
class Quality:
    """What every sample scored, (N,): 1 or 0 for a hit (their mean for maps), a squared error over the variance for values."""

    scores: Array
    metric: str

    @property
    def value(self) -> float:
        """Mean hit rate, or 1 - squared error / variance."""
        mean = float(self.scores.mean())
        return 1 - mean if self.metric == "r2" else mean


def quality(
    outputs: Sequence[Array], labels: Array | None, dense: Sequence[Array], task: Task | None = None
) -> Quality:
    """Score every sample.

    Without labels values of several outputs are judged together, by the mean of their r2, none of which counts as less than
    `WORST_R2`.

    Args:
        outputs: of the model, each (N, C, ...) scores or (N, ...) values.
        labels: in normal form where there is a task, or as `search.task.decide` takes them; None: against ``dense``.
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
        return Quality(_by_sample(relative_errors(judged, labels.reshape(judged.shape))), "r2")
    errors = [_by_sample(relative_errors(outputs[k], dense[k])) for k in task.counted if len(dense[k]) == len(judged)]
    most = 1 - WORST_R2 if len(errors) > 1 else np.inf
    return Quality(np.mean([each * min(1.0, most / max(float(each.mean()), 1e-30)) for each in errors], 0), "r2")


def relative_errors(outputs: Array, wanted: Array) -> Array:
    """Squared errors, one an entry, over the variance of what is wanted about its mean; at most `FAR`, also where not finite.

    Entries that are wanted to be infinite or no number are left out: theirs are 0, and the others count for them in any mean.
    Whole numbers and bools differ or not.
    """
    if wanted.dtype.kind in "iub":
        return np.asarray(outputs != wanted, np.float64)
    found, reference = outputs.astype(np.float64), wanted.astype(np.float64)
    finite = np.isfinite(reference)
    if not finite.any():
        return np.zeros(reference.shape)
    found, reference = np.where(finite, found, 0.0), np.where(finite, reference, 0.0)
    variance = max(float(reference[finite].var()), 1e-30)
    with np.errstate(over="ignore", invalid="ignore"):
        errors = np.nan_to_num(np.minimum((found - reference) ** 2 / variance, FAR), nan=FAR)
    return np.asarray(errors / finite.mean())


def _by_sample(errors: Array) -> Array:
    """Mean of every sample, (N,)."""
    return np.asarray(errors.reshape(len(errors), -1).mean(1))


def _hits(found: Array, wanted: Array) -> Array:
    if found.shape != wanted.shape:  # numpy would compare every answer with every label
        raise InternalError(f"answers of shape {found.shape} are compared with labels of shape {wanted.shape}")
    return np.asarray((found == wanted).reshape(len(found), -1).mean(1), np.float64)


def accuracy(pruned: Quality, dense: Quality) -> Accuracy:
    """A 95 % interval for the value (Wilson for hit rates) and for the paired difference to the dense model."""
    n = len(pruned.scores)
    if pruned.metric == "r2":
        half = Z95 * float(pruned.scores.std(ddof=1)) / np.sqrt(n)
        low, high = pruned.value - half, pruned.value + half
    else:
        low, high = wilson(pruned.value, n)
    difference = (pruned.scores - dense.scores) * (-1 if pruned.metric == "r2" else 1)
    delta = float(difference.mean())
    # one pseudo-sample of each sign keeps the interval honest where no sample changed
    spread = float(np.sqrt(((difference - delta) ** 2).sum() + 1) / n)
    return Accuracy(pruned.value, low, high, delta, delta - Z95 * spread, delta + Z95 * spread, n, pruned.metric)


def wilson(rate: float, n: int) -> tuple[float, float]:
    """Score interval of a proportion (Wilson 1927).

    Example:
        >>> low, high = wilson(0.5, 100)
        >>> round(low, 3), round(high, 3)
        (0.404, 0.596)
    """
    centre = (rate + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 * np.sqrt(rate * (1 - rate) / n + Z95**2 / (4 * n**2)) / (1 + Z95**2 / n)
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


def divergence(outputs: Sequence[Array], dense: Sequence[Array], task: Task | None = None) -> float:
    """How far outputs moved from the dense model's: the mean over all that count, each scaled by its own spread.

    Class scores or probabilities (N, C) move by mean KL(dense || pruned), where the task says that they are classes; floats by
    squared error over variance; whole numbers and bools by the share of entries that differ.

    Args:
        outputs: of the model.
        dense: of the dense model, shaped as ``outputs``.
        task: which outputs count, and what they mean; None: decided by ``dense``.
    """
    task = decide(dense, None)[0] if task is None else task
    moved = [
        _kl(outputs[k], dense[k])
        if k == task.output and task.scores(dense)
        else float(relative_errors(outputs[k], dense[k]).mean())
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
