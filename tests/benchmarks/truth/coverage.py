"""What intervals cover, by simulation: a row each, with the share of cases in which the truth is inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from search.judge.intervals import of_differences, of_rate, of_ratios
from search.measure.benchmark import speedup_interval

Floats = NDArray[np.float64]
CASES = 1_000
TARGETS: dict[str, Callable[[np.random.Generator, tuple[int, int]], Floats]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "skewed (exponential)": lambda rng, shape: rng.exponential(size=shape),
    "heavy tails (Student's, 6 degrees)": lambda rng, shape: rng.standard_t(6, size=shape) / np.sqrt(1.5),
}


def rows() -> Iterator[str]:
    """Lines of a table, markdown."""
    rng = np.random.default_rng(0)
    yield "| interval | case | covers |\n|---|---|---|"
    for n in (100, 250, 1000):
        rates = 1 - np.exp(rng.uniform(np.log(1 / n), np.log(0.2), CASES))
        held = [_holds(of_rate((rng.random(n) < rate).astype(float)), rate) for rate in rates]
        yield f"| hits | rates from 80 % to 1 - 1/{n}, n = {n} | {np.mean(held):.1%} |"
    for n in (100, 250, 1000):
        lost = np.exp(rng.uniform(np.log(3 / n), np.log(0.1), CASES))
        alone = np.mean([_flips(rng, n, x, 0.0) for x in lost])
        yield f"| change of hits | rare losses alone, 3/{n} to 10 %, n = {n} | {alone:.1%} |"
        yield f"| change of hits | a third as many won back, n = {n} | {np.mean([_flips(rng, n, x, x / 3) for x in lost]):.1%} |"
    for name, targets in TARGETS.items():
        for columns in (1, 3):
            for n in (250, 1000):
                held = [_r2(rng, targets, n, columns) for _ in range(CASES)]
                yield f"| r2 | {name}, {columns} column{'s' * (columns > 1)}, n = {n} | {np.mean(held):.1%} |"
    held = [
        _holds(speedup_interval(0.5 * np.exp(0.01 * rng.normal() + 0.08 * rng.standard_t(4, 40))), 2.0)
        for _ in range(CASES)
    ]
    yield f"| speed-up, 40 rounds | rounds scatter by 8 %, heavy tails; sessions by 1 % | {np.mean(held):.1%} |"


def _holds(interval: tuple[float, float], truth: float) -> bool:
    return bool(interval[0] <= truth <= interval[1])


def _flips(rng: np.random.Generator, n: int, lost: float, won: float) -> bool:
    draws = rng.random(n)
    difference = np.where(draws < lost, -1.0, np.where(draws < lost + won, 1.0, 0.0))
    return _holds(of_differences(difference).interval(), won - lost)


def _r2(
    rng: np.random.Generator, targets: Callable[[np.random.Generator, tuple[int, int]], Floats], n: int, columns: int
) -> bool:
    """Errors of 0.4 standard deviations, whatever the target: 1 - r2 is 0.16."""
    y = targets(rng, (n, columns))
    errors = (0.4 * rng.normal(size=y.shape)) ** 2
    weights = np.full(columns, 1 / columns)
    return _holds(of_ratios(errors, (y - y.mean(0)) ** 2, weights, 2.0).interval(), 0.16)
