"""Which candidates become points of a front."""

from __future__ import annotations

from search.points import spread

LATENCIES_S = [1.0, 2.0, 4.0, 5.0, 5.1, 8.0, 10.0]
DIVERGENCES = [3.0, 2.0, 1.0, 0.5, 0.6, 0.1, 0.0]


def test_the_ends_stay_and_the_dominated_go() -> None:
    """5.1 s at 0.6 nats is worse than 5 s at 0.5 in both; the fastest and the most accurate are always there."""
    assert spread(LATENCIES_S, DIVERGENCES, 7) == [0, 1, 2, 3, 5, 6]
    assert {0, 6} < set(spread(LATENCIES_S, DIVERGENCES, 3))


def test_the_best_within_a_goal_stays() -> None:
    """Whatever latency was asked for, the most accurate candidate within it is kept, also where only three are."""
    for goal_s, wanted in ((2.5, 1), (4.5, 2), (6.0, 3), (9.0, 5)):
        found = spread(LATENCIES_S, DIVERGENCES, 3, [goal_s])
        assert wanted in found
        assert len(found) == 3
    assert spread(LATENCIES_S, DIVERGENCES, 3, [0.5]) == spread(LATENCIES_S, DIVERGENCES, 3)
