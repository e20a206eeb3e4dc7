"""Quality, intervals and divergence against hand formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from search.evaluate.accuracy import Quality, accuracy, divergence, quality, wilson
from search.task import Task
from tests.search.graph.nets import images


def test_top1_counts_hits() -> None:
    """Two of four samples are right."""
    outputs = np.eye(4, dtype=np.float32)[[0, 1, 2, 3]]
    assert quality(outputs, np.array([0, 1, 0, 0]), outputs).value == 0.5


def test_agreement_without_labels() -> None:
    """Without labels the dense model's choice is the truth."""
    dense = np.array([[1.0, 0], [0, 1.0]], np.float32)
    judged = quality(np.array([[2.0, 1], [2.0, 1]], np.float32), None, dense)
    assert (judged.metric, judged.value) == ("agreement", 0.5)


def test_r2_equals_its_definition() -> None:
    """1 - residual sum of squares over total sum of squares."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(50, 1))
    p = y + 0.3 * rng.normal(size=(50, 1))
    expected = 1 - ((p - y) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    assert quality(p, y, p).value == pytest.approx(expected)


def test_wilson_equals_scipy() -> None:
    """The score interval of scipy's exact-test family."""
    for hits, n in ((0, 10), (7, 10), (93, 100)):
        expected = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
        assert wilson(hits / n, n) == pytest.approx((expected.low, expected.high))


def test_paired_interval_covers_the_truth() -> None:
    """The 95 % interval of the difference holds the true difference in about 95 % of repetitions."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(600):
        dense = (rng.random(200) < 0.9).astype(float)
        pruned = np.where(rng.random(200) < 0.05, 0.0, dense)  # loses 5 % of 0.9
        found = accuracy(Quality(pruned, "top1"), Quality(dense, "top1"))
        covered += found.delta_low <= -0.045 <= found.delta_high
    assert 0.92 <= covered / 600 <= 1.0


def test_divergence_is_kl_of_softmax() -> None:
    """Logits and probabilities give the same Kullback-Leibler divergence as scipy's entropy."""
    rng = np.random.default_rng(2)
    p, q = rng.normal(size=(2, 8, 5))
    soft = [np.exp(v) / np.exp(v).sum(1, keepdims=True) for v in (p, q)]
    expected = np.mean([stats.entropy(a, b) for a, b in zip(*soft, strict=True)])
    assert divergence([q], [p]) == pytest.approx(expected)
    assert divergence([soft[1]], [soft[0]]) == pytest.approx(expected)


def test_divergence_of_values_sees_a_shift() -> None:
    """Columns that are values move by their squared error; a softmax would not see a constant added to all."""
    dense = images(6, 3)
    expected = (2.0**2 * dense.size) / (dense**2).sum()
    assert divergence([dense + 2], [dense], Task("values")) == pytest.approx(expected, rel=1e-5)
    assert divergence([dense + 2], [dense]) == pytest.approx(0, abs=1e-6)
