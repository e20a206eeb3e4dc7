"""Which outputs say something of the weights, which one is judged, and what a report says of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from search.graph.onnx.read import load
from search.graph.run.execute import Engine
from search.input.data import Part
from search.input.outputs import features, informative, reached
from search.input.task import Task
from search.judge.dense import judged, unclear, understood
from search.train.loss import Batch, Weights, objective_for
from tests.search.graph.nets import Net, images

N = 20
X = images(N, 6)


def with_outputs(*names: str) -> bytes:
    """A network with outputs of these kinds, in that order."""
    net = Net(("N", 6))
    makers = {
        "echo": lambda: net.op("Identity", "x"),
        "size": lambda: net.op("Cast", net.op("Shape", "x"), to=1),
        "constant": lambda: net.op("Identity", net.weight(N, 4)),
        "still": lambda: net.op("Mul", net.gemm("x", 6, 2), net.constant(np.zeros(2), np.float32)),
        "scores": lambda: net.gemm("x", 6, 3),
        "boxes": lambda: net.op("Sigmoid", net.gemm("x", 6, 4)),
        "choice": lambda: net.op("ArgMax", net.gemm("x", 6, 3), axis=1, keepdims=0),
    }
    return net.bytes(*(makers[name]() for name in names))


def parsed(model: bytes) -> tuple[Any, list[np.ndarray[Any, Any]]]:
    """The graph, and what it answers."""
    graph = load(model)
    return graph, Engine(graph)({}, {"x": X})


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("echo", "scores"), (1,)),
        (("size", "scores"), (1,)),
        (("still", "scores"), (1,)),
        (("boxes", "scores"), (0, 1)),
        (("echo",), (0,)),
    ],
)
def test_constants_sizes_and_echoes_say_nothing(names: tuple[str, ...], says: tuple[int, ...]) -> None:
    """What no weight reaches, or what does not vary, is left out; where nothing is left all counts."""
    graph, outputs = parsed(with_outputs(*names))
    assert informative(graph, outputs, {"x": X}) == says
    assert set(says) <= set(reached(graph))


def test_an_output_that_is_finite_here_and_there_varies() -> None:
    """Minus infinity in some samples only; a hole that is in all of them is none."""
    graph, _ = parsed(with_outputs("boxes", "scores"))
    still = np.zeros((N, 4))
    still[:, 1] = -np.inf
    holed = still.copy()
    holed[3, 2] = -np.inf
    assert informative(graph, [still, X], {"x": images(N, 6, seed=3)}) == (1,)
    assert informative(graph, [holed, X], {"x": images(N, 6, seed=3)}) == (0, 1)


def test_labels_belong_to_the_first_output_that_says_something() -> None:
    """Behind an echo; to the scores although a decision stands before them."""
    labels = np.arange(N) % 3
    for names, position in ((("echo", "scores"), 1), (("choice", "scores"), 1), (("scores", "boxes"), 0)):
        graph, _ = parsed(with_outputs(*names))
        part = understood(Part({"x": X}, labels), graph)
        assert (part.task.output, part.task.kind) == (position, "classes") if part.task else False
        assert [use.judged_by for use in judged(part, graph)][position] == "top1"


def test_a_report_says_what_each_output_is_judged_by() -> None:
    """With labels the others count in the search only; without them several are judged by r2, with a warning that names them."""
    graph, _ = parsed(with_outputs("size", "scores", "boxes"))
    labelled = understood(Part({"x": X}, np.arange(N) % 3), graph)
    assert [use.judged_by for use in judged(labelled, graph)] == ["nothing", "top1", "search"]
    assert unclear(labelled, graph) is None
    alone = understood(Part({"x": X}, None), graph)
    assert [use.judged_by for use in judged(alone, graph)] == ["nothing", "r2", "r2"]
    words = str(unclear(alone, graph))
    assert all(info.name in words for info in graph.outputs[1:])
    assert graph.outputs[0].name not in words


@pytest.mark.parametrize(("name", "kind"), [("scores", "classes"), ("boxes", "values"), ("choice", "decisions")])
def test_without_labels_only_class_scores_are_agreed_on(name: str, kind: str) -> None:
    """A product with weights ends a classifier, a sigmoid does not: boxes and yes-or-no answers have no largest entry."""
    graph, _ = parsed(with_outputs(name))
    task = understood(Part({"x": X}, None), graph).task
    assert task is not None
    assert task.kind == kind
    assert features(graph) == (() if kind == "classes" else (0,))


def test_training_follows_the_outputs_that_count() -> None:
    """The distance of two of three outputs, by hand; decisions have none."""
    a, b = images(5, 3), images(5, 2, seed=1)
    dense = [images(5, 3, seed=2), np.arange(5), images(5, 2, seed=3)]
    task = Task("values", output=0, counted=(0, 1, 2))
    objective = objective_for(dense, None, task)
    expected = [((x - y) ** 2).sum() / (y**2).sum() for x, y in ((a, dense[0]), (b, dense[2]))]
    batch = Batch({}, dense, {}, None)
    assert float(objective([a, np.zeros(5), b], {}, batch, Weights())) == pytest.approx(np.mean(expected), rel=1e-5)
