"""What every metric says: how samples score, what the scores come to, how sure that is, and how far a candidate moved by it."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

from search.graph.ir import Array
from search.judge.intervals import Belief

FAR = 1e6
"""Squared error, in variances of the dense output, or nats, of what is not finite where the dense model is: worse than any
network that still computes, and yet a number that means and comparisons can work with."""


@dataclasses.dataclass(frozen=True)
class Quality:
    """What every sample scored by a metric."""

    scores: Array
    """(N, ...): what the metric makes of each sample."""
    metric: Metric
    spread: Array | None = None
    """For values (N, C): squared deviations of what is wanted from its column's mean, over the same variance."""
    weights: Array | None = None
    """For values (C,): what each column counts; of several outputs each counts alike, and so does each column of one."""

    @property
    def value(self) -> float:
        """What all samples together come to."""
        return self.metric.value(self)

    def take(self, index: Any) -> Quality:
        """Of the samples at these positions."""
        spread = None if self.spread is None else self.spread[index]
        return dataclasses.replace(self, scores=self.scores[index], spread=spread)


class Metric(Protocol):
    """A metric: one file, and its line in `search.judge.metrics`."""

    @property
    def name(self) -> str:
        """In the report."""

    def value(self, judged: Quality) -> float:
        """What the scores come to; 1 is as good as can be."""

    def interval(self, judged: Quality) -> tuple[float, float]:
        """95 % interval of the value."""

    def difference(self, pruned: Quality, dense: Quality) -> Belief:
        """Value of one less that of the other, paired by sample."""

    def divergence(self, output: Array, dense: Array) -> float:
        """How far an output (N, ...) moved from the dense network's, where more is worse; at most `FAR` a sample."""
