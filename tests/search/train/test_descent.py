"""The training loop: it learns, resumes to the bit, keeps masks, survives a loss that is no number."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from search.graph.ir import Array
from search.graph.onnx.read import load
from search.space.groups import find_groups
from search.space.uncut import spread
from search.train.descent import Course, Student, descend, scatter
from search.train.loss import TEMPERATURE, Batch, Objective, Weights, objective_for
from search.train.trainer import DISTIL, PRODUCTS
from tests.search.graph.nets import Net, images
from tests.search.train.students import narrowed, network, trainer

COURSE = Course(24, 3e-3, DISTIL, checks=4)


class Memory:
    """A store that keeps everything it was given."""

    def __init__(self) -> None:
        self.saved: list[dict[str, Array]] = []

    def load(self) -> Mapping[str, Array] | None:
        """The last state."""
        return self.saved[-1] if self.saved else None

    def save(self, arrays: Mapping[str, Array]) -> None:
        """Keep a state."""
        self.saved.append(dict(arrays))


class Killed(Exception):
    """What ends a run from outside in these tests."""


def test_training_brings_the_answers_back() -> None:
    """A third of the channels is gone; after a few steps the answers are closer to the dense network's, on new samples."""
    graph, groups = network()
    teacher = trainer(graph, groups)
    smaller, _ = narrowed(graph, groups)
    student = teacher.student(smaller)
    before = teacher.judge(smaller)({})
    outcome = teacher.run(student, COURSE)
    assert outcome.score == pytest.approx(teacher.judge(smaller)(outcome.params))
    assert outcome.score < 0.7 * before


def test_the_last_weights_are_kept_where_nothing_real_can_judge() -> None:
    """The dense network itself, trained much too boldly: real samples keep the start, synthetic ones the end."""
    graph, groups = network()
    teacher = trainer(graph, groups)
    bold = dataclasses.replace(COURSE, learning_rate=0.3)
    judged = teacher.run(teacher.student(graph), bold)
    teacher.real = False
    last = teacher.run(teacher.student(graph), bold)
    for name, value in judged.params.items():
        assert np.array_equal(value, graph.initializers[name]), name
        assert np.array_equal(last.params[name], judged.last[name]), name
        assert not np.array_equal(last.params[name], value), name


def test_an_interrupted_run_goes_on_to_the_same_bits() -> None:
    """Ended at step 10 and resumed from its store, a run gives the very weights of one that was left alone."""
    graph, groups = network()
    teacher = trainer(graph, groups)
    smaller, _ = narrowed(graph, groups)
    whole = teacher.run(teacher.student(smaller), COURSE)
    steps = iter(range(10))

    def stop() -> None:
        if next(steps, None) is None:
            raise Killed

    store = Memory()
    with pytest.raises(Killed):
        teacher.run(teacher.student(smaller), COURSE, store=store, check=stop)
    assert store.saved[-1]["step"] == 10
    resumed = teacher.run(teacher.student(smaller), COURSE, store=store)
    assert resumed.score == whole.score
    for name, value in whole.last.items():
        assert np.array_equal(value, resumed.last[name]), name
        assert np.array_equal(whole.params[name], resumed.params[name]), name


def test_a_loss_that_is_no_number_ends_the_run_with_the_best_weights() -> None:
    """Labels whose squares are infinite poison the loss; what comes back is what went in."""
    net = Net()
    net.classifier(net.op("Relu", net.conv("x", 3, 8)), 8, classes=3)
    graph = load(net.bytes())
    teacher = trainer(graph, find_groups(graph, {"x": (1, 3, 8, 8)}), labels=np.full((128, 3), 3e38, np.float32))
    outcome = teacher.run(teacher.student(graph), dataclasses.replace(COURSE, weights=Weights(labels=1.0)))
    assert outcome.diverged
    assert all(np.array_equal(value, graph.initializers[name]) for name, value in outcome.params.items())


def test_spreading_is_the_inverse_of_cutting() -> None:
    """Weights of a cut network, spread and cut again, are the same weights, and the units that were cut read zero."""
    graph, groups = network()
    smaller, keep = narrowed(graph, groups)
    new = {name: value + 1 for name, value in smaller.initializers.items() if value.dtype == np.float32}
    full = graph.with_initializers(spread(new, graph, groups, keep))
    from search.space.surgery import cut, mask

    again = cut(full, groups, keep)
    assert all(np.array_equal(again.initializers[name], value) for name, value in new.items())
    masked = mask(full.initializers, groups, keep)
    assert all(np.array_equal(masked[name], full.initializers[name]) for name in masked)


def test_distillation_matches_the_formula() -> None:
    """T^2 KL(dense || student) at temperature T, plus cross-entropy, by hand in numpy."""
    student, dense = images(6, 4), images(6, 4, seed=2)
    labels = np.arange(6) % 4

    def log_softmax(x: Array) -> Array:
        return np.asarray(x - np.log(np.exp(x).sum(1, keepdims=True)))

    p, q = log_softmax(dense / TEMPERATURE), log_softmax(student / TEMPERATURE)
    distance = TEMPERATURE**2 * (np.exp(p) * (p - q)).sum(1).mean()
    cross_entropy = -log_softmax(student)[np.arange(6), labels].mean()
    objective = objective_for([dense], labels)
    assert objective == Objective("scores", classes=True)
    loss = objective([student], {}, Batch({}, [dense], {}, labels), Weights(1.0, 0.0, 0.5))
    assert float(loss) == pytest.approx(distance + 0.5 * cross_entropy, rel=1e-5)


def test_values_are_compared_relative_to_their_size() -> None:
    """|Y - Y^|^2 / |Y|^2, averaged over the values compared, and the same for outputs that are no classes."""
    a, b = images(5, 3, 4, 4), images(5, 3, 4, 4, seed=2)
    error = float(((a - b) ** 2).sum() / (b**2).sum())
    objective = objective_for([b], None)
    assert objective.answer == "values"
    batch = Batch({}, [b], {"v": b, "w": b}, None)
    assert float(objective([a], {"v": a, "w": b}, batch, Weights(1.0, 1.0))) == pytest.approx(1.5 * error, rel=1e-5)


def test_float_targets_make_a_regression() -> None:
    """Outputs (N, C) with float targets are values, not class scores; both distances are relative squared errors."""
    a, b, targets = (images(5, 3, seed=seed) for seed in (1, 2, 3))
    objective = objective_for([b], targets)
    assert objective == Objective("values", classes=False)
    wanted = ((a - b) ** 2).sum() / (b**2).sum() + 0.5 * ((a - targets) ** 2).sum() / (targets**2).sum()
    assert float(objective([a], {}, Batch({}, [b], {}, targets), Weights(1.0, 0.0, 0.5))) == pytest.approx(
        wanted, rel=1e-5
    )


def test_probabilities_are_told_from_scores() -> None:
    """A network that ends in Softmax is distilled through the logarithm: equal probabilities have no distance."""
    probabilities = np.full((4, 3), 1 / 3, np.float32)
    objective = objective_for([probabilities], None)
    assert objective.answer == "probabilities"
    batch = Batch({}, [probabilities], {}, None)
    assert float(objective([probabilities], {}, batch, Weights())) == pytest.approx(0, abs=1e-6)


SHARDED = """
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", {devices})
from tests.search.train.students import narrowed, network, trainer
from search.train.descent import scatter
graph, groups = network()
teacher = trainer(graph, groups)
student = teacher.student(narrowed(graph, groups)[0])
batch = scatter(teacher.batches()(0))
assert len(next(iter(batch.feeds.values())).sharding.device_set) == {devices}
gradient = student.gradient(student.start(), batch, teacher.weights)
np.savez("{path}", **{{name: np.asarray(value) for name, value in gradient.items()}})
"""


def test_two_devices_share_a_batch(tmp_path: Any) -> None:
    """The gradient of a batch divided over two devices is that of one device, up to the order of sums."""
    for devices in (1, 2):
        code = SHARDED.format(devices=devices, path=tmp_path / f"{devices}.npz")
        subprocess.run([sys.executable, "-c", code], check=True, timeout=200)
    one, two = (dict(np.load(tmp_path / f"{devices}.npz")) for devices in (1, 2))
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert np.allclose(two[name], value, rtol=1e-4, atol=1e-5), name


def test_a_masked_weight_stays_zero_at_every_step() -> None:
    """Entries outside a mask are exactly zero after training, and entries inside have moved."""
    graph, groups = network()
    teacher = trainer(graph, groups)
    name = next(n for n in teacher.student(graph).names if graph.initializers[n].ndim == 4)
    mask = images(*graph.initializers[name].shape) > 0
    outcome = teacher.run(teacher.student(graph, {name: mask}), COURSE)
    assert (outcome.last[name][~mask] == 0).all()
    assert (
        outcome.last[name][mask] != graph.initializers[name][mask]
    ).mean() > 0.5  # the others feed units that never fire


@pytest.mark.parametrize("sparing", [False, True])
def test_mixed_precision_multiplies_in_bfloat16_and_keeps_weights_in_float32(
    monkeypatch: pytest.MonkeyPatch, *, sparing: bool
) -> None:
    """As on a GPU: every product forward and backward takes bfloat16, the gradient points the same way, training works."""
    graph, groups = network()
    teacher = trainer(graph, groups)
    teacher.sparing = sparing
    smaller, _ = narrowed(graph, groups)
    single = teacher.student(smaller)
    monkeypatch.setitem(PRODUCTS, "cpu", jnp.bfloat16)
    mixed = teacher.student(smaller)
    batch, start = teacher.batches()(0), single.start()
    for student, type_ in ((single, "f32"), (mixed, "bf16")):
        text = str(jax.make_jaxpr(student.gradient)(start, batch, teacher.weights))
        products = re.findall(r":(\w+)\[[\d,]*\] = (?:conv_general_dilated|dot_general)\[", text)
        assert products, text
        assert set(products) == {type_}
    gradients = [student.gradient(start, batch, teacher.weights) for student in (single, mixed)]
    one, two = (np.concatenate([np.ravel(g[name]) for name in single.names]) for g in gradients)
    assert two.dtype == np.float32
    assert 0.999 < one @ two / np.linalg.norm(one) / np.linalg.norm(two) < 1 - 1e-9
    outcome = teacher.run(mixed, COURSE)
    assert outcome.score < 0.7 * teacher.judge(smaller)({})
    assert {value.dtype for value in outcome.params.values()} == {np.dtype(np.float32)}


def test_the_loop_minimises() -> None:
    """One linear layer without noise: training finds the matrix that made the targets."""
    wanted = images(4, 3)
    outcome = descend(
        one_layer(), Course(300, 3e-2, Weights()), batches_of(wanted), lambda p: float(np.abs(p["w0"] - wanted).max())
    )
    assert outcome.score < 1e-2


def test_late_steps_count_most_in_the_average_that_is_kept() -> None:
    """Step s of 1 to T counts 4 s (s + 1) (s + 2) / (T (T + 1) (T + 2) (T + 3)); the steps are made one by one beside it."""
    course, batches, student = Course(12, 3e-2, Weights(), checks=1), batches_of(images(4, 3)), one_layer()
    params, made = student.start(), []
    state = student.optimiser.init(params)
    for step in range(course.steps):
        params, state, _ = student.step(params, state, scatter(batches(step)), course.weights, course.rate(step), {})
        made.append(np.array(params["w0"], np.float64))
    s, total = np.arange(1, 13), 12
    counts = 4 * s * (s + 1) * (s + 2) / (total * (total + 1) * (total + 2) * (total + 3))
    assert counts.sum() == pytest.approx(1)
    outcome = descend(one_layer(), course, batches, lambda _: 0.0)
    assert np.allclose(outcome.last["w0"], np.tensordot(counts, made, 1), rtol=1e-5, atol=1e-6)
    assert not np.allclose(outcome.last["w0"], made[-1], rtol=1e-3)


def one_layer() -> Student:
    """One product: x (N, 4) times a matrix (4, 3)."""
    net = Net(("N", 4))
    net.op("MatMul", "x", net.weight(4, 3))
    return Student(load(net.bytes()), ("w0",), Objective("values", classes=False))


def batches_of(wanted: Array) -> Callable[[int], Batch]:
    """Samples and what a matrix makes of them."""
    x = images(512, 4, seed=3)

    def batch(step: int) -> Batch:
        part = x[np.random.default_rng(step).integers(0, 512, 64)]
        return Batch({"x": part}, [part @ wanted], {}, None)

    return batch


def test_a_run_is_not_ended_by_a_start_that_is_hard_to_beat() -> None:
    """Judgements that fall all the time but reach the start's only at the end are waited for."""
    graph, groups = network()
    teacher = trainer(graph, groups)
    scores = iter([1.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 0.5])
    outcome = descend(
        teacher.student(graph), dataclasses.replace(COURSE, checks=8), teacher.batches(), lambda _: next(scores)
    )
    assert outcome.score == 0.5
    assert next(scores, None) is None
