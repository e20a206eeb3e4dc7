"""A job that is told to stop: whatever it is doing ends at once, and what is finished is reported."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from search import pipeline
from search.graph.upload import Upload
from search.measure import profiles
from search.results import finishing, points
from search.space.plan import Candidate
from search.wire import progress as progress_module
from search.wire.progress import Progress, Stopped
from search.wire.report import Report
from search.wire.request import JobSpec, SearchOptions
from tests.search.graph.nets import Net
from tests.search.test_pipeline import TARGETS, job


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Signals mean afterwards what they meant before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in before.items():
        signal.signal(number, handler)


def told_to_stop() -> None:
    """As a worker does it."""
    os.kill(os.getpid(), signal.SIGTERM)


def test_whatever_is_done_ends_at_once() -> None:
    """A step that looks at nothing; by SIGTERM and by the deadline. Then the next one, after the time for last steps."""
    for reason in ("cancelled", "deadline"):
        progress = Progress(None, deadline_s=0.05 if reason == "deadline" else None)
        with progress.obeying_signals():
            progress.stage("sensitivity")
            start = time.monotonic()
            with pytest.raises(Stopped, match=reason):
                _busy(told_to_stop if reason == "cancelled" else lambda: None)
            assert time.monotonic() - start < 1
            assert progress.stopping
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            with pytest.raises(Stopped, match=reason):
                _busy(lambda: None)
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_what_keeps_its_state_looks_itself() -> None:
    """Within a shelter nothing is raised, but it is known; so in the last stage, but for what it can do without."""
    progress = Progress(None)
    with progress.obeying_signals():
        progress.stage("recover")
        with progress.sheltered():
            told_to_stop()
            with pytest.raises(Stopped):
                progress.check()
    progress = Progress(None)
    with progress.obeying_signals():
        progress.stage("evaluate")
        told_to_stop()
        assert progress.stopping
        with pytest.raises(Stopped), progress.interruptible():
            told_to_stop()


def _busy(first: Callable[[], None]) -> None:
    first()
    while True:
        time.sleep(0.01)


class Stops(Progress):
    """Tells its process to stop when so many steps of a kind are done."""

    def __init__(self, unit: str, count: int) -> None:
        super().__init__(None)
        self._unit, self._left = unit, count

    def step(self, done: int, total: int, unit: str) -> None:
        """Count."""
        self._left -= unit == self._unit
        if self._left == 0 and unit == self._unit:
            self._left -= 1
            told_to_stop()


def small_job(folder: Path, progress: Progress, target: str = TARGETS[1]) -> Report:
    """A search of a second or two in this process."""
    net = Net(("N", 3, 8, 8), seed=5)
    x = net.op("Relu", net.conv("x", 3, 24))
    x = net.op("Relu", net.conv(x, 24, 24, stride=2))
    net.classifier(x, 24)
    spec = JobSpec((target,), search=SearchOptions(points=4))
    made = job(folder / "job", spec, model=net.bytes())
    with progress.obeying_signals():
        return pipeline.compress(spec, Upload(net.bytes()), made / "data.npz", made, folder / "cache", progress)


def test_files_that_are_finished_are_reported(tmp_path: Path) -> None:
    """Stopped after the second file: no third one is written, and the front of two is called partial."""
    progress = Stops("files", 2)
    report = small_job(tmp_path, progress)
    [front] = report.fronts.values()
    assert not report.complete
    assert 1 <= len(front.points) <= 2
    assert any(" with 2 of " in warning or " with 1 of " in warning for warning in progress.warnings)
    assert (tmp_path / "job" / "out" / front.points[0].artifact).is_file()


def test_the_last_files_have_their_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the search, with files that take longer than there is for last steps: one of them is written."""
    finish = points.Finisher.finish

    def slow(self: points.Finisher, candidate: Candidate) -> points.File:
        file = finish(self, candidate)
        time.sleep(1.1 * progress_module.LAST_S)
        return file

    monkeypatch.setattr(points.Finisher, "finish", slow)
    report = small_job(tmp_path, Stops("candidates", 3))
    [front] = report.fronts.values()
    assert not report.complete
    assert len(front.points) == 1


def test_what_is_reserved_is_for_what_comes_next(tmp_path: Path) -> None:
    """The search ends when its share of the time is spent; in the rest every file is written and judged, without hurry."""

    class Spent(Progress):
        """A clock that has passed the search's share of the deadline once three candidates are there."""

        passed = 0

        def late(self, reserve: float) -> bool:
            return reserve > 0 and self.passed >= 3

        def step(self, done: int, total: int, unit: str) -> None:
            self.passed += unit == "candidates"

    progress = Spent(None)
    report = small_job(tmp_path, progress)
    [front] = report.fronts.values()
    assert not report.complete
    assert not progress.stopping
    assert any("with 3 of" in warning for warning in report.warnings)
    assert not any(" files" in warning for warning in report.warnings)
    assert not any("points are judged on" in warning for warning in report.warnings)
    assert front.points


def test_judging_is_cut_to_the_time_that_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is judged on as many samples as there is time for, and the report says so."""

    class Short(Progress):
        """Hardly any time is left when files are to be judged."""

        def left_s(self) -> float | None:
            return 1e-6

    monkeypatch.setattr(finishing, "FEWEST_JUDGED", 20)
    report = small_job(tmp_path, Short(None))
    [front] = report.fronts.values()
    assert not report.complete
    assert front.points
    judged = report.data.evaluation + (0 if report.data.crossed else report.data.selection)
    assert judged == finishing.FEWEST_JUDGED
    assert any(f"points are judged on {judged} of" in warning for warning in report.warnings)


def test_nothing_finished_is_nothing_to_report(tmp_path: Path) -> None:
    """Stopped while options are measured."""
    with pytest.raises(Stopped, match="cancelled"):
        small_job(tmp_path, Stops("options", 1))


def test_points_that_could_not_be_timed_are_priced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped while files are timed: all points are there, with modelled latencies."""
    resolve = profiles.resolve

    def here(*arguments: Any) -> Any:
        return dataclasses.replace(resolve(*arguments), measurable_here=True)

    def watch(*_: object) -> points.Stopwatch:
        def run(_: Sequence[bytes]) -> list[points.Timed]:
            _busy(told_to_stop)
            return []

        return run

    monkeypatch.setattr(profiles, "resolve", here)
    monkeypatch.setattr(pipeline, "stopwatch", watch)
    report = small_job(tmp_path, Progress(None))
    [front] = report.fronts.values()
    assert not report.complete
    assert front.points
    assert {point.latency_ms.kind for point in front.points} == {"modelled"}
    assert any("are modelled" in warning for warning in report.warnings)
