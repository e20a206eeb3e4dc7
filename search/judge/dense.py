"""What the dense network's own answers say of a data set: what its labels mean, and whether they fit."""

from __future__ import annotations

import numpy as np

from search.graph.edit.patch import file_of
from search.graph.ir import Array, Graph
from search.input.data import Part
from search.input.outputs import along_last_axis, features, informative
from search.judge.accuracy import quality
from search.judge.intervals import Z95
from search.judge.metrics.values import VALUES
from search.judge.sessions import Session
from search.wire.report import Judge, OutputUse

PROBE_SAMPLES = 256
"""Whose outputs say what the labels mean."""
DOUBT_SAMPLES = 512
"""Whose hits say whether the labels fit: known in seconds, before a search that takes minutes or hours."""
FEWEST_PROBED = 64
"""Of either, however long a sample of a large network takes."""
ADVICE = "check that labels and preprocessing fit the model"


def answers(graph: Graph, part: Part, model: bytes | None = None) -> list[Array]:
    """What a file of a graph, the upload where none is given, gives for samples: the outputs of the graph, each (N, ...).

    They are the outputs of the file, or what a tail makes those of.
    """
    names = [info.name for info in graph.outputs]
    return Session(file_of(graph) if model is None else model, graph.sampling, outputs=names)(part.file_feeds)


def understood(part: Part, graph: Graph, most: int = PROBE_SAMPLES) -> Part:
    """Samples with a task and labels in normal form, as ``most`` of them tell it; themselves where they have them.

    Raises:
        InvalidDataset: labels that fit no output of the network.
    """
    if part.task is not None:
        return part
    some = part.take(np.unique(np.linspace(0, len(part) - 1, most).astype(int)))  # files are often sorted by class
    outputs = answers(graph, some)
    return part.understood(
        outputs,
        informative(graph, outputs, some.feeds),
        last=along_last_axis(graph),
        features=features(graph),
        names=[info.name for info in graph.outputs],
    )


def judged(part: Part, graph: Graph) -> tuple[OutputUse, ...]:
    """What the network's outputs are judged by."""
    task = part.task
    if task is None:
        return ()

    def judge(position: int) -> Judge:
        if position not in task.counted:
            return "nothing"
        if task.kind == "values" and (part.labels is None or position == task.output):
            return "r2"
        if position == task.output:
            return "agreement" if part.labels is None else "top1"
        return "search"

    return tuple(OutputUse(info.name, judge(i)) for i, info in enumerate(graph.outputs))


def unclear(part: Part, graph: Graph) -> str | None:
    """In words, that without labels an output is judged by its values, which hold no class scores; None where it is not so."""
    if part.task is None or part.labels is not None or part.task.kind != "values":
        return None
    names = ", ".join(f"`{graph.outputs[position].name}`" for position in part.task.counted)
    which = (
        f"the output {names} does not clearly hold class scores"
        if len(part.task.counted) == 1
        else f"the outputs are {names}"
    )
    return (
        f"{which}; without labels accuracy is r2, 1 - squared error / variance, of these values against the dense model's; "
        "give labels to have it judged by them"
    )


def doubt(part: Part, graph: Graph, most: int = DOUBT_SAMPLES) -> str | None:
    """In words, that the dense network does no better on labels than guesses would; None where it does, or without labels.

    Guesses name each class as often as the network does. For values a guess is the mean of the targets, whose r2 is 0.
    The hits have to exceed those of guesses by the half-width of their 95 % interval.

    Args:
        part: samples with a task.
        graph: the dense network.
        most: of them that are asked.
    """
    if part.labels is None or part.task is None:
        return None
    some = part.take(slice(most))
    outputs = answers(graph, some)
    found = quality(outputs, some.labels, outputs, part.task)
    if found.metric is VALUES:
        return f"the dense model has an r2 of {found.value:.3g} on the labels; {ADVICE}" if found.value <= 0 else None
    chance = _chance(part.task.answers(outputs[part.task.output]), part.labels[: len(some)])
    if found.value - Z95 * float(found.scores.std()) / np.sqrt(len(some)) > chance:
        return None
    return f"the dense model hits {found.value:.1%} of the labels, guesses would hit {chance:.1%}; {ADVICE}"


def _chance(answers: Array, labels: Array) -> float:
    """Share of hits if every answer stood beside any label: sum_k P(answer k) P(label k), as in Cohen's kappa."""
    named = np.unique(np.concatenate([answers.reshape(-1), labels.reshape(-1)]))
    said, meant = (
        np.bincount(np.searchsorted(named, x.reshape(-1)), minlength=len(named)) / x.size for x in (answers, labels)
    )
    return float(said @ meant)
