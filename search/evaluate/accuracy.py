"""Quality of outputs against labels, or against the dense model, with intervals; and the divergence that ranks candidates."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import special, stats

from search.errors import InternalError
from search.graph.ir import Array
from search.report import Accuracy
from search.task import Task, is_scores, understand

Z95 = float(stats.norm.ppf(0.975))


@dataclasses.dataclass(frozen=True)
class Quality:
    """What every sample scored, (N,): 1 or 0 for a hit (their mean for maps), a squared error for values."""

    scores: Array
    metric: str
    scale: float = 1.0
    """Variance of the targets, for ``r2``."""

    @property
    def value(self) -> float:
        """Mean hit rate, or 1 - squared error / variance."""
        mean = float(self.scores.mean())
        return 1 - mean / self.scale if self.metric == "r2" else mean


def quality(outputs: Array, labels: Array | None, dense: Array, task: Task | None = None) -> Quality:
    """Score every sample.

    Args:
        outputs: the model's first output, (N, C, ...) scores or (N, ...) values.
        labels: in normal form where there is a task, or as `search.task.understand` takes them; None: agreement with ``dense``.
        dense: the dense model's output, shaped as ``outputs``.
        task: what both mean; None: decided by ``dense`` and ``labels``.
    """
    if task is None:
        task, labels = understand(dense, labels)
    if task.kind != "values":
        wanted = task.answers(dense) if labels is None else labels
        return Quality(_hits(task.answers(outputs), wanted), "agreement" if labels is None else "top1")
    targets = dense if labels is None else labels.reshape(outputs.shape)
    errors = ((outputs.astype(np.float64) - targets) ** 2).reshape(len(outputs), -1).mean(1)
    return Quality(errors, "r2", max(float(targets.astype(np.float64).var()), 1e-30))


def _hits(found: Array, wanted: Array) -> Array:
    if found.shape != wanted.shape:  # numpy would compare every answer with every label
        raise InternalError(f"answers of shape {found.shape} are compared with labels of shape {wanted.shape}")
    return np.asarray((found == wanted).reshape(len(found), -1).mean(1), np.float64)


def accuracy(pruned: Quality, dense: Quality) -> Accuracy:
    """A 95 % interval for the value (Wilson for hit rates) and for the paired difference to the dense model."""
    n = len(pruned.scores)
    if pruned.metric == "r2":
        half = Z95 * float(pruned.scores.std(ddof=1)) / np.sqrt(n) / pruned.scale
        low, high = pruned.value - half, pruned.value + half
    else:
        low, high = wilson(pruned.value, n)
    difference = (pruned.scores - dense.scores) / pruned.scale * (-1 if pruned.metric == "r2" else 1)
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


def divergence(outputs: list[Array], dense: list[Array], task: Task | None = None) -> float:
    """How far outputs moved from the dense model's: mean KL(dense || pruned) of the classes, or relative squared error.

    The first output decides for classifiers, (N, C) scores or probabilities; all outputs count otherwise, and where the
    ``task`` says that columns are values.
    """
    first, reference = outputs[0].astype(np.float64), dense[0].astype(np.float64)
    if is_scores(outputs) and (task is None or task.kind == "classes"):
        log_q, log_p = _log_probabilities(first), _log_probabilities(reference)
        return float((np.exp(log_p) * (log_p - log_q)).sum(1).mean())
    errors = [
        ((a - b).astype(np.float64) ** 2).sum() / max((b.astype(np.float64) ** 2).sum(), 1e-30)
        for a, b in zip(outputs, dense, strict=True)
    ]
    return float(np.mean(errors))


def _log_probabilities(scores: Array) -> Array:
    is_probability = scores.min() >= 0 and np.allclose(scores.sum(1), 1, atol=1e-3)
    logits = np.log(np.maximum(scores, 1e-12)) if is_probability else scores
    return np.asarray(special.log_softmax(logits, axis=1))
