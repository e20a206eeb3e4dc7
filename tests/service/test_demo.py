"""What the demonstration says: one speed-up, one sign, and how much of a difference is noise."""

from __future__ import annotations

import dataclasses

import pytest

from search.wire.report import Accuracy
from service.commands.demo import told
from tests.service.quick_child import point


@pytest.mark.parametrize(("judged", "verdict"), [(0.8954, "as chance alone"), (0.85, "more than chance alone")])
def test_judge_and_report_side_by_side(judged: float, verdict: str) -> None:
    """By hand: reported +0.86 with 1.115 to each side, judged -0.46 with 0.98; 1.32 apart, noise 1.48; -5 is far beyond it."""
    said = Accuracy(0.91, 0.88, 0.93, 0.0086, -0.0026, 0.0197, 350, "top1")
    best = dataclasses.replace(point("p1", "host", 1.0), accuracy=said, speedup=1.8, speedup_low=1.7, speedup_high=1.9)
    referee = {"dense_accuracy": 0.9, "pruned_accuracy": judged, "change_error": 0.005, "speedup": 1.83, "unseen": 2376}
    lines = told(best, referee)
    assert "1.83 times as fast as dense (the report: 1.80, between 1.70 and 1.90)" in lines[1]
    assert "the report: +0.86, between -0.26 and +1.97, from 350 other scans" in lines[2]
    assert f"{100 * (judged - 0.9):+.2f} points of change, give or take 0.98" in lines[2]
    assert verdict in lines[3]
    assert lines[3].endswith("(1.48).")
