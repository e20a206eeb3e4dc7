"""The stopwatch: its arithmetic by hand, and one real run. No test asserts how long anything takes."""

from __future__ import annotations

import time

import numpy as np
import pytest

from search.measure.benchmark import (
    default_clock,
    measure_interleaved,
    open_session,
    speedup_interval,
    take_turns,
    timings,
)
from search.measure.calibrate.micronets import Builder


def small_model(width: int) -> bytes:
    """One convolution of ``width`` channels and a classifier, input ``x`` of 1 x 3 x 8 x 8."""
    builder = Builder(np.random.default_rng(0), 3, 8)
    builder.conv(width)
    builder.head(flatten=False)
    return builder.build("small").model


def test_ratios_are_formed_round_by_round() -> None:
    """A machine that halves its speed for every other round changes the medians but no ratio."""
    seconds = np.array([[2.0, 1.0], [4.0, 2.0], [2.0, 1.0], [4.0, 2.0]])
    dense, pruned = timings(seconds)
    assert (dense.median_s, pruned.median_s) == (3.0, 1.5)
    assert (pruned.ratio, pruned.ratio_low, pruned.ratio_high, pruned.speedup) == (0.5, 0.5, 0.5, 2.0)
    assert dense.ratio == 1.0
    assert dense.rounds == 4


def test_the_interval_of_a_speedup_by_hand() -> None:
    """Of 40 ordered ratios the 13th and 28th bracket the median; what sessions differ by comes on top, by Pythagoras."""
    ratios = np.exp(np.linspace(-0.39, 0.39, 40))[::-1]
    low, high = speedup_interval(ratios)
    half = np.hypot(np.log(np.median(ratios)) - np.log(np.sort(ratios)[13]), 1.96 * 0.01)
    assert (low, high) == (pytest.approx(np.exp(-half), rel=1e-2), pytest.approx(np.exp(half), rel=1e-2))
    quiet = speedup_interval(np.full(40, 0.5))
    assert quiet == (pytest.approx(2 * np.exp(-0.0196)), pytest.approx(2 * np.exp(0.0196)))
    assert timings(np.array([[2.0, 1.0], [4.0, 2.0]]))[1].speedup_interval == quiet
    assert timings(np.array([[2.0, 1.0]]))[0].speedup_interval == (1.0, 1.0)


def test_speedups_are_covered() -> None:
    """Rounds that scatter by a tenth, sessions by a hundredth, 40 rounds: 95 % of intervals hold the truth."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(800):
        low, high = speedup_interval(0.5 * np.exp(0.01 * rng.normal() + 0.1 * rng.standard_t(4, 40)))
        held.append(low <= 2.0 <= high)
    assert 0.93 <= np.mean(held) <= 0.98


def test_quantiles_bracket_the_median() -> None:
    """The interval's ends are the 5 % and 95 % quantiles of the rounds."""
    seconds = np.arange(1.0, 102.0)[:, None]
    only = timings(seconds)[0]
    assert (only.low_s, only.median_s, only.high_s) == (6.0, 51.0, 96.0)


def test_take_turns_visits_every_call_in_every_round() -> None:
    """With a clock that counts calls, each call takes one tick, whatever the order and the repeats."""
    ticks = [0]

    def call() -> None:
        ticks[0] += 1

    seconds = take_turns([call, call], rounds=3, clock=lambda: float(ticks[0]))
    assert seconds.tolist() == [[1.0, 1.0]] * 3


def test_a_visit_waits_until_the_caches_are_warm() -> None:
    """A model of 1 ms that needs six calls of 1.2 ms to be back in the caches is timed after them."""
    now, calls = [0.0], [0]

    def call() -> None:
        calls[0] += 1
        now[0] += 1e-3 if calls[0] > 6 else 1.2e-3

    assert take_turns([call], rounds=1, clock=lambda: now[0]).tolist() == [[pytest.approx(1e-3)]]


def test_real_models_are_measured() -> None:
    """Two real models give finite times, and only the named inputs of each are fed."""
    inputs = {"x": np.zeros((1, 3, 8, 8), np.float32), "unused": np.zeros(1, np.float32)}
    dense, pruned = measure_interleaved([small_model(64), small_model(16)], inputs, rounds=3)
    assert 0 < dense.low_s <= dense.median_s <= dense.high_s
    assert 0 < pruned.ratio_low <= pruned.ratio <= pruned.ratio_high


@pytest.mark.parametrize(("models", "rounds"), [([], 3), ([b""], 0)])
def test_nothing_to_measure_is_refused(models: list[bytes], rounds: int) -> None:
    """No model or no round is a clear error before anything is loaded."""
    with pytest.raises(ValueError, match="at least one of each"):
        measure_interleaved(models, {}, rounds=rounds)


def test_clock_follows_the_threads() -> None:
    """One thread is timed by its CPU time; several by the wall, as their work is on other threads."""
    assert default_clock(1) is time.thread_time
    assert default_clock(2) is time.perf_counter


def test_session_runs_on_the_calling_thread() -> None:
    """A session for one thread has one intra-operator and one inter-operator thread."""
    options = open_session(small_model(16)).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
