"""One bad part never ends a job: what fails is left out and named, the rest is as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search import pipeline
from search.allocate.targets import NOTHING_TO_PRUNE
from search.criteria import CRITERIA
from search.graph.upload import Upload
from search.repair.least_squares import Repairer
from search.results.points import Finisher
from search.survive import MOST_NAMED, Survival
from search.wire.errors import InternalError
from search.wire.progress import Progress, Stopped
from search.wire.report import Report
from search.wire.request import JobSpec, SearchOptions
from tests.search.graph.nets import Net, images

TARGET = "server-avx2-onnxruntime-fp32"


def compressed(folder: Path, net: Net, **arrays: Any) -> Report:
    """A small job in this process."""
    np.savez(folder / "data.npz", **arrays)
    spec = JobSpec(profiles=(TARGET,), search=SearchOptions(points=2))
    return pipeline.compress(spec, Upload(net.bytes()), folder / "data.npz", folder, folder / "cache", Progress(None))


def classifier() -> Net:
    """Two convolutions and a linear layer."""
    net = Net(("N", 3, 8, 8), seed=5)
    hidden = net.op("Relu", net.conv("x", 3, 32))
    net.classifier(net.op("Relu", net.conv(hidden, 32, 32)), 32)
    return net


def failing(original: Callable[..., Any], error: Exception, *, every: int = 1) -> Callable[..., Any]:
    """The same function, which fails each ``every``-th time, the first time among these."""
    calls = iter(range(10**6))

    def call(*args: Any, **named: Any) -> Any:
        if next(calls) % every == 0:
            raise error
        return original(*args, **named)

    return call


def test_what_fails_is_named_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fourth repair, the first proof and one criterion fail: there still is a front, and warnings name each."""
    repair = failing(Repairer.repair, np.linalg.LinAlgError("Singular matrix"), every=4)
    monkeypatch.setattr(Repairer, "repair", repair)
    monkeypatch.setattr(Finisher, "_proved", failing(Finisher._proved, InternalError("differs"), every=100))
    monkeypatch.setitem(CRITERIA, "obs", failing(CRITERIA["obs"], ValueError("no order")))  # type: ignore[misc]
    report = compressed(tmp_path, classifier(), x=images(80, 3, 8, 8))
    assert report.fronts[TARGET].points
    for words in ("candidate `n_conv", "Singular matrix", "point `", "differs", "criterion `obs of ", "no order"):
        assert any(words in warning for warning in report.warnings), (words, report.warnings)


def test_a_job_of_which_nothing_is_left_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty front and its reason; the first failures are named, the others counted."""
    monkeypatch.setattr(Finisher, "_proved", failing(Finisher._proved, InternalError("differs")))
    report = compressed(tmp_path, classifier(), x=images(80, 3, 8, 8))
    front = report.fronts[TARGET]
    assert (front.points, front.best) == ((), None)
    assert "points failed" in front.best_reason or "point failed" in front.best_reason
    assert front.best_reason in report.headline


def test_a_network_without_anything_to_prune_succeeds(tmp_path: Path) -> None:
    """One activation: an empty front, and why."""
    net = Net(("N", 3, 8, 8))
    net.op("Relu", "x")
    report = compressed(tmp_path, net, x=images(40, 3, 8, 8))
    assert report.fronts[TARGET].points == ()
    assert report.fronts[TARGET].best_reason == NOTHING_TO_PRUNE


def test_the_first_are_named_the_others_counted() -> None:
    """Ten of one kind: three warnings, one sum; a job that is told to stop stops, and one without memory ends."""
    progress = Progress(None)
    survival = Survival(progress)
    for i in range(10):
        with survival.without("candidate", str(i)):
            raise ValueError(f"bad {i}\nsecond line")
    survival.summary()
    assert len(progress.warnings) == MOST_NAMED + 1
    assert progress.warnings[0] == "candidate `0` failed, it is left out: bad 0"
    assert progress.warnings[-1].startswith("7 more")
    for ending in (Stopped("deadline"), MemoryError()):
        with pytest.raises(type(ending)), survival.without("candidate", "x"):
            raise ending


class Hurried(Progress):
    """Half of the deadline is gone from the third measured option on, and no more than that."""

    def __init__(self) -> None:
        super().__init__(None, deadline_s=1e6)
        self.measured = 0

    def step(self, done: int, total: int, unit: str) -> None:
        """Count options."""
        self.measured += unit == "options"
        super().step(done, total, unit)

    def late(self, reserve: float) -> bool:
        """Whether less than half is left."""
        return self.measured >= 2 and reserve >= 0.5


def test_a_slow_network_has_a_front_of_the_options_that_were_measured(tmp_path: Path) -> None:
    """Where half of the time is gone, the other options are left out and the job goes on to candidates."""
    np.savez(tmp_path / "data.npz", x=images(80, 3, 8, 8))
    spec = JobSpec(profiles=(TARGET,), search=SearchOptions(points=2))
    progress = Hurried()
    model = Upload(classifier().bytes())
    report = pipeline.compress(spec, model, tmp_path / "data.npz", tmp_path, tmp_path / "cache", progress)
    assert report.fronts[TARGET].points
    assert len(list((tmp_path / "units").glob("sensitivity-*"))) == 3
    assert any("before every option was measured" in warning for warning in report.warnings)
