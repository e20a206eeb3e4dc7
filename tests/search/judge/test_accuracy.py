"""Quality, intervals and divergence against hand formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from search.input.task import Kind, Task
from search.judge.accuracy import accuracy, divergence, quality
from search.judge.metrics.base import Quality
from search.judge.metrics.hits import TOP1
from tests.search.graph.nets import images


def test_top1_counts_hits() -> None:
    """Two of four samples are right."""
    outputs = np.eye(4, dtype=np.float32)[[0, 1, 2, 3]]
    assert quality([outputs], np.array([0, 1, 0, 0]), [outputs]).value == 0.5


def test_agreement_without_labels() -> None:
    """Without labels the dense model's choice is the truth."""
    dense = np.array([[1.0, 0], [0, 1.0]], np.float32)
    judged = quality([np.array([[2.0, 1], [2.0, 1]], np.float32)], None, [dense])
    assert (judged.metric.name, judged.value) == ("agreement", 0.5)


def test_r2_equals_its_definition() -> None:
    """1 - residual sum of squares over total sum of squares."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(50, 1))
    p = y + 0.3 * rng.normal(size=(50, 1))
    expected = 1 - ((p - y) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    assert quality([p], y, [p]).value == pytest.approx(expected)


def test_paired_interval_covers_the_truth() -> None:
    """The 95 % interval of the difference holds the true difference in about 95 % of repetitions."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(600):
        dense = (rng.random(200) < 0.9).astype(float)
        pruned = np.where(rng.random(200) < 0.05, 0.0, dense)  # loses 5 % of 0.9
        found = accuracy(Quality(pruned, TOP1), Quality(dense, TOP1))
        covered += found.delta_low <= -0.045 <= found.delta_high
    assert 0.92 <= covered / 600 <= 0.98


def test_the_change_of_r2_has_the_sign_of_the_change() -> None:
    """Against labels: dense misses by 0.1 and pruned by 0.5 standard deviations, or the other way about."""
    y = images(400, 1).astype(np.float64)
    good, bad = (y + size * images(400, 1, seed=3) for size in (0.1, 0.5))
    one, other = (quality([p], y, [good], Task("values")) for p in (good, bad))
    worse, better = accuracy(other, one), accuracy(one, other)
    expected = (((good - y) ** 2).sum() - ((bad - y) ** 2).sum()) / ((y - y.mean()) ** 2).sum()
    assert worse.delta == pytest.approx(expected)
    assert worse.delta_low < worse.delta < worse.delta_high < 0 < better.delta_low
    squares, spread = (bad - y)[:, 0] ** 2, (y - y.mean())[:, 0] ** 2
    influence = (squares - squares.mean() / spread.mean() * spread) / spread.mean()  # the delta method
    half = 1.96 * influence.std() / np.sqrt(400)
    assert worse.high - worse.low == pytest.approx(2 * half, rel=0.1)
    assert worse.low + worse.high == pytest.approx(2 * worse.value)


def test_three_columns_of_which_two_are_destroyed_are_no_full_mark() -> None:
    """The one that is right has numbers a thousand times as large; by hand 1/3 (1 + 0 + 0) where the others are their means."""
    dense = images(300, 3).astype(np.float64) * [1e3, 1.0, 1.0]
    moved = dense.copy()
    moved[:, 1:] = dense[:, 1:].mean(0)
    found = quality([moved], None, [dense], Task("values"))
    assert found.value == pytest.approx(1 / 3, abs=1e-9)
    assert divergence([moved], [dense], Task("values")) == pytest.approx(2 / 3, abs=1e-9)
    first, last = (value[:, :, None, None] * np.ones((1, 1, 6, 7)) for value in (dense, moved))
    for axes in ((0, 1, 2, 3), (0, 2, 3, 1)):  # channels first and last: there are fewer of them than pixels
        maps = quality([last.transpose(axes)], None, [first.transpose(axes)], Task("values"))
        assert maps.value == pytest.approx(1 / 3, abs=1e-9)


def test_a_column_that_does_not_vary_says_nothing() -> None:
    """A constant one, and one that varies by rounding, are left out: by hand the r2 of the third."""
    dense = images(300, 3).astype(np.float64) * [1.0, 1e-6, 0.0] + 5
    moved = dense + 0.1
    assert quality([moved], None, [dense], Task("values")).value == pytest.approx(1 - 0.01 / dense[:, 0].var())


def test_a_limit_is_kept_with_the_confidence_of_the_difference() -> None:
    """Of 400 samples none lost: one in a hundred would show in all but exp(-4) of cases; one lost, and it is less sure."""
    dense = np.ones(400)
    pruned = dense.copy()
    none = accuracy(Quality(pruned, TOP1), Quality(dense, TOP1), 0.01)
    pruned[0] = 0.0
    one = accuracy(Quality(pruned, TOP1), Quality(dense, TOP1), 0.01)
    assert none.keeps_limit == pytest.approx(1 - np.exp(-4), abs=0.005)
    assert one.keeps_limit == pytest.approx(1 - 5 * np.exp(-4), abs=0.01)
    assert accuracy(Quality(pruned, TOP1), Quality(dense, TOP1)).keeps_limit is None


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
    expected = np.mean(2.0**2 / dense.var(0))
    assert divergence([dense + 2], [dense], Task("values")) == pytest.approx(expected, rel=1e-5)
    assert divergence([dense + 2], [dense]) == pytest.approx(0, abs=1e-6)


def test_every_output_counts_by_its_own_spread() -> None:
    """Squared error over variance, the mean of two outputs of very different size, by hand; others do not count."""
    small, large, x = 1e-3 * images(9, 3), 1e3 * images(9, 2, 4, seed=1), images(9, 5)
    moved = [x + 1, small + 1e-4, np.ones((9, 2)), large + 10]
    columns = [np.mean(1e-8 / small.var(0)), np.mean(100 / large.transpose(1, 0, 2).reshape(2, -1).var(1))]
    expected = np.mean(columns)
    task = Task("values", output=1, counted=(1, 3))
    assert divergence(moved, [x, small, np.zeros((9, 2)), large], task) == pytest.approx(expected, rel=1e-3)


def test_without_labels_several_outputs_are_judged_by_the_mean_of_their_r2() -> None:
    """1 - residual over total sum of squares of each; one that is missed by ten times its spread counts as -1, not as -99."""
    near, far = images(50, 3), images(50, 2, seed=1)
    moved = [near + 0.5, far + 10 * far.std()]
    r2 = np.mean(1 - 0.25 / near.var(0))
    judged = quality(moved, None, [near, far])
    assert judged.metric.name == "r2"
    assert judged.value == pytest.approx((r2 - 1) / 2, rel=1e-3)


def test_decisions_count_by_the_share_that_differs() -> None:
    """Whole numbers are compared, whatever their distance."""
    dense = np.arange(12).reshape(4, 3)
    moved = dense.copy()
    moved[0, 0], moved[2, 1] = 77, -5
    assert divergence([moved], [dense]) == pytest.approx(2 / 12)
    assert quality([moved[:, 0]], None, [dense[:, 0]]).value == 0.75


@pytest.mark.parametrize("hole", [-np.inf, np.inf, np.nan])
def test_what_is_not_finite_in_the_dense_model_is_left_out(hole: float) -> None:
    """Masked entries say nothing of the others, for values and for class scores; by hand on what is left."""
    dense, moved = images(6, 4), images(6, 4, seed=2)
    holed, both = dense.copy(), moved.copy()
    holed[:, 1] = both[:, 1] = hole
    kept = [0, 2, 3]
    expected = np.mean(((moved - dense)[:, kept] ** 2).mean(0) / dense[:, kept].var(0))
    assert divergence([both], [holed], Task("values")) == pytest.approx(expected, rel=1e-6)
    capped = np.mean(np.minimum(((moved - dense)[:, kept] ** 2).mean(0) / dense[:, kept].var(0), 2))
    assert 1 - quality([both], None, [holed], Task("values")).value == pytest.approx(capped, rel=1e-6)
    alone = divergence([moved[:, kept]], [dense[:, kept]], Task("classes"))
    assert divergence([both], [holed], Task("classes")) == pytest.approx(alone, rel=1e-6)


@pytest.mark.parametrize("kind", ["values", "classes"])
def test_a_pruned_model_that_is_not_finite_is_far_but_comparable(kind: Kind) -> None:
    """Far beyond one that computes, and still a number."""
    dense = images(6, 4)
    broken = dense.copy()
    broken[0, 0] = np.nan
    assert 100 * divergence([-dense], [dense], Task(kind)) < divergence([broken], [dense], Task(kind)) < 1e9
    assert np.isfinite(quality([broken], None, [dense], Task(kind)).value)


def test_nan_is_never_the_class_that_is_named() -> None:
    """The argmax of numpy is the first NaN."""
    assert Task("classes").answers(np.array([[np.nan, 1, 2], [np.nan, np.nan, np.nan]])).tolist() == [2, 0]
