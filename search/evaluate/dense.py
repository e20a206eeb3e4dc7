"""What the dense network's own answers say of a data set: what its labels mean, and whether they fit."""

from __future__ import annotations

import numpy as np

from search.data import Part
from search.evaluate.accuracy import Z95, quality
from search.evaluate.parity import Session
from search.graph.ir import Array, Graph
from search.graph.onnx_export import export

PROBE_SAMPLES = 256
"""Whose outputs say what the labels mean."""
DOUBT_SAMPLES = 512
"""Whose hits say whether the labels fit: known in seconds, before a search that takes minutes or hours."""
KEEPS_AXES = frozenset({"Add", "Cast", "Div", "Identity", "LogSoftmax", "Mul", "Sigmoid", "Softmax", "Sub", "Tanh"})
ADVICE = "check that labels and preprocessing fit the model"


def understood(part: Part, graph: Graph) -> Part:
    """Samples with a task and labels in normal form.

    Raises:
        InvalidDataset: labels that do not fit the network's first output.
    """
    some = np.unique(np.linspace(0, len(part) - 1, PROBE_SAMPLES).astype(int))  # files are often sorted by class
    output = Session(export(graph), graph.sampling)(part.take(some).feeds)[0]
    return part.understood(output, last=ends_in_product(graph))


def ends_in_product(graph: Graph) -> bool:
    """Whether the first output is a product with weights, (N, T, K) @ (K, C), but for what is done to each value or row."""
    makers, name = graph.producers(), graph.outputs[0].name
    while name in makers:
        node = makers[name]
        if node.op == "MatMul":
            return node.input(1) in graph.initializers
        changing = [value for value in node.inputs if value not in graph.initializers]
        if node.op not in KEEPS_AXES or len(changing) != 1:
            return False
        name = changing[0]
    return False


def doubt(part: Part, graph: Graph) -> str | None:
    """In words, that the dense network does no better on labels than guesses would; None where it does, or without labels.

    Guesses name each class as often as the network does. For values a guess is the mean of the targets, whose r2 is 0.
    The hits have to exceed those of guesses by the half-width of their 95 % interval.

    Args:
        part: samples with a task, of which the first `DOUBT_SAMPLES` are asked.
        graph: the dense network.
    """
    if part.labels is None or part.task is None:
        return None
    some = part.take(slice(DOUBT_SAMPLES))
    outputs = Session(export(graph), graph.sampling)(some.feeds)[0]
    judged = quality(outputs, some.labels, outputs, part.task)
    if judged.metric == "r2":
        return f"the dense model has an r2 of {judged.value:.3g} on the labels; {ADVICE}" if judged.value <= 0 else None
    chance = _chance(part.task.answers(outputs), part.labels[: len(some)])
    if judged.value - Z95 * float(judged.scores.std()) / np.sqrt(len(some)) > chance:
        return None
    return f"the dense model hits {judged.value:.1%} of the labels, guesses would hit {chance:.1%}; {ADVICE}"


def _chance(answers: Array, labels: Array) -> float:
    """Share of hits if every answer stood beside any label: sum_k P(answer k) P(label k), as in Cohen's kappa."""
    classes = 1 + max(int(labels.max()), int(answers.max()))
    said, meant = (np.bincount(x.reshape(-1), minlength=classes) / x.size for x in (answers, labels))
    return float(said @ meant)
