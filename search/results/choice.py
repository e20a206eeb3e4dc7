"""Which point of a front is best, and which points stay: decided on samples that tell nothing else.

Limits of accuracy are tested from the point that moved least to the one that moved most, up to the first that does not pass
(fixed-sequence testing, as in "Learn then test", Angelopoulos et al. 2021): so the confidence holds for the point that is chosen,
not only for one that was named beforehand.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

from scipy import stats

from search.allocate import pareto
from search.judge.intervals import Z95
from search.wire.report import Front, Point, Verdict
from search.wire.request import Constraints, JobSpec

MOST_NEEDED = 10_000_000
"""Samples beyond which no number is named."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """Id of the best point, None where there is none; the reason in words; whether it is known to keep the limit of accuracy."""

    best: str | None
    reason: str
    is_: Verdict | None = None


def choose_best(points: Sequence[Point], dense: Point, spec: JobSpec) -> Choice:
    """What the objective picks.

    Args:
        points: from the fastest, which moved most, to the slowest; their accuracies are those of the selection.
        dense: the control.
        spec: the request.
    """
    if not points:
        return Choice(None, "no point is faster than the dense model")
    small, too_large = _small(points, spec.constraints)
    if too_large:
        return Choice(None, too_large)
    objective, what = spec.objective, ""
    if objective.max_latency_ms is not None:
        small = [p for p in small if p.latency_ms.value <= objective.max_latency_ms]
        what = f"at most {objective.max_latency_ms:g} ms"
    if objective.speedup is not None:
        small = [p for p in small if p.speedup >= objective.speedup]
        what = f"at least {objective.speedup:g} times as fast as dense"
    if not small:
        return Choice(None, f"no point is {what}")
    if spec.accuracy_limit is None:
        return Choice(_most_accurate(small).id, f"most accurate of {len(small)} points that are {what}")
    return _within(small, dense, spec, spec.accuracy_limit, what)


def _within(points: Sequence[Point], dense: Point, spec: JobSpec, limit: float, what: str) -> Choice:
    """The choice among points where accuracy has a limit."""
    sure = list(
        itertools.takewhile(lambda p: (p.accuracy.keeps_limit or 0.0) >= spec.constraints.confidence, reversed(points))
    )
    least = f"at most {100 * limit:g} points of {dense.accuracy.metric}"
    told = f"confidence of {spec.constraints.confidence:g}, {dense.accuracy.n} samples"
    if sure:
        best = _most_accurate(sure) if what else min(sure, key=lambda p: p.latency_ms.value)
        kind = (
            f"most accurate of {len(sure)} points that are {what} and"
            if what
            else f"fastest of {len(sure)} points that"
        )
        return Choice(best.id, f"{kind} lose {least} ({told})", "kept")
    likely = max(points, key=lambda p: (p.accuracy.keeps_limit or 0.0, p.accuracy.delta, -p.latency_ms.value))
    surely = likely.accuracy.keeps_limit or 0.0
    if likely.accuracy.delta < -limit and surely < 1 - spec.constraints.confidence:
        closest = max(points, key=lambda p: p.accuracy.delta)
        lost = f"{-100 * closest.accuracy.delta:.2f} ({closest.id})"
        return Choice(None, f"no point {f'that is {what} ' if what else ''}loses {least}; the least is {lost}")
    several = ", as the luckiest of several," if surely >= spec.constraints.confidence else ""
    reason = (
        f"likeliest of {len(points)} points {f'that are {what} ' if what else ''}to lose {least}, with a confidence of "
        f"{surely:.2f}{several} instead of {spec.constraints.confidence:g}: {dense.accuracy.n} samples "
        f"do not tell, {_needed(likely, limit, spec.constraints.confidence)}"
    )
    return Choice(likely.id, reason, "likeliest")


def _needed(point: Point, limit: float, confidence: float) -> str:
    """In words, how many samples would tell that a point keeps the limit, if it loses as much as it seems to."""
    accuracy = point.accuracy
    error, room = (accuracy.delta_high - accuracy.delta_low) / 2 / Z95, accuracy.delta + limit
    z = max(float(stats.norm.ppf(confidence)), 0.5)  # of even chances any number of samples gives one
    samples = accuracy.n * (z * error / room) ** 2 if room > 0 else math.inf
    if room <= 0:
        return f"and it seems to lose {-100 * accuracy.delta:.2f}"
    if samples > MOST_NEEDED:
        return f"nor would {MOST_NEEDED:,}"
    samples = max(samples, 1.5 * accuracy.n)
    return f"about {float(f'{samples:.2g}'):,.0f} would (a data set {samples / accuracy.n:.2g} times as large)"


def _most_accurate(points: Sequence[Point]) -> Point:
    return max(points, key=lambda p: (p.accuracy.value, -p.latency_ms.value))


def _small(points: Sequence[Point], constraints: Constraints) -> tuple[list[Point], str]:
    """Points within the limits of bytes, and in words why there are none."""
    small = list(points)
    for limit, field, what in (
        (constraints.max_bytes, "bytes", "no file is"),
        (constraints.max_memory_bytes, "peak_memory_bytes", "no point's peak memory is"),
    ):
        within = [p for p in small if limit is None or getattr(p, field) <= limit]
        if small and not within:
            return [], f"{what} at most {limit} bytes; the smallest has {min(getattr(p, field) for p in small)}"
        small = within
    return small, ""


def thinned(front: Sequence[Point], moved: Sequence[float], best: str | None, spec: JobSpec) -> list[Point]:
    """As many points as were asked for: the ``best`` and its neighbours, the best at every wanted speed-up, others spread evenly.

    Args:
        front: by ascending latency.
        moved: how far each is from the dense model, descending.
        best: id of what the objective picked.
        spec: the request.
    """
    fast_enough = [[p for p in front if p.speedup >= speedup] for speedup in spec.search.at_speedups]
    wanted = {best, *(points[-1].id for points in fast_enough if points)}
    keep = {i for i, point in enumerate(front) if point.id in wanted}
    ends = {0, len(front) - 1}
    for beside in [i + step for i in sorted(keep) if front[i].id == best for step in (-1, 1)]:
        if 0 <= beside < len(front) and len(keep | ends | {beside}) <= spec.search.points:
            keep.add(beside)
    latencies, qualities = [p.latency_ms.value for p in front], [-math.log1p(each) for each in moved]
    return [front[i] for i in pareto.thin(latencies, spec.search.points, qualities, keep)]


def missed(front: Front, spec: JobSpec) -> str | None:
    """In words, the wanted speed-ups that no point of a front has; None where there are none."""
    fastest = max((point.speedup for point in front.points), default=1.0)
    speedups = ", ".join(f"{speedup:g}" for speedup in spec.search.at_speedups if speedup > fastest)
    if not speedups:
        return None
    return f"no point is {speedups} times as fast as dense on {front.dense.profile}; the fastest is {fastest:.2f} times"
