"""Training as a stage of a job: labels, no labels, bad labels, few samples, an end in the middle."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from search.graph.onnx.read import load
from search.graph.onnx.write import export
from search.graph.upload import Upload
from search.input.data import Part
from search.input.division import divide
from search.memo import Units, digest
from search.pipeline import compress
from search.space.blocks import Variant
from search.space.groups import find_groups
from search.space.plan import Candidate, plan_key, zeros_knob
from search.space.surgery import mask
from search.train import finetune, trainer
from search.train.deployed import cut_graph, made_zeros
from search.train.descent import Course
from search.train.minutes import FALL, USEFUL_STEPS, Courses, shares, weight
from search.train.pace import JUDGEMENTS, NARROWER, Pace, pace
from search.train.trainer import samples_that_train
from search.wire.errors import InvalidDataset
from search.wire.progress import Progress, Stopped
from search.wire.report import Report
from search.wire.request import JobSpec, SearchOptions
from tests.search.graph.nets import Net, images, run_ort
from tests.search.train import students

TARGET = "a100-tensorrt-fp16"
SPEC = JobSpec((TARGET,), search=SearchOptions(points=2, finetune_minutes=0.3))
BATCH = 128


def network(channels: int = 16, outputs: int = 4) -> bytes:
    """A convolution and a linear layer; on the target's grid of 8 channels it has one option for every 8 of them."""
    net = Net(("N", 3, 8, 8), seed=5)
    net.gemm(net.op("Flatten", net.op("Relu", net.conv("x", 3, channels, stride=2))), 16 * channels, outputs)
    return net.bytes()


def data_file(folder: Path, *, samples: int = 400, **arrays: Any) -> Path:
    """Random images beside other arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "data.npz", x=images(samples, 3, 8, 8), **arrays)
    return folder / "data.npz"


def run(
    folder: Path,
    data: Path | None,
    *,
    model: bytes | None = None,
    spec: JobSpec = SPEC,
    progress: Progress | None = None,
) -> Report:
    """One job in this process, on a machine whose pace is known: a second for a step of the dense network."""
    model = network() if model is None else model
    paces = folder.parent / "cache" / "measurements"
    paces.mkdir(parents=True, exist_ok=True)
    for batch in range(1, BATCH + 1):
        known = Pace(0.0, 1.0, 0.0, 0.0, len(os.sched_getaffinity(0)), 200_000)
        name = f"pace-{digest(export(load(model)), batch)[:24]}.json"
        (paces / name).write_text(json.dumps(dataclasses.asdict(known)))
    return compress(spec, Upload(model), data, folder, folder.parent / "cache", progress or Progress(None))


class StopsLater(Progress):
    """Is told to stop at a certain training step; None: never."""

    def __init__(self, steps: int | None) -> None:
        super().__init__(None)
        self.steps_left = steps

    def check(self, *, reserve: float = 0.0) -> None:
        """Count down the checks inside courses."""
        if self.steps_left is not None and reserve == 0.15:
            self.steps_left -= 1
            if self.steps_left < 0:
                self.cancel()
        super().check(reserve=reserve)


class Late(Progress):
    """Has two fifths of its time left."""

    def late(self, reserve: float) -> bool:
        """Enough to finish a job without training."""
        return reserve > 0.4


def files_of(folder: Path) -> dict[str, bytes]:
    """Every model that a job wrote."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted((folder / "out").rglob("*.onnx"))}


def best_agreement(report: Report) -> float:
    """Of the fastest point of the front."""
    return report.fronts[TARGET].points[0].accuracy.value


def test_a_job_that_trains_is_better_and_ends_the_same_when_resumed(tmp_path: Path) -> None:
    """Agreement rises over repair alone; a job stopped in the middle of training and resumed writes the same bytes."""
    data, model = data_file(tmp_path), network(32)
    trained = run(tmp_path / "a", data, model=model)
    repaired = run(tmp_path / "b", data, model=model, spec=JobSpec((TARGET,), search=SearchOptions(points=2)))
    assert trained.headline.startswith("Unlabelled")
    assert trained.data.training > trained.data.calibration
    assert best_agreement(trained) > best_agreement(repaired)
    stopped = run(tmp_path / "c", data, model=model, progress=StopsLater(20))
    assert not stopped.complete
    assert list((tmp_path / "c" / "units").glob("training-*.npz"))
    run(tmp_path / "c", data, model=model)
    resumed = files_of(tmp_path / "c")
    assert all(resumed[name] == model for name, model in files_of(tmp_path / "a").items())


def test_the_search_leaves_time_for_training(tmp_path: Path) -> None:
    """Where less of the deadline is left than training needs, the search ends after a child, says so, and points are trained."""
    data, model = data_file(tmp_path), network(128)
    spec = JobSpec((TARGET,), search=SearchOptions(points=2, finetune_minutes=0.3, deadline_minutes=1))
    report = run(tmp_path / "a", data, model=model, spec=spec, progress=Late(None))
    assert sum("time is left for training" in warning for warning in report.warnings) == 1
    assert len(list((tmp_path / "a" / "units").glob("trained-*.npz"))) > 0
    assert report.complete


def test_labels_of_one_class_teach_nothing(tmp_path: Path) -> None:
    """The job says so and follows the dense model's answers."""
    report = run(tmp_path / "a", data_file(tmp_path, y=np.zeros(400, np.int64)))
    assert any("same class" in warning for warning in report.warnings)
    assert report.fronts[TARGET].points


def test_sixteen_samples_are_too_few_to_train_on(tmp_path: Path) -> None:
    """The repaired front comes back with a warning."""
    report = run(tmp_path / "a", data_file(tmp_path, samples=16))
    assert any("left to train on" in warning for warning in report.warnings)
    assert report.fronts[TARGET].points


def test_more_classes_than_scores_are_refused(tmp_path: Path) -> None:
    """A label that the network has no score for is a clear error."""
    with pytest.raises(InvalidDataset, match="labels run from 0 to 4"):
        run(tmp_path / "a", data_file(tmp_path, y=np.arange(400) % 5))


def test_a_loss_that_is_no_number_keeps_the_repaired_points(tmp_path: Path) -> None:
    """Targets too large for float32 squares: a warning, and the points of the closed-form repair, to the byte."""
    targets = np.full((400, 4), 1e30, np.float32)
    report = run(tmp_path / "a", data_file(tmp_path, y=targets))
    assert any("stopped being a number" in warning for warning in report.warnings)
    for name, model in files_of(tmp_path / "a").items():
        assert np.isfinite(run_ort(model, {"x": images(3, 3, 8, 8)})[0]).all(), name


def test_without_data_training_goes_by_synthetic_inputs(tmp_path: Path) -> None:
    """A data-free job trains too, says first that it is data-free, and keeps the last weights of every course."""
    report = run(tmp_path / "a", None)
    assert report.headline.startswith("Data-free")
    assert report.fronts[TARGET].points
    courses = list((tmp_path / "a" / "units").glob("trained-*.npz"))
    assert courses
    for course in courses:
        with np.load(course) as kept:
            last = {name.removeprefix("__last__/"): kept[name] for name in kept.files if name.startswith("__last__/")}
            assert last
            assert all(np.array_equal(kept[name], value) for name, value in last.items())


def test_sums_of_indices_are_no_values_to_match(tmp_path: Path) -> None:
    """A network that adds integers before it looks them up is trained like any other."""
    net = Net()
    net.inputs = [helper.make_tensor_value_info("x", TensorProto.INT64, ("N", 4))]
    rows = net.op("Gather", net.weight(9, 8), net.op("Add", "x", "x"))
    hidden = net.op("Relu", net.gemm(net.op("Flatten", rows), 32, 32))
    net.gemm(hidden, 32, 4)
    np.savez(tmp_path / "ids.npz", x=np.random.default_rng(0).integers(0, 5, (400, 4)))
    report = run(tmp_path / "a", tmp_path / "ids.npz", model=net.bytes())
    assert not any("trained" in warning for warning in report.warnings)
    assert report.fronts[TARGET].points
    assert list((tmp_path / "a" / "units").glob("trained-*.npz"))


def test_a_job_that_is_stopped_before_training_is_not_trained(tmp_path: Path) -> None:
    """Cancelled at the first check: the repaired front, marked as incomplete."""
    try:
        report = run(tmp_path / "a", data_file(tmp_path), progress=StopsLater(0))
    except Stopped:
        pytest.fail("there were repaired candidates to return")
    assert not report.complete
    assert not list((tmp_path / "a" / "units").glob("trained-*.npz"))


def test_training_samples_serve_no_other_purpose() -> None:
    """With a cap on evaluation the rest is for training; calibration is its beginning; nothing is shared."""
    x = np.arange(100, dtype=np.float32)[:, None]
    splits = divide(
        Part({"x": x}, None),
        "unlabelled",
        np.random.default_rng(0),
        most_calibration=20,
        most_search=10,
        most_evaluation=25,
    )
    sets = [set(part.feeds["x"][:, 0].tolist()) for part in (splits.train, splits.search, splits.judged)]
    assert [len(s) for s in sets] == [50, 10, 40]
    assert len(set.union(*sets)) == 100
    assert np.array_equal(splits.train.feeds["x"][:20], splits.calibration.feeds["x"])


def test_zeros_that_pruning_made_are_told_from_those_of_the_dense_network() -> None:
    """A weight set to zero by a candidate is masked; one that was zero before, and whole weights, are not."""
    net = Net()
    net.classifier(net.op("Relu", net.conv("x", 3, 8)), 8)
    net.initializers["w0"][0, 0, 0, 0] = 0
    graph = load(net.bytes())
    groups = find_groups(graph, {"x": (1, 3, 8, 8)})
    pruned = graph.initializers["w0"].copy()
    pruned[1, 1, 1, 1] = 0
    candidate = Candidate({}, Variant(graph, groups), groups.dense(), {"w0": pruned}, 0.0, "l2")
    masks = made_zeros(candidate)
    assert list(masks) == ["w0"]
    assert np.argwhere(~masks["w0"]).tolist() == [[1, 1, 1, 1]]
    asked = dataclasses.replace(candidate, plan={zeros_knob(graph.nodes[0].name): 0.01})
    assert np.argwhere(~made_zeros(asked)["w0"]).tolist() == [[0, 0, 0, 0], [1, 1, 1, 1]]


def test_a_batch_fits_into_memory() -> None:
    """By hand: one value of 1 GiB a sample, with its gradient, leaves room for two; small networks are not limited."""
    graph = load(network())
    groups = find_groups(graph, {"x": (1, 3, 8, 8)})
    one = {next(name for node in graph.nodes for name in node.outputs): (1, 1 << 28)}
    assert samples_that_train(graph, one) == 2
    assert samples_that_train(graph, one, sparing=True) == 2
    assert samples_that_train(graph, groups.shapes) > 1000


@pytest.mark.parametrize(("wrong", "weight"), [(0, 0.0), (8, 8 / 128), (64, 0.1)])
def test_labels_that_are_known_by_heart_count_for_nothing(wrong: int, weight: float) -> None:
    """Their weight is the share that the dense network gets wrong, a tenth at most; other terms are as without labels."""
    graph, groups = students.network()
    scores = run_ort(export(graph), {"x": images(128, 3, 8, 8)})[0]
    labels = scores.argmax(1)
    labels[:wrong] = (labels[:wrong] + 1) % scores.shape[1]
    weights = students.trainer(graph, groups, labels=labels).weights
    assert weights.labels == pytest.approx(weight)
    assert weights._replace(labels=0.0) == students.trainer(graph, groups).weights


def test_a_network_that_needs_much_memory_is_trained_in_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a whole batch does not fit, more samples fit in stretches, and a step comes to the same weights."""
    graph, groups = students.network()
    plenty = students.trainer(graph, groups)
    monkeypatch.setattr(trainer, "MEMORY_BYTES", 2**20)
    tight = students.trainer(graph, groups)
    assert tight.sparing
    assert not plenty.sparing
    assert samples_that_train(graph, groups.shapes) < tight.batch < plenty.batch
    tight.batch = plenty.batch
    course = Course(3, 1e-3, plenty.weights, checks=1)
    ends = [trainer.run(trainer.student(graph), course).last for trainer in (plenty, tight)]
    for name, expected in ends[0].items():
        assert np.allclose(ends[1][name], expected, atol=1e-4), name


def test_time_goes_where_it_helps_most() -> None:
    """Against every other division of 100 seconds in steps of one: the least sum of divergences that fall as a n^-q."""
    lost, step_s = np.array([0.1, 0.1, 0.4]), np.array([0.5, 2.0, 1.0])
    chosen = shares([weight(d, s) for d, s in zip(lost, step_s, strict=True)], 100.0)
    assert sum(chosen) == pytest.approx(100)
    tried = [(i, j, 100 - i - j) for i in range(1, 99) for j in range(1, 100 - i)]
    left = [float((lost * (step_s / seconds) ** FALL).sum()) for seconds in tried]
    assert chosen == pytest.approx(tried[int(np.argmin(left))], abs=1)


@pytest.mark.parametrize("real", [True, False])
def test_a_point_that_training_made_worse_stays_repaired(*, real: bool) -> None:
    """Of three candidates one ends behind its repair: it comes back as it was, and still goes on in the next round.

    Where samples are synthetic nobody knows that it is worse, and it comes back as it was trained.
    """
    recovery = object.__new__(Courses)
    recovery.trainer = SimpleNamespace(real=real)  # type: ignore[assignment]
    recovery.progress = Progress(None)
    ends = {0: 0.5, 1: 0.1, 2: 0.3}
    recovery._steps = lambda candidate, seconds, *, compiled: int(seconds)  # type: ignore[method-assign]
    recovery._weights = lambda candidates: [1.0] * len(candidates)  # type: ignore[method-assign]
    recovery._course = lambda c, *_: dataclasses.replace(c, divergence=ends[c.plan["g"]])  # type: ignore[method-assign]
    before = [Candidate({"g": i}, None, {}, {}, 0.4, "l2") for i in ends]  # type: ignore[arg-type]
    done = {plan_key(c.plan): c for c in before}
    alive = recovery._round(before, 0, 1, 30.0, done)
    assert [c.divergence for c in alive] == [0.5, 0.1, 0.3]
    assert [c.divergence for c in done.values()] == [0.4 if real else 0.5, 0.1, 0.3]


def test_minutes_become_steps() -> None:
    """By hand: ten seconds of compiling, a tenth of a second a judgement; a batch takes longer than a small step."""
    known = Pace(setup_s=10, step_s=0.4, batch_s=0.2, judgement_s=0.1, cores=2, macs=1000)
    assert known.steps(100, 1000, compiled=False) == int((100 - 10 - JUDGEMENTS * 0.1) / (0.1 + 0.4))
    assert known.steps(100, 63, compiled=True) == int((100 - JUDGEMENTS * 0.1 * 0.063**NARROWER) / 0.2)
    assert known.steps(1, 1000, compiled=False) == 0


def test_training_is_planned_within_the_deadline() -> None:
    """Of 60 minutes 15 % are for writing results, so that 120 minutes of training become 51, with a warning."""
    progress = Progress(None)
    asked = [JobSpec((TARGET,), search=SearchOptions(finetune_minutes=m, deadline_minutes=60)) for m in (10, 120)]
    assert [finetune.minutes_of_training(spec, progress) for spec in asked] == [10, pytest.approx(51)]
    assert len(progress.warnings) == 1
    assert "at most 51" in progress.warnings[0]


def test_a_pace_that_cannot_be_read_is_measured_again(tmp_path: Path) -> None:
    """An empty file and one of another release are replaced; what was measured here is kept."""
    graph, groups = students.network()
    teacher, path = students.trainer(graph, groups), tmp_path / "pace.json"
    for unreadable in ("", '{"setup_s": 1.0}'):
        path.write_text(unreadable)
        found = pace(teacher, path)
        assert min(found.step_s, found.batch_s, found.judgement_s) > 0
        assert found.macs > 0
    assert pace(teacher, path) == found


def recovery_of(folder: Path, progress: Progress) -> tuple[Courses, Candidate]:
    """A small network, a third narrower, and what trains it at a pace of a second a step."""
    graph, groups = students.network()
    _, keep = students.narrowed(graph, groups)
    teacher = students.trainer(graph, groups)
    path = folder / "pace.json"
    path.write_text(json.dumps(dataclasses.asdict(Pace(0.0, 1.0, 0.0, 0.0, len(os.sched_getaffinity(0)), 1))))
    candidate = Candidate({}, Variant(graph, groups), keep, mask(graph.initializers, groups, keep), 0.0, "l2")
    divergence = teacher.judge(cut_graph(candidate))({})
    recovery = Courses(teacher, Units(folder / "units", "root"), progress, path)
    return recovery, dataclasses.replace(candidate, divergence=divergence)


def test_what_a_course_has_learned_when_it_is_stopped_is_not_lost(tmp_path: Path) -> None:
    """Cancelled in the middle of its course, a candidate has the best weights so far; resumed, it ends as if it had not been."""
    every = [None, 12, None]
    found = []
    for i, steps in enumerate(every):
        folder = tmp_path / ("whole" if i == 0 else "stopped")
        folder.mkdir(exist_ok=True)
        recovery, candidate = recovery_of(folder, StopsLater(steps))
        recovery.pace = dataclasses.replace(recovery.pace, step_s=1e-9)
        recovery._steps = lambda candidate, seconds, *, compiled: 40  # type: ignore[method-assign]
        [after] = recovery.recover([candidate], seconds=40, select=lambda c, n: list(c), points=1)
        found.append(after.divergence)
    assert found[0] < found[1] < candidate.divergence
    assert found[2] == found[0]


def test_a_neighbours_weights_are_judged_under_the_mask(tmp_path: Path) -> None:
    """A neighbour that is better only where this candidate has its zeros gives it nothing to start from."""
    recovery, candidate = recovery_of(tmp_path, Progress(None))
    full = {**candidate.variant.graph.initializers, **candidate.params}
    name = next(name for name, value in full.items() if value.ndim == 4)
    zeroed = np.where(images(*full[name].shape, seed=9) > 0, full[name], 0)
    sparse = dataclasses.replace(candidate, plan={"g": 1}, params={**candidate.params, name: zeroed})
    scores = [recovery.trainer.judge(cut_graph(c))({}) for c in (candidate, sparse)]
    assert scores[0] < scores[1]
    started = recovery._start(sparse, candidate)
    assert np.array_equal(started.initializers[name], cut_graph(sparse).initializers[name])


def test_little_time_is_not_spread_over_many() -> None:
    """With a second a step, 100 seconds are one course for two of eight; eight take part where a thirteenth is useful to each."""
    recovery = object.__new__(Courses)
    recovery._steps = lambda candidate, seconds, *, compiled: int(seconds)  # type: ignore[method-assign]
    recovery._weights = lambda candidates: [1.0] * len(candidates)  # type: ignore[method-assign]
    eight = [Candidate({"g": i}, None, {}, {}, 0.0, "l2") for i in range(8)]  # type: ignore[arg-type]

    def first(candidates: Sequence[Candidate], count: int) -> Sequence[Candidate]:
        return candidates[:count]

    assert len(recovery._entrants(eight, 100.0, first, 2)) == 2
    assert len(recovery._entrants(eight, 13 * 8 * (USEFUL_STEPS - 1.0), first, 2)) == 4
    assert len(recovery._entrants(eight, 13 * 8 * float(USEFUL_STEPS), first, 2)) == 8


def test_where_little_was_lost_no_useless_course_is_run() -> None:
    """With a second a step: of 100 s a point whose part is 1 s gets none and the others 99; of 12 s nobody but one gets any."""
    recovery = object.__new__(Courses)
    recovery.progress = Progress(None)
    recovery._steps = lambda candidate, seconds, *, compiled: int(seconds)  # type: ignore[method-assign]
    recovery._weights = lambda candidates: [c.divergence for c in candidates]  # type: ignore[method-assign]
    three = [Candidate({"g": i}, None, {}, {}, lost, "l2") for i, lost in enumerate((1.0, 33.0, 66.0))]  # type: ignore[arg-type]
    found = recovery._shares(three, 100.0, compiled=True)
    assert found[0] == 0
    assert found[1:] == pytest.approx([100 / 3, 200 / 3])
    assert not recovery.progress.warnings
    assert recovery._shares(three, 12.0, compiled=True) == pytest.approx([0, 0, 12])
    assert any("too short" in words for words in recovery.progress.warnings)


def test_a_batch_divides_by_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 50 samples four devices get 12 each and none is left over; otherwise each would compute all of them."""
    monkeypatch.setattr(trainer.jax, "local_device_count", lambda: 4)
    graph, groups = students.network()
    assert students.trainer(graph, groups, samples=50).batch == 48
    assert students.trainer(graph, groups, samples=3).batch == 3
