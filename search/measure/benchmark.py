"""Times ONNX files against each other in ONNX Runtime, so that a ratio means something on a busy machine.

Three habits make the figures hold. The calling thread's CPU time is the clock, so that waiting for a core does not count.
Models take turns, so that a change of clock speed hits all of them. A ratio is formed within each round, where its two
times were taken milliseconds apart.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
WARM_UP_CALLS, WARM_UP_S = (2, 8), 10e-3
"""Fewest and most calls, and seconds between them, before a visit counts: another model has just been in the caches, and a
network of 2 ms whose weights fit the last level needs some eight calls (16 % of its time) until they are all there."""
VISIT_S = 2e-3
"""A visit repeats a model for about this long; one call of a small model is shorter than the clock's noise."""
RUN_TO_RUN = 0.01
"""Standard deviation of the logarithm of a file's median ratio between sessions: most differ by less than 2 %, some by 5 %."""
_QUANTILES = (0.05, 0.5, 0.95)


@dataclasses.dataclass(frozen=True)
class Timing:
    """One model's latency over all rounds; ``low`` and ``high`` are the 5 % and 95 % quantiles."""

    median_s: float
    low_s: float
    high_s: float
    ratio: float
    """Median over rounds of this model's time divided by the first model's in the same round; 1 for the first."""
    ratio_low: float
    ratio_high: float
    rounds: int

    speedup_interval: tuple[float, float] = (1.0, 1.0)
    """95 % interval of the speed-up."""

    @property
    def speedup(self) -> float:
        """How many times as fast as the first model."""
        return 1.0 / self.ratio


def open_session(model: bytes | Path, *, threads: int = 1, optimised_copy: Path | None = None) -> ort.InferenceSession:
    """A session that runs on the calling thread when ``threads`` is 1, so that the thread's CPU time is its cost.

    Args:
        model: an ONNX file or its bytes.
        threads: of one operator; operators run one after another.
        optimised_copy: where to write the graph as ONNX Runtime has rewritten it.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    if optimised_copy is not None:
        options.optimized_model_filepath = str(optimised_copy)
    source = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def measure_interleaved(
    models: Sequence[bytes | Path],
    inputs: Arrays,
    *,
    rounds: int,
    threads: int = 1,
    clock: Callable[[], float] | None = None,
    call: Callable[[Any, Arrays, int], Callable[[], object]] | None = None,
) -> list[Timing]:
    """Time every model in turn, ``rounds`` times.

    Args:
        models: ONNX files or bytes; the first one is the control that ratios refer to.
        inputs: arrays for all of them, batch axis included; batch size 1 is what profiles speak of.
        rounds: turns; each ratio is the median of this many.
        threads: of one operator.
        clock: seconds; by default the calling thread's CPU time, or wall time where ``threads`` share the work.
        call: model, inputs and threads to one inference; by default in ONNX Runtime.

    Raises:
        ValueError: no model or no round.
    """
    if not models or rounds < 1:
        raise ValueError(f"{len(models)} models and {rounds} rounds; at least one of each is needed")
    load = call or (lambda model, given, many: plain_call(open_session(model, threads=many), given))
    calls = [load(model, inputs, threads) for model in models]
    return timings(take_turns(calls, rounds=rounds, clock=clock or default_clock(threads)))


def default_clock(threads: int) -> Callable[[], float]:
    """The calling thread's CPU time, which waiting for a core does not lengthen; it would miss the work of other threads."""
    return time.thread_time if threads == 1 else time.perf_counter


def take_turns(
    calls: Sequence[Callable[[], object]], *, rounds: int, clock: Callable[[], float] = time.thread_time
) -> NDArray[np.float64]:
    """Seconds of one call, of shape (rounds, calls); every round visits each call once."""
    return np.array([[_visit(call, clock) for call in calls] for _ in range(rounds)])


FLOATS = {"tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(float)": np.float32}
"""Types of inputs by ONNX Runtime's names."""


def timings(seconds: NDArray[np.float64]) -> list[Timing]:
    """Summaries of ``seconds`` (rounds x models), one a model; ratios are against column 0, round by round."""
    low_s, median_s, high_s = _spread(seconds)
    ratios = seconds / seconds[:, :1]
    ratio_low, ratio, ratio_high = _spread(ratios)
    return [
        Timing(
            *(median_s[i], low_s[i], high_s[i], ratio[i], ratio_low[i], ratio_high[i], len(seconds)),
            speedup_interval(ratios[:, i]) if i else (1.0, 1.0),
        )
        for i in range(seconds.shape[1])
    ]


def speedup_interval(ratios: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the true speed-up, the inverse of the median ratio.

    Within a run it is that of order statistics, which asks for no distribution (Conover 1999, 3.2); between runs, where memory
    lies elsewhere, ratios of the same files differ by `RUN_TO_RUN` more, which no number of rounds shows.
    """
    from scipy import stats  # a second to load, which a look at a model does without  # noqa: PLC0415

    ordered, n = np.sort(ratios), len(ratios)
    rank = int(stats.binom.ppf(0.025, n, 0.5))
    middle = float(np.median(ratios))
    low, high = (abs(math.log(float(ordered[at]) / middle)) for at in (max(rank - 1, 0), min(n - rank, n - 1)))
    down, up = (math.hypot(each, 1.96 * RUN_TO_RUN) for each in (low, high))
    return math.exp(-up) / middle, math.exp(down) / middle


def _spread(rounds: NDArray[np.float64]) -> list[list[float]]:
    """The low quantile, the median and the high quantile of each column."""
    return [[float(value) for value in row] for row in np.quantile(rounds, _QUANTILES, axis=0)]


def in_type_of(kind: str, value: NDArray[Any]) -> NDArray[Any]:
    """A float array in the float type that an input has by ONNX Runtime's name; any other array as it is."""
    dtype = FLOATS.get(kind)
    return value.astype(dtype) if dtype is not None and value.dtype.kind == "f" else value


def plain_call(session: ort.InferenceSession, inputs: Arrays) -> Callable[[], list[NDArray[Any]]]:
    """A call as an application makes it: arrays in, arrays out. On networks of microseconds handing them over is felt."""
    feeds = {
        argument.name: np.ascontiguousarray(in_type_of(argument.type, inputs[argument.name]))
        for argument in session.get_inputs()
    }
    return lambda: list(session.run(None, feeds))


def _visit(call: Callable[[], object], clock: Callable[[], float]) -> float:
    """Seconds of one call in a steady state."""
    fewest, most = WARM_UP_CALLS
    warm_ups = [_timed(call, 1, clock) for _ in range(fewest)]
    while len(warm_ups) < most and sum(warm_ups) < WARM_UP_S:
        warm_ups.append(_timed(call, 1, clock))
    repeats = max(1, min(50, round(VISIT_S / max(warm_ups[-1], 1e-6))))
    return _timed(call, repeats, clock) / repeats


def _timed(call: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(repeats):
        call()
    return clock() - start
