"""Share of answers that are right: those of the labels (top-1), or of the dense network (agreement)."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import special

from search.graph.ir import Array
from search.judge import intervals
from search.judge.metrics.base import FAR, Quality
from search.wire.errors import InternalError


@dataclasses.dataclass(frozen=True)
class Hits:
    """A `Metric`; scores (N,) are 1 or 0, or the mean of those of a sample's places."""

    name: str

    def score(self, found: Array, wanted: Array) -> Quality:
        """Answers (N, ...) against those that are wanted, of the same shape."""
        return Quality(_hits(found, wanted), self)

    def value(self, judged: Quality) -> float:
        """Mean hit rate."""
        return float(judged.scores.mean())

    def interval(self, judged: Quality) -> tuple[float, float]:
        """Of the rate."""
        return intervals.of_rate(judged.scores)

    def difference(self, pruned: Quality, dense: Quality) -> intervals.Belief:
        """Of the rates."""
        return intervals.of_differences(pruned.scores - dense.scores)

    def divergence(self, output: Array, dense: Array) -> float:
        """Mean KL(dense || pruned) of rows (N, C), over the classes whose dense scores are finite."""
        finite = np.isfinite(dense)
        log_q, log_p = (_log_probabilities(np.where(finite, x.astype(np.float64), -np.inf)) for x in (output, dense))
        with np.errstate(invalid="ignore"):
            found = np.where(finite, np.exp(log_p) * (log_p - log_q), 0.0).sum(1)[finite.any(1)]
        return float(np.nan_to_num(np.minimum(found, FAR), nan=FAR).mean()) if found.size else 0.0


def _hits(found: Array, wanted: Array) -> Array:
    if found.shape != wanted.shape:  # numpy would compare every answer with every label
        raise InternalError(f"answers of shape {found.shape} are compared with labels of shape {wanted.shape}")
    return np.asarray((found == wanted).reshape(len(found), -1).mean(1), np.float64)


def _log_probabilities(scores: Array) -> Array:
    is_probability = scores.min() >= 0 and np.allclose(scores.sum(1), 1, atol=1e-3)
    logits = np.log(np.maximum(scores, 1e-12)) if is_probability else scores
    with np.errstate(invalid="ignore"):
        return np.asarray(special.log_softmax(logits, axis=1))


AGREEMENT, TOP1 = Hits("agreement"), Hits("top1")
