"""The point that a request's objective and constraints pick, by hand."""

from __future__ import annotations

import pytest

from search.points import choose_best, missed, spread, thinned
from search.report import Accuracy, Front, Latency, Point
from search.request import Constraints, JobSpec, Objective, SearchOptions


def point(name: str, *, drop: float, ms: float, size: int) -> Point:
    """One of a front whose dense model takes 10 ms at 90 %."""
    value = 0.9 - drop
    accuracy = Accuracy(value, value - 0.01, value + 0.01, -drop, -drop - 0.01, -drop + 0.01, 1000, "top1")
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


DENSE = point("dense", drop=0.0, ms=10.0, size=1000)
FRONT = [
    point("fast", drop=0.20, ms=2.0, size=300),
    point("middle", drop=0.03, ms=5.0, size=600),
    point("slow", drop=0.005, ms=8.0, size=900),
]


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
    found, reason = choose_best(FRONT, DENSE, JobSpec(objective=objective, constraints=constraints))
    assert found == best
    assert reason


def test_a_file_that_is_too_large_is_named_with_the_smallest() -> None:
    """The reason says what was asked for and what there is."""
    _, reason = choose_best(FRONT, DENSE, JobSpec(constraints=Constraints(max_bytes=200)))
    assert "200" in reason
    assert "300" in reason


def test_the_most_accurate_point_at_a_wanted_speedup_stays() -> None:
    """Nine points, one a millisecond; of three, both ends and what was picked stay, and so does what is wanted beside them."""
    front = [point(f"p{ms}", drop=0.2 - 0.02 * ms, ms=float(ms), size=1) for ms in range(1, 10)]
    for speedup, name in ((10 / 3, "p3"), (3.2, "p3"), (1.3, "p7"), (1.2, "p8")):
        spec = JobSpec(search=SearchOptions(points=3, at_speedups=(speedup,)))
        assert [p.id for p in thinned(front, None, spec)] == ["p1", name, "p9"]
    spec = JobSpec(search=SearchOptions(points=3, at_speedups=(2.0, 50.0)))
    assert [p.id for p in thinned(front, "p2", spec)] == ["p1", "p2", "p5", "p9"]
    words = missed(Front(DENSE, tuple(front), None, ""), JobSpec(search=SearchOptions(at_speedups=(2.0, 50.0, 70.0))))
    assert words == "no point is 50, 70 times as fast as dense on p; the fastest is 10.00 times"
    assert missed(Front(DENSE, tuple(front), None, ""), JobSpec(search=SearchOptions(at_speedups=(10.0,)))) is None


def test_points_to_be_trained_are_the_bends_of_the_front() -> None:
    """17 adds no area, 4 adds 0.09 = log(10 / 4) * (1 - 0.9), 10 adds 0.21, 1 adds 0.81 = log(1.5) * 2, 1.5 adds 0.98."""
    latencies = [1.0, 1.5, 4.0, 10.0, 17.0]
    lost = [4.0, 1.0, 0.81, 0.25, 0.0]
    assert spread(latencies, lost, 3, trained=False) == [0, 1, 3]


def test_of_points_beyond_what_is_wanted_the_best_is_trained() -> None:
    """Of 1 and 1.5, both within 2, the time goes to 1.5; where they are trained already both may stay; 0.9 has neither."""
    latencies, lost = [1.0, 1.5, 4.0, 10.0], [4.0, 1.0, 0.81, 0.25]
    assert spread(latencies, lost, 4, [2.0], trained=False, fastest_s=2.0) == [1, 2, 3]
    assert spread(latencies, lost, 4, [2.0], trained=True, fastest_s=2.0) == [0, 1, 2, 3]
    assert spread(latencies, lost, 4, trained=False, fastest_s=0.9) == [0, 1, 2, 3]


def test_points_that_are_done_are_spread_along_the_curve() -> None:
    """By hand: the crowded 1.5 and 4 go, where next to nothing is gained over 1; 10, where little is lost, stays."""
    assert spread([1.0, 1.5, 4.0, 10.0, 17.0], [8.0, 7.9, 7.8, 0.1, 0.0], 3) == [0, 3, 4]


def test_the_best_within_a_goal_is_kept_and_the_dominated_are_not() -> None:
    """A goal keeps the costliest that meets it; what costs more and moved more is never spread over."""
    latencies, lost = [1.0, 2.0, 2.1, 3.0, 4.0], [5.0, 1.0, 2.0, 0.5, 0.0]
    assert 1 in spread(latencies, lost, 3, [2.5], trained=False)
    assert 3 in spread(latencies, lost, 3, [3.5], trained=False)
    assert 2 not in spread(latencies, lost, 5, trained=False)
