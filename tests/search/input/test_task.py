"""What outputs and labels mean: every common form, and what follows for accuracy, loss, criteria and doubts."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from search.graph.ir import Array
from search.graph.onnx.read import load
from search.input.data import Part
from search.input.task import Task, understand
from search.judge.accuracy import accuracy, quality
from search.judge.dense import ADVICE, doubt, understood
from search.train.loss import Batch, Weights, objective_for
from search.wire.errors import InternalError, InvalidDataset
from tests.search.graph.nets import Net, images

N = 12
CLASSES = np.arange(N) % 3
YES = np.arange(N) % 2
ONE_HOT = np.eye(3)[CLASSES]
TOKENS = np.random.default_rng(0).integers(0, 3, (N, 5))
MAP = np.random.default_rng(1).integers(0, 3, (N, 4, 5))


def scores(*shape: int) -> Array:
    """Outputs of N samples."""
    return images(N, *shape)


def softmax(x: Array, axis: int) -> Array:
    """Probabilities along an axis."""
    return np.asarray(jax.nn.softmax(x, axis))


@pytest.mark.parametrize(
    ("output", "labels", "task", "normal"),
    [
        (scores(3), CLASSES, Task("classes"), CLASSES),
        (scores(3), CLASSES[:, None], Task("classes"), CLASSES),
        (scores(3), CLASSES.astype(np.float32), Task("classes"), CLASSES),
        (scores(3), CLASSES[:, None].astype(np.float64), Task("classes"), CLASSES),
        (scores(3), ONE_HOT.astype(np.float32), Task("classes"), CLASSES),
        (scores(3), ONE_HOT.astype(np.int64), Task("classes"), CLASSES),
        (scores(2), np.eye(2)[YES] > 0, Task("classes"), YES),
        (scores(3, 1, 1), CLASSES, Task("classes"), CLASSES[:, None, None]),
        (scores(1, 1, 3), CLASSES, Task("classes", -1), CLASSES[:, None, None]),
        (scores(3, 4, 5), MAP, Task("classes"), MAP),
        (scores(3, 4, 5), MAP[:, None], Task("classes"), MAP),
        (scores(4, 5, 3), MAP, Task("classes", -1), MAP),
        (scores(4, 5, 3), MAP[..., None], Task("classes", -1), MAP),
        (scores(4, 5, 3), np.eye(3)[MAP], Task("classes", -1), MAP),
        (scores(5, 3), TOKENS, Task("classes", -1), TOKENS),
        (scores(3, 5), TOKENS, Task("classes"), TOKENS),
        (scores(5, 5), TOKENS, Task("classes"), TOKENS),
        (softmax(scores(5, 5), 2), TOKENS, Task("classes", -1), TOKENS),
        (softmax(scores(5, 5), 1), TOKENS, Task("classes"), TOKENS),
        (scores(1), YES, Task("binary"), YES[:, None]),
        (scores(1), YES[:, None].astype(np.float32), Task("binary"), YES[:, None]),
        (scores(), YES, Task("binary"), YES),
        (scores(), YES[:, None], Task("binary"), YES),
        (softmax(scores(2), 1)[:, :1], YES > 0, Task("binary", threshold=0.5), YES[:, None]),
        (scores(1, 4, 5), MAP // 2, Task("binary"), (MAP // 2)[:, None]),
        (scores(4, 5, 1), MAP // 2, Task("binary"), (MAP // 2)[..., None]),
        (scores(1), CLASSES, Task("values"), CLASSES[:, None].astype(float)),
        (scores(1, 4, 5), MAP, Task("values"), MAP[:, None].astype(float)),
        (scores(1), CLASSES + 0.5, Task("values"), CLASSES[:, None] + 0.5),
        (scores(3), scores(3), Task("values"), scores(3)),
        (scores(4, 5), scores(20), Task("values"), scores(20).reshape(N, 4, 5)),
        (scores(3), ONE_HOT + ONE_HOT[:, ::-1], Task("values"), ONE_HOT + ONE_HOT[:, ::-1]),
        (scores(3), None, Task("classes"), None),
        (scores(3, 4, 5), None, Task("values"), None),
        (scores(5, 3), None, Task("values"), None),
        (scores(3, 1, 1), None, Task("classes"), None),
        (scores(3) / np.linalg.norm(scores(3), axis=1, keepdims=True), None, Task("values"), None),
        (scores(4) + np.array([0, 0, 50, 99]), None, Task("values"), None),
        (CLASSES, None, Task("decisions"), None),
        (CLASSES[:, None], CLASSES, Task("decisions"), CLASSES[:, None]),
        (softmax(scores(3, 4, 5), 1), None, Task("classes"), None),
        (softmax(scores(4, 5, 3), 3), None, Task("classes", -1), None),
        (scores(1), None, Task("values"), None),
        (scores(), None, Task("values"), None),
        (scores(4, 5, 1), None, Task("values"), None),
        (scores(1, 4, 5), None, Task("values"), None),
    ],
)
def test_every_form_of_labels_has_one_meaning(
    output: Array, labels: Array | None, task: Task, normal: Array | None
) -> None:
    """Kind, class axis and threshold as expected; labels shaped as the answers, so that nothing is broadcast."""
    found, given = understand(output, labels)
    assert found == task
    if normal is None or given is None:
        assert normal is given is None
        return
    assert np.array_equal(given, normal)
    assert given.shape == task.answers(output).shape
    assert given.dtype.kind == ("f" if task.kind == "values" else "i")


@pytest.mark.parametrize(
    ("output", "labels", "words"),
    [
        (
            scores(3),
            CLASSES - 1,
            "run from -1 to 1; the model has 3 classes, so labels run from 0 to 2; leave out samples",
        ),
        (scores(3), CLASSES + 1.0, "run from 1 to 3; the model has 3 classes"),
        (scores(5, 3), TOKENS + 1, "the model has 3 classes"),
        (
            scores(3),
            np.ones((N, 3), int),
            r"shape \[12, 3\], type int64, values 1 to 1, .*one-hot classes of shape \['N', 3\]",
        ),
        (scores(3), CLASSES / 2, r"values 0 to 1, .*classes 0 to 2 of shape \['N'\]"),
        (scores(3), TOKENS, r"shape \[12, 5\]"),
        (scores(1), TOKENS, r"0 and 1 of shape \['N', 1\]"),
        (scores(4, 5, 3), TOKENS, r"classes 0 to 3 of shape \['N', 5, 3\], classes 0 to 2 of shape \['N', 4, 5\]"),
    ],
)
def test_labels_of_no_known_form_are_refused(output: Array, labels: Array, words: str) -> None:
    """The message says what was found and what is allowed."""
    with pytest.raises(InvalidDataset, match=words):
        understand(output, labels)


def test_a_product_with_weights_makes_classes_along_the_last_axis() -> None:
    """Scores (N, T, C) are told from (N, C, T) by the operator that makes them, behind a bias and a softmax."""
    for last, tail in ((True, ["Add"]), (True, ["Add", "Softmax"]), (False, ["Add", "Transpose"])):
        net = Net(("N", 4, 3))
        found = net.op("MatMul", "x", net.weight(3, 4))
        for op in tail:
            attributes = {"perm": [0, 2, 1]} if op == "Transpose" else {}
            found = net.op(op, found, *([net.weight(4)] if op == "Add" else []), **attributes)
        part = understood(Part({"x": scores(4, 3)}, TOKENS[:, :4]), load(net.bytes()))
        assert part.task == (Task("classes", -1) if last else Task("classes")), tail


def test_a_product_decides_where_both_axes_fit() -> None:
    """Also for one token, and where there are as many tokens as classes; a column stays one."""
    assert understand(scores(1, 3), None, last=True)[0] == Task("classes", -1)
    assert understand(scores(5, 5), TOKENS, last=True)[0] == Task("classes", -1)
    assert understand(scores(1), None, last=True)[0] == Task("values")


def test_the_whole_decides_for_its_parts() -> None:
    """Targets 0, 1, 2 of one column are values; a part in which only 0 and 1 are left does not become binary."""
    part = Part({"x": scores(1)}, CLASSES).understood([scores(1)]).take(CLASSES < 2)
    assert part.understood([scores(1)]) is part
    assert part.task == Task("values")


def test_files_sorted_by_class_are_probed_from_end_to_end() -> None:
    """The first hundreds of logits lie in [0, 1] as probabilities do; the last ones give them away."""
    net = Net(("N", 1))
    net.op("Identity", "x")
    x = np.linspace(0.1, 5, 1500, dtype=np.float32)[:, None]
    part = understood(Part({"x": x}, (x > 2).astype(int)), load(net.bytes()))
    assert part.task == Task("binary", threshold=0.0)


@pytest.mark.parametrize("labels", [CLASSES[:, None], CLASSES.astype(float), ONE_HOT, ONE_HOT.astype(int)])
def test_top1_counts_hits_whatever_the_form(labels: Array) -> None:
    """Nine of twelve samples are right, by hand."""
    outputs = ONE_HOT.copy()
    outputs[:3] = ONE_HOT[1:4]
    assert accuracy(*(quality([outputs], labels, [outputs]),) * 2).value == 0.75


def test_tokens_are_hit_one_by_one() -> None:
    """Each sample scores the share of its tokens whose class is right."""
    outputs = np.eye(3)[TOKENS]
    outputs[0, 0] = np.roll(outputs[0, 0], 1)
    judged = quality([outputs], TOKENS, [outputs])
    assert (judged.metric.name, judged.scores.tolist()) == ("top1", [0.8, *[1.0] * (N - 1)])


@pytest.mark.parametrize(("shift", "shape"), [(0.0, (N, 1)), (0.5, (N, 1)), (0.0, (N,))])
def test_one_column_is_hit_on_its_side_of_the_threshold(shift: float, shape: tuple[int, ...]) -> None:
    """Logits have their threshold at 0, probabilities at 0.5; one of twelve is on the wrong side."""
    outputs = shift + 0.4 * np.where(YES, 1.0, -1.0)
    outputs[5] = shift - 0.1
    judged = quality([outputs.reshape(shape)], YES, [outputs.reshape(shape)])
    assert judged.metric.name == "top1"
    assert judged.value == pytest.approx(11 / 12)


def test_answers_and_labels_of_different_shapes_are_never_broadcast() -> None:
    """Labels that are not in normal form, with a task: an error of ours, not N x N comparisons."""
    with pytest.raises(InternalError, match=r"\(12, 1\)"):
        quality([scores(3)], CLASSES[:, None], [scores(3)], Task("classes"))


def loss_of(output: Array, labels: Array) -> float:
    """The labels' term alone."""
    task, normal = understand(output, labels)
    objective = objective_for([output], normal, task)
    return float(objective([output], {}, Batch({}, [output], {}, normal), Weights(answers=0.0, labels=1.0)))


def test_one_column_is_trained_with_binary_cross_entropy() -> None:
    """-mean(y log p + (1 - y) log(1 - p)) of logits, and of probabilities, also where float32 rounds one to 1."""
    logits = scores(1)
    p = 1 / (1 + np.exp(-logits))
    expected = -np.log(np.where(YES[:, None], p, 1 - p)).mean()
    assert loss_of(logits, YES) == pytest.approx(expected, rel=1e-5)
    assert loss_of(p, YES) == pytest.approx(expected, rel=1e-5)
    p[0] = 1
    slope = jax.grad(lambda x: objective_for([p], YES)([x], {}, Batch({}, [p], {}, YES[:, None]), Weights(0, 0, 1)))(p)
    assert np.isfinite(slope).all()


def test_tokens_are_trained_along_the_last_axis() -> None:
    """-mean log softmax of the right class, by hand."""
    output = scores(5, 3)
    log_p = np.log(softmax(output, -1))
    assert loss_of(output, TOKENS) == pytest.approx(-(np.eye(3)[TOKENS] * log_p).sum(-1).mean(), rel=1e-5)


@pytest.mark.parametrize("labels", [CLASSES[:, None], CLASSES.astype(float), ONE_HOT])
def test_every_form_of_classes_has_the_same_loss(labels: Array) -> None:
    """That of integers (N,), bit for bit."""
    assert loss_of(scores(3), labels) == loss_of(scores(3), CLASSES)


def dense_network(outputs: int) -> Any:
    """A linear layer of three inputs, and what it says of 200 samples."""
    net = Net(("N", 3))
    net.gemm("x", 3, outputs)
    graph, x = load(net.bytes()), images(200, 3)
    weight, bias = net.initializers.values()
    return graph, x, x @ weight.T + bias


@pytest.mark.parametrize("outputs", [1, 4])
def test_a_dense_network_no_better_than_guesses_is_doubted(outputs: int) -> None:
    """Its own answers as labels leave no doubt; shuffled ones do, and for values targets of the other sign do."""
    graph, x, answers = dense_network(outputs)
    classes = answers.argmax(1) if outputs > 1 else (answers[:, 0] > 0).astype(int)
    shuffled = np.random.default_rng(0).permutation(classes)
    for labels, words in ((classes, None), (shuffled, "guesses would hit"), (answers, None), (-answers, "r2 of -")):
        found = doubt(Part({"x": x}, labels).understood([answers]), graph)
        assert (found is None) == (words is None), labels.shape
        assert found is None or (words or "") in found
        assert found is None or found.endswith(ADVICE)
    assert doubt(Part({"x": x}, None).understood([answers]), graph) is None


def test_an_answer_that_is_always_the_same_is_no_better_than_guesses() -> None:
    """Nine of ten labels are the one class that the network names: it hits 90 %, and so do guesses."""
    graph, x, answers = dense_network(4)
    always = int(graph.initializers["w1"].argmax())
    labels = np.where(np.arange(200) % 10, always, (always + 1) % 4)
    assert "hits 90.0% of the labels, guesses would hit 90.0%" in str(
        doubt(Part({"x": 0 * x}, labels).understood([answers]), graph)
    )
