"""Units of work and the request: kept, keyed, read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from search.memo import Units, digest
from search.wire.errors import InvalidRequest
from search.wire.progress import Progress, Stopped
from search.wire.request import Constraints, JobSpec, Objective


def test_a_unit_is_computed_once(tmp_path: Path) -> None:
    """A second ask reads what the first one kept; other inputs compute again."""
    calls = []

    def compute() -> dict[str, np.ndarray]:
        calls.append(1)
        return {"a": np.arange(3)}

    for _ in range(2):
        assert Units(tmp_path, "job").result("unit", [1], compute)["a"].tolist() == [0, 1, 2]
    assert len(calls) == 1
    Units(tmp_path, "job").result("unit", [2], compute)
    Units(tmp_path, "other").result("unit", [1], compute)
    assert len(calls) == 3


def test_a_killed_write_leaves_no_unit(tmp_path: Path) -> None:
    """A partial file is not taken for a result."""
    units = Units(tmp_path, "job")
    with pytest.raises(ValueError, match="boom"):
        units.result("unit", [], lambda: (_ for _ in ()).throw(ValueError("boom")))
    assert not list(tmp_path.glob("*.npz"))


def test_digest_depends_on_values_types_and_order() -> None:
    """Different inputs give different keys."""
    parts = [
        (np.zeros(2, np.float32),),
        (np.zeros(2, np.float64),),
        (np.zeros((2, 1), np.float32),),
        ("a", "b"),
        ("ab",),
        ({"a": 1},),
    ]
    assert len({digest(*part) for part in parts}) == len(parts)


def test_request_survives_json() -> None:
    """A request is what it was after writing and reading."""
    spec = JobSpec(("a", "b"), Objective(speedup=2.0), Constraints(exclude=("head*",)))
    assert JobSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "request"),
        ('{"schema_version": 9}', "schema_version 9"),
        ('{"schema_version": 1, "wrong": 1}', "wrong"),
        ('{"schema_version": 1, "objective": {"speedup": 2, "max_latency_ms": 3}}', "only one"),
        ('{"schema_version": 1, "profiles": ["a", "a"]}', "twice"),
    ],
)
def test_wrong_requests_are_named(text: str, words: str) -> None:
    """The message says what is wrong."""
    with pytest.raises(InvalidRequest, match=words):
        JobSpec.from_json(text)


def test_progress_stops_when_told_and_at_the_deadline() -> None:
    """Cancelling and a deadline both stop at the next unit; fractions never fall."""
    time_s = iter(range(100))
    progress = Progress(None, deadline_s=5, clock=lambda: float(next(time_s)))
    progress.stage("recover")
    with pytest.raises(Stopped, match="deadline"):
        list(progress.each(range(50), "units"))
    progress = Progress(None)
    progress.cancel()
    with pytest.raises(Stopped, match="cancelled"):
        progress.check()
    assert progress.stopping


def test_progress_knows_how_late_it_is() -> None:
    """By hand: a second of five has passed, so four fifths are left; without a deadline it is never late."""
    now_s = [7.0]
    progress = Progress(None, deadline_s=5, clock=lambda: now_s[0])
    now_s[0] = 8.0
    assert progress.late(0.81)
    assert not progress.late(0.79)
    assert not Progress(None).late(1.0)


def test_parts_of_a_stage_follow_each_other(tmp_path: Path) -> None:
    """The fraction never falls where a stage is divided into parts, and ends where the next stage begins."""
    progress = Progress(tmp_path / "events.jsonl")
    progress.stage("recover")
    progress.part(0.0, 0.2)
    for _ in progress.each(range(3), "candidates"):
        pass
    progress.part(0.2, 1.0)
    for _ in progress.each(range(4), "courses"):
        pass
    progress.stage("export")
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    fractions = [event["fraction"] for event in events if event["type"] == "progress"]
    assert fractions == sorted(fractions)
    assert fractions[-2] == fractions[-1]
