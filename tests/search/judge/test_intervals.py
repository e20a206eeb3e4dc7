"""Intervals cover what they should: by simulation, by hand, and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from search.judge.intervals import Flips, Mean, of_differences, of_rate, of_ratios


def covered(truth: float, intervals: list[tuple[float, float]]) -> float:
    """Share of intervals that hold the truth."""
    return float(np.mean([low <= truth <= high for low, high in intervals]))


@pytest.mark.parametrize(("losses", "wins"), [(2, 0), (3, 0), (5, 0), (8, 0), (20, 0), (3, 3), (8, 4)])
def test_rare_losses_are_covered(losses: int, wins: int) -> None:
    """So many of 250 samples are lost on average, as Poisson has it: every pair of counts by its probability."""
    n, share = 250, 0.0
    for lost in range(60):
        for won in range(40 if wins else 1):
            weight = stats.binom.pmf(lost, n, losses / n) * stats.binom.pmf(won, n, wins / n)
            if weight > 1e-5:
                low, high = Flips(lost, won, n).interval()
                share += weight * (low <= (wins - losses) / n <= high)
    assert 0.93 <= share <= 0.998


def test_nothing_lost_does_not_mean_that_nothing_is_ever_lost() -> None:
    """Of 300, none: the interval is open to both sides, and three in 300 are hardly beyond it (the rule of three)."""
    low, high = Flips(0, 0, 300).interval()
    assert -3 / 300 < low < -1.5 / 300
    assert high == pytest.approx(-low, rel=0.1)


def test_the_confidence_is_never_too_high() -> None:
    """At the limit itself, 2.5 of 250 lost, a confidence of 0.8 or more is given to at most one case in five."""
    for limit in (0.006, 0.01, 0.02, 0.04):
        for confidence in (0.5, 0.8, 0.95):
            passing = [k for k in range(80) if Flips(k, 0, 250).confidence(-limit) >= confidence]
            assert stats.binom.pmf(passing, 250, limit).sum() <= 1 - confidence + 0.01
    assert Flips(5, 0, 250).confidence(-0.1) > 0.99
    assert Flips(30, 0, 250).confidence(-0.1) < 0.3
    assert Flips(5, 9, 250).confidence(-0.01) > Flips(5, 0, 250).confidence(-0.01)


def test_shares_of_maps_are_students() -> None:
    """Differences that are no flips: their mean, and an interval that covers it."""
    rng = np.random.default_rng(0)
    draws = [rng.beta(2, 5, 60) - 0.4 for _ in range(800)]
    found = [of_differences(each) for each in draws]
    assert all(isinstance(each, Mean) for each in found)
    assert found[0].value == pytest.approx(draws[0].mean())
    assert 0.93 <= covered(2 / 7 - 0.4, [each.interval() for each in found]) <= 0.98
    assert isinstance(of_differences(np.array([0.0, -1.0, 1.0])), Flips)


def test_rates_are_covered_near_one_too() -> None:
    """Mid-P, every count by its probability; the mean over rates from 90 to 99.9 % is 95 %, and none is below 91.5 %."""
    n = 250
    intervals = [of_rate((np.arange(n) < hits).astype(float)) for hits in range(n + 1)]
    shares = []
    for rate in 1 - np.geomspace(0.001, 0.1, 40):
        held = [low <= rate <= high for low, high in intervals]
        shares.append(float(stats.binom.pmf(np.arange(n + 1), n, rate) @ held))
    assert 0.94 <= np.mean(shares) <= 0.97
    assert min(shares) >= 0.915
    assert intervals[n][1] == 1.0
    assert intervals[0][0] == 0.0
    assert intervals[n // 2][0] == pytest.approx(1 - intervals[n // 2][1], abs=1e-9)


def drawn(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """Targets of a distribution, three columns."""
    made = {
        "normal": lambda: rng.normal(size=(n, 3)),
        "skewed": lambda: rng.exponential(size=(n, 3)) - 1,
        "heavy": lambda: rng.standard_t(6, size=(n, 3)) / np.sqrt(1.5),
    }
    return np.asarray(made[kind]())


@pytest.mark.parametrize("kind", ["normal", "skewed", "heavy"])
@pytest.mark.parametrize("columns", [1, 3])
def test_r2_knows_that_its_variance_is_estimated(kind: str, columns: int) -> None:
    """Errors of 0.4 standard deviations that do not depend on the target: 0.16 is the truth in all cases."""
    rng = np.random.default_rng(1)
    intervals = []
    for _ in range(500):
        y = drawn(kind, 200, rng)[:, :columns]
        errors = (0.4 * rng.normal(size=y.shape)) ** 2
        intervals.append(of_ratios(errors, (y - y.mean(0)) ** 2, np.full(columns, 1 / columns), 2.0).interval())
    assert 0.92 <= covered(0.16, intervals) <= 0.98


def test_the_jackknife_by_hand() -> None:
    """Leaving each sample out in turn, with its own mean, gives the very same standard error."""
    y, p = np.random.default_rng(2).normal(size=(2, 30, 2)) * [1.0, 5.0]
    errors, spread, weights = (y - p) ** 2, (y - y.mean(0)) ** 2, np.array([0.5, 0.5])
    found = of_ratios(errors, spread, weights, np.inf)
    without = []
    for i in range(30):
        rest = np.delete(np.arange(30), i)
        variance = ((y[rest] - y[rest].mean(0)) ** 2).sum(0)
        without.append(float(np.mean(errors[rest].sum(0) / variance)))
    assert found.value == pytest.approx(float(np.mean(errors.sum(0) / spread.sum(0))))
    assert found.error == pytest.approx(np.sqrt(29 / 30 * ((without - np.mean(without)) ** 2).sum()))


def test_a_column_counts_no_more_than_its_bound() -> None:
    """One is missed by ten times its spread."""
    spread = np.ones((9, 2))
    assert of_ratios(np.stack([np.full(9, 100.0), np.full(9, 0.5)], 1), spread, np.array([0.5, 0.5]), 2.0).value == 1.25


def test_students_confidence() -> None:
    """A mean two standard errors above the limit, with scipy's distribution; without any doubt it is yes or no."""
    assert Mean(0.0, 0.5, 9.0).confidence(-1.0) == pytest.approx(stats.t.cdf(2.0, 9.0))
    low, high = Mean(1.0, 0.5, 9.0).interval()
    assert (low, high) == (
        pytest.approx(1 - 0.5 * stats.t.ppf(0.975, 9)),
        pytest.approx(1 + 0.5 * stats.t.ppf(0.975, 9)),
    )
    assert Mean(0.0, 0.0, 9.0).confidence(0.0) == 1.0
    assert Mean(-1.0, 0.0, 9.0).confidence(0.0) == 0.0
