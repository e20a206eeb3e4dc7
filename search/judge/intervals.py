"""What samples say of a mean, and how surely: intervals that cover the truth in 95 of 100 cases, rare losses and all.

``tests.benchmarks.truth`` measures their coverage by simulation.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

Floats = NDArray[np.float64]
TAILS = (0.025, 0.975)
Z95 = float(stats.norm.ppf(TAILS[1]))
"""Half-width of a normal distribution's 95 % interval, in standard deviations."""
DRAWS = 40_000
"""Of a posterior: its quantiles are then off by a hundredth of its width."""
FEWEST_DEGREES = 3.0
"""Of Student's distribution, whose variance is finite from there on."""


class Belief(Protocol):
    """What samples say of a difference to the dense model."""

    @property
    def value(self) -> float:
        """The estimate."""

    @property
    def error(self) -> float:
        """Its standard error."""

    def interval(self) -> tuple[float, float]:
        """The 95 % interval."""

    def confidence(self, least: float) -> float:
        """How surely the true difference is at least so large."""


@dataclasses.dataclass(frozen=True)
class Flips:
    """Samples that were lost or won, of ``n``: differences of -1, 0 and 1.

    The interval is that of a Dirichlet posterior with Jeffreys' prior, which knows that what is rare is seen on one side alone.
    The confidence counts one more loss and no prior win, as Clopper and Pearson's (1934) bound does, so it is never too high.
    """

    lost: int
    won: int
    n: int

    @property
    def value(self) -> float:
        """Mean difference."""
        return (self.won - self.lost) / self.n

    @property
    def error(self) -> float:
        """Standard error, as if one more sample had been lost."""
        return float(np.sqrt(self.lost + self.won + 1) / self.n)

    def interval(self) -> tuple[float, float]:
        """The 95 % interval."""
        low, high = np.quantile(_drawn(self.lost + 0.5, self.won + 0.5, self.n - self.lost - self.won + 0.5), TAILS)
        return float(low), float(high)

    def confidence(self, least: float) -> float:
        """How surely the true difference is at least so large."""
        return float((_drawn(self.lost + 1.0, float(self.won), self.n - self.lost - self.won) >= least).mean())


@functools.lru_cache(maxsize=4096)
def _drawn(lost: float, won: float, same: float) -> Floats:
    """Draws of share won minus share lost, the shares from a Dirichlet distribution; the same at every call."""
    rng = np.random.default_rng(0)
    losses, wins, rest = (rng.standard_gamma(shape, DRAWS) if shape else np.zeros(DRAWS) for shape in (lost, won, same))
    return np.asarray((wins - losses) / (wins + losses + rest))


@dataclasses.dataclass(frozen=True)
class Mean:
    """An estimate with a standard error that is itself estimated, with so many degrees of freedom."""

    value: float
    error: float
    degrees: float

    def interval(self) -> tuple[float, float]:
        """The 95 % interval (Student's)."""
        half = float(stats.t.ppf(TAILS[1], self.degrees)) * self.error
        return self.value - half, self.value + half

    def confidence(self, least: float) -> float:
        """How surely the true value is at least so large."""
        if self.error == 0:
            return float(self.value >= least)
        return float(stats.t.cdf((self.value - least) / self.error, self.degrees))


def of_differences(differences: Floats) -> Belief:
    """The mean difference of paired scores (N,), each from -1 to 1."""
    n = len(differences)
    lost, won = int((differences == -1).sum()), int((differences == 1).sum())
    if lost + won + int((differences == 0).sum()) == n:
        return Flips(lost, won, n)
    mean, farthest = float(differences.mean()), float(np.abs(differences).max())
    # one more sample as far off as the farthest: of rare losses most samples show none
    error = float(np.sqrt(((differences - mean) ** 2).sum() + farthest**2)) / n
    return Mean(mean, error, _degrees(differences))


def of_ratios(errors: Floats, spread: Floats, weights: Floats, most: float) -> Mean:
    """A weighted mean over columns of mean error over mean spread, by the jackknife (Efron 1982).

    Leaving samples out tells what the spread, which is estimated from the same samples, adds to the doubt, and heavy tails lower
    the degrees of freedom (Satterthwaite's approximation by the kurtosis).

    Args:
        errors: of every sample and column (N, C), or differences of two such errors.
        spread: squared deviations from the column's mean (N, C).
        weights: of the columns (C,), their sum is 1.
        most: bound of every column's ratio, on both sides.
    """
    n = len(errors)
    summed, spreads = errors.sum(0), np.maximum(spread.sum(0), 1e-300)
    value = float(np.clip(summed / spreads, -most, most) @ weights)
    rest = np.maximum(spreads - spread * n / (n - 1), 1e-300)
    without = np.clip((summed - errors) / rest, -most, most) @ weights
    error = float(np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum()))
    return Mean(value, error, _degrees(without))


def _degrees(values: Floats) -> float:
    """Degrees of freedom of a variance estimated from such values."""
    n = len(values)
    centred = values - values.mean()
    variance = float((centred**2).mean())
    if variance == 0:
        return max(FEWEST_DEGREES, n - 1.0)
    kurtosis = float((centred**4).mean()) / variance**2
    return max(FEWEST_DEGREES, 2 * n / max(kurtosis - 1, 2 * n / (n - 1)))


def of_rate(scores: Floats) -> tuple[float, float]:
    """The 95 % interval of a mean of scores from 0 to 1: mid-P for hits (Lancaster 1961), Student's for shares of maps."""
    n, hits = len(scores), int((scores == 1).sum())
    if hits + int((scores == 0).sum()) < n:
        low, high = Mean(float(scores.mean()), float(scores.std(ddof=1) / np.sqrt(n)), _degrees(scores)).interval()
        return max(0.0, low), min(1.0, high)
    return 1 - _mid_p_above(n - hits, n), _mid_p_above(hits, n)


def _mid_p_above(hits: int, n: int) -> float:
    """The rate at which so few hits, half of this very number among them, have the lower tail's probability."""
    if hits == n:
        return 1.0

    def beyond(rate: float) -> float:
        fewer = special.bdtr(hits - 1, n, rate) if hits else 0.0
        return float((special.bdtr(hits, n, rate) + fewer) / 2 - TAILS[0])

    return float(optimize.brentq(beyond, 0.0, 1.0))
