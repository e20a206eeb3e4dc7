"""Candidates worth finishing, and fronts put together from their files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from hwprofiles.registry import load_profile
from search.allocate.price import Pricer
from search.graph.onnx.read import load
from search.input.data import Part
from search.judge.metrics.base import Quality
from search.judge.metrics.hits import TOP1
from search.judge.proof import Proof
from search.measure.stopwatch import Timed
from search.memo import Units
from search.results.points import File, Finisher, _relative, build_front
from search.space.plan import Candidate, Knobs
from search.wire.errors import InternalError
from search.wire.report import Front, Latency, Point
from search.wire.request import JobSpec, Objective, SearchOptions
from tests.search.allocate.test_goals import NOTHING
from tests.search.graph.nets import images, resnet

N = 400


def file(size: int, *, lost: int, lost_later: int) -> File:
    """A file of so many bytes that misses the first so many samples of the selection, and of the evaluation."""
    scores = [(np.arange(N) >= missing).astype(float) for missing in (lost, lost_later)]
    return File(b"m" * size, "sha", 1e-6, *(Quality(each, TOP1) for each in scores), size, size, (), ())


def front(files: list[File], moved: list[float], spec: JobSpec, *, crossed: bool = False) -> Front:
    """Files of 1, 2, ... tenths of the dense one's time, put on a front."""
    graph = load(resnet().bytes())
    knobs = Knobs(graph, {"x": (1, 3, 8, 8)})
    group = knobs.groups.prunable[0]
    plans = [{group.id: width} for width in range(1, len(files) + 1)]
    finished = [
        (Candidate(plan, NOTHING, {}, {}, each, "obs"), made)
        for plan, each, made in zip(plans, moved, files, strict=True)
    ]

    def stopwatch(models: object) -> list[Timed]:
        return [
            Timed(1.0, (0.9, 1.1), 1.0, date="2026-01-02"),
            *(Timed(k / 10, (k / 11, k / 9), 10 / k, date="2026-01-01") for k in range(1, len(files) + 1)),
        ]

    profile = load_profile("server-avx2-onnxruntime-fp32")
    dense = file(1000, lost=0, lost_later=0)
    found, written = build_front(
        profile, Pricer(knobs, profile), dense, None, finished, spec, stopwatch, crossed=crossed
    )
    assert set(written) == {row.artifact for row in found.rows}
    return found


def test_what_chooses_does_not_judge() -> None:
    """The selection flatters the second point; it is chosen, and what is told of it is the evaluation's, worse by far."""
    files = [file(100, lost=90, lost_later=90), file(200, lost=0, lost_later=40), file(400, lost=0, lost_later=0)]
    found = front(files, [3.0, 2.0, 1.0], JobSpec())
    assert (found.best, found.best_is) == ("p02", "kept")
    best = next(point for point in found.points if point.id == "p02")
    assert best.accuracy.value == 0.9
    assert best.accuracy.delta == pytest.approx(-0.1)
    assert best.accuracy.keeps_limit == pytest.approx(1 - np.exp(-4), abs=0.01)
    assert found.points[0].accuracy.delta == pytest.approx(-90 / 400)


def test_the_front_is_what_the_search_samples_say() -> None:
    """A point that is slower and moved further goes, however well it scored; the fastest stays."""
    files = [file(100, lost=9, lost_later=9), file(200, lost=0, lost_later=0), file(400, lost=0, lost_later=0)]
    assert [point.id for point in front(files, [2.0, 2.5, 1.0], JobSpec()).points] == ["p01", "p03"]


def test_figures_of_a_point_by_hand() -> None:
    """The measured latency in ms, the speed-up, the ratio of bytes, dense over this."""
    found = front([file(250, lost=0, lost_later=0)], [1.0], JobSpec())
    [point] = found.points
    assert (point.latency_ms.value, point.latency_ms.kind) == (100.0, "measured")
    assert point.speedup == 10.0
    assert point.compression_ratio == 4.0
    assert point.parity == 1e-6
    assert found.dense.speedup == 1.0
    assert found.dense.compression_ratio == 1.0
    assert point.theoretical_speedup == pytest.approx(found.dense.macs / point.macs)
    assert point.theoretical_speedup > 1


def test_modelled_speedups_owe_nothing_to_the_choice() -> None:
    """Five prices, a model that errs by as much as they spread by half: each is drawn halfway, in logarithms, to their mean."""
    phone = load_profile("pixel4-1large-tflite-fp32")
    logs = np.array([0.2, 0.4, 0.6, 0.8, 1.0])
    error = dataclasses.replace(phone.held_out_error, log_error_q90=1.645 * np.sqrt(logs.var(ddof=1) / 2))  # type: ignore[type-var]
    profile = dataclasses.replace(phone, held_out_error=error)
    first = front([file(250, lost=0, lost_later=0)], [1.0], JobSpec()).points[0]

    def priced(seconds: float) -> Point:
        latency = Latency(seconds, seconds, seconds, "modelled")
        return dataclasses.replace(first, latency_ms=latency, predicted_latency_ms=latency)

    dense, *found = _relative([priced(1.0), *(priced(float(np.exp(-each))) for each in logs)], profile)
    assert dense.speedup == dense.predicted_speedup == 1.0
    assert [np.log(point.predicted_speedup) for point in found] == pytest.approx(logs)
    assert [np.log(point.speedup) for point in found] == pytest.approx(0.6 + (logs - 0.6) / 2)
    factor = np.exp(error.log_error_q90)  # type: ignore[union-attr]
    assert found[0].speedup_low == pytest.approx(found[0].speedup / factor)
    assert found[0].speedup_high == pytest.approx(found[0].speedup * factor)
    plain = _relative([dense, *found], dataclasses.replace(profile, held_out_error=None))[1]
    assert plain.speedup == pytest.approx(plain.predicted_speedup)


def test_conditions_are_stated() -> None:
    """Threads, batch, machine, rounds, the days of the timings."""
    under = front([file(250, lost=0, lost_later=0)], [1.0], JobSpec()).conditions
    assert under is not None
    assert (under.threads, under.batch, under.rounds, under.clock) == (1, 1, 40, "thread CPU time")
    assert under.dates == ("2026-01-01", "2026-01-02")


def test_with_few_samples_every_fold_judges_what_the_others_chose() -> None:
    """The faster of two points misses six samples, all of one fold: without it nothing speaks against that point.

    So all samples choose the slower one, but on that fold the choice is worth what the others chose.
    """
    hits = np.ones((2, N))
    hits[0, [0, 10, 20, 30, 40, 50]] = 0  # all in fold 0
    files = [
        dataclasses.replace(
            file(100, lost=0, lost_later=0), selection=Quality(each, TOP1), evaluation=Quality(each, TOP1)
        )
        for each in hits
    ]
    spec = JobSpec(objective=Objective(max_accuracy_drop=0.012))
    plain, crossed = (front(files, [2.0, 1.0], spec, crossed=each) for each in (False, True))
    assert plain.best == crossed.best == "p02"
    told = {each: next(p for p in found.points if p.id == "p02").accuracy for each, found in ((0, plain), (1, crossed))}
    assert told[0].delta == 0.0
    assert told[1].delta == pytest.approx(-6 / N)  # without fold 0 the faster one looks as good
    assert told[1].n == N


def test_the_wish_keeps_its_neighbours() -> None:
    """Nine points, five asked for: the best, those beside it, and both ends."""
    files = [file(100 * k, lost=0 if k >= 4 else 90, lost_later=0) for k in range(1, 10)]
    found = front(files, [float(10 - k) for k in range(1, 10)], JobSpec(search=SearchOptions(points=5)))
    assert found.best == "p04"
    assert [p.id for p in found.points] == ["p01", "p03", "p04", "p05", "p09"]


def test_a_file_that_computes_something_else_is_no_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that differs by more than rounding does, by NaN, or that is larger than the upload ends in an error of ours."""
    graph = load(resnet().bytes())
    knobs = Knobs(graph, {"x": (1, 3, 8, 8)})
    finisher = Finisher(knobs, Part({"x": images(12, 3, 8, 8)}, None), 0, Units(tmp_path, "key"))
    model = finisher.dense.model
    assert finisher._proved(model, model, len(model))["parity"] == 0
    with pytest.raises(InternalError, match="bytes"):
        finisher._proved(model, model, len(model) - 1)
    for error in (2 * finisher.proof.tolerance, float("nan")):
        monkeypatch.setattr(Proof, "difference", lambda *_, error=error: error)
        with pytest.raises(InternalError, match="differs from its masked one"):
            finisher._proved(model, model, len(model))
