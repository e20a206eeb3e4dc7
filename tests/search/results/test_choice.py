"""The point that a request's objective and constraints pick, by hand."""

from __future__ import annotations

import dataclasses

import pytest

from search.results.choice import choose_best, missed, thinned
from search.wire.report import Accuracy, Front, Latency, Point
from search.wire.request import Constraints, JobSpec, Objective, SearchOptions


def point(name: str, *, drop: float, ms: float, size: int, keeps: float | None = None) -> Point:
    """One of a front whose dense model takes 10 ms at 90 %; whether it keeps the limit is certain, or as sure as is said."""
    value = 0.9 - drop
    accuracy = Accuracy(value, value - 0.01, value + 0.01, -drop, -drop - 0.0098, -drop + 0.0098, 1000, "top1", keeps)
    latency = Latency(ms, ms, ms, "modelled")
    counts = {"parameters": size, "macs": size, "bytes": size, "peak_memory_bytes": 10 * size}
    ratios = {"speedup": 10 / ms, "predicted_speedup": 10 / ms, "compression_ratio": 1.0, "theoretical_speedup": 1.0}
    files = {"layers": (), "blocks": (), "artifact": f"{name}.onnx", "sha256": name, "parity": 0.0}
    return Point(
        id=name,
        profile="p",
        accuracy=accuracy,
        latency_ms=latency,
        predicted_latency_ms=latency,
        **counts,
        **ratios,
        **files,
    )  # type: ignore[arg-type]


MOVED = [0.9 - 0.1 * i for i in range(9)]
DENSE = point("dense", drop=0.0, ms=10.0, size=1000)
FRONT = [
    point("fast", drop=0.20, ms=2.0, size=300),
    point("middle", drop=0.03, ms=5.0, size=600),
    point("slow", drop=0.005, ms=8.0, size=900),
]


def sure(point: Point, spec: JobSpec) -> Point:
    """The point, of which all is known: it keeps the limit or it does not."""
    limit = spec.accuracy_limit
    keeps = None if limit is None else float(point.accuracy.delta >= -limit)
    return dataclasses.replace(point, accuracy=dataclasses.replace(point.accuracy, keeps_limit=keeps))


@pytest.mark.parametrize(
    ("objective", "constraints", "best"),
    [
        (Objective(), Constraints(), "slow"),
        (Objective(max_accuracy_drop=0.05), Constraints(), "middle"),
        (Objective(max_latency_ms=5.0), Constraints(), "middle"),
        (Objective(speedup=3.0), Constraints(), "fast"),
        (Objective(speedup=3.0), Constraints(max_accuracy_drop=0.1), None),
        (Objective(speedup=1.1), Constraints(max_bytes=700), "middle"),
        (Objective(max_accuracy_drop=0.01), Constraints(max_bytes=700), None),
        (Objective(speedup=1.1), Constraints(max_bytes=200), None),
        (Objective(speedup=1.1), Constraints(max_memory_bytes=7000), "middle"),
        (Objective(speedup=1.1), Constraints(max_bytes=700, max_memory_bytes=2000), None),
    ],
)
def test_the_best_point_meets_objective_and_constraints(
    objective: Objective, constraints: Constraints, best: str | None
) -> None:
    """The point that a person would pick from the table above, and a reason in words."""
    spec = JobSpec(objective=objective, constraints=constraints)
    found = choose_best([sure(p, spec) for p in FRONT], DENSE, spec)
    assert found.best == best
    assert found.reason
    assert found.is_ == ("kept" if best and spec.accuracy_limit is not None else None)


def test_a_file_that_is_too_large_is_named_with_the_smallest() -> None:
    """The reason says what was asked for and what there is."""
    reason = choose_best(FRONT, DENSE, JobSpec(constraints=Constraints(max_bytes=200))).reason
    assert "200" in reason
    assert "300" in reason


def test_the_most_accurate_point_at_a_wanted_speedup_stays() -> None:
    """Nine points, one a millisecond; of three, both ends and what was picked stay, and so does what is wanted beside them."""
    front = [point(f"p{ms}", drop=0.2 - 0.02 * ms, ms=float(ms), size=1) for ms in range(1, 10)]
    for speedup, name in ((10 / 3, "p3"), (3.2, "p3"), (1.3, "p7"), (1.2, "p8")):
        spec = JobSpec(search=SearchOptions(points=3, at_speedups=(speedup,)))
        assert [p.id for p in thinned(front, MOVED, None, spec)] == ["p1", name, "p9"]
    spec = JobSpec(search=SearchOptions(points=3, at_speedups=(2.0, 50.0)))
    assert [p.id for p in thinned(front, MOVED, "p2", spec)] == ["p1", "p2", "p5", "p9"]
    words = missed(Front(DENSE, tuple(front), None, ""), JobSpec(search=SearchOptions(at_speedups=(2.0, 50.0, 70.0))))
    assert words == "no point is 50, 70 times as fast as dense on p; the fastest is 10.00 times"
    assert missed(Front(DENSE, tuple(front), None, ""), JobSpec(search=SearchOptions(at_speedups=(10.0,)))) is None


def test_the_surest_of_limits_go_from_slow_to_fast() -> None:
    """The fast one would pass by itself; the middle one, which moved less, does not: a lucky one is not taken."""
    front = [
        point("fast", drop=0.0, ms=2.0, size=1, keeps=0.9),
        point("middle", drop=0.0, ms=5.0, size=1, keeps=0.7),
        point("slow", drop=0.0, ms=8.0, size=1, keeps=0.85),
        point("slowest", drop=0.0, ms=9.0, size=1, keeps=0.95),
    ]
    found = {
        confidence: choose_best(front, DENSE, JobSpec(constraints=Constraints(confidence=confidence)))
        for confidence in (0.5, 0.8, 0.95, 0.99)
    }
    assert [each.best for each in found.values()] == ["fast", "slow", "slowest", "slowest"]
    assert [each.is_ for each in found.values()] == ["kept", "kept", "kept", "likeliest"]


def test_the_likeliest_is_named_as_such_with_the_samples_that_would_tell() -> None:
    """By hand: room of 0.5 points, standard error 0.5 points, 0.8 needs 0.8416 of them: 0.71 of 1000; at least half more."""
    front = [point("p", drop=0.005, ms=2.0, size=1, keeps=0.7), point("q", drop=0.0, ms=5.0, size=1, keeps=0.6)]
    found = choose_best(front, DENSE, JobSpec())
    assert (found.best, found.is_) == ("p", "likeliest")
    assert "0.70 instead of 0.8: 1000 samples do not tell, about 1,500 would (a data set 1.5 times" in found.reason
    front = [point("p", drop=0.008, ms=2.0, size=1, keeps=0.7)]
    sure = choose_best(front, DENSE, JobSpec(constraints=Constraints(confidence=0.95)))
    assert "about 17,000 would (a data set 17 times" in sure.reason  # (1.645 * 0.5 / 0.2)^2 = 16.9
    beyond = choose_best([point("p", drop=0.012, ms=2.0, size=1, keeps=0.3)], DENSE, JobSpec())
    assert (beyond.best, beyond.is_) == ("p", "likeliest")  # the samples do not rule it out
    assert beyond.reason.endswith("do not tell, and it seems to lose 1.20")
    lucky = [point("p", drop=0.0, ms=2.0, size=1, keeps=0.9), point("q", drop=0.0, ms=5.0, size=1, keeps=0.6)]
    assert "0.90, as the luckiest of several, instead of 0.8" in choose_best(lucky, DENSE, JobSpec()).reason
    none = choose_best([point("p", drop=0.02, ms=2.0, size=1, keeps=0.1)], DENSE, JobSpec())
    assert (none.best, none.is_) == (None, None)
    assert "the least is 2.00 (p)" in none.reason


def test_the_most_accurate_is_so_by_its_value() -> None:
    """Not by the upper end of an interval, which is the higher the less is known."""
    known, unknown = (point(name, drop=drop, ms=2.0, size=1) for name, drop in (("known", 0.01), ("unknown", 0.02)))
    unknown = dataclasses.replace(unknown, accuracy=dataclasses.replace(unknown.accuracy, high=0.99))
    assert choose_best([unknown, known], DENSE, JobSpec(objective=Objective(speedup=2.0))).best == "known"
