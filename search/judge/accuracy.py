"""Quality of outputs against labels, or against the dense model, with intervals; and the divergence that ranks candidates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.graph.ir import Array
from search.input.task import Task, decide
from search.judge.metrics.base import Quality
from search.judge.metrics.hits import AGREEMENT, TOP1
from search.judge.metrics.values import VALUES
from search.wire.report import Accuracy


def quality(
    outputs: Sequence[Array], labels: Array | None, dense: Sequence[Array], task: Task | None = None
) -> Quality:
    """Score every sample.

    Answers count as hits, numbers by their squared errors; without labels values of several outputs are judged together.

    Args:
        outputs: of the model, each (N, C, ...) scores or (N, ...) values.
        labels: in normal form where there is a task, or as `search.input.task.decide` takes them; None: against ``dense``.
        dense: the dense model's outputs, shaped as ``outputs``.
        task: what both mean; None: decided by ``dense`` and ``labels``.
    """
    if task is None:
        task, labels = decide(dense, labels)
    judged, reference = outputs[task.output], dense[task.output]
    if task.kind != "values":
        metric, wanted = (AGREEMENT, task.answers(reference)) if labels is None else (TOP1, labels)
        return metric.score(task.answers(judged), wanted)
    if labels is not None:
        return VALUES.score([(judged, labels.reshape(judged.shape))])
    return VALUES.score([(outputs[k], dense[k]) for k in task.counted if len(dense[k]) == len(judged)])


def accuracy(pruned: Quality, dense: Quality, limit: float | None = None) -> Accuracy:
    """A 95 % interval for the value and for the paired difference to the dense model.

    Args:
        pruned: of the network.
        dense: of the dense one, on the same samples.
        limit: the most that may be lost; the result then says how surely no more is.
    """
    metric = pruned.metric
    difference = metric.difference(pruned, dense)
    kept = None if limit is None else difference.confidence(-limit)
    n = len(pruned.scores)
    return Accuracy(
        *(pruned.value, *metric.interval(pruned), difference.value, *difference.interval()), n, metric.name, kept
    )


def divergence(outputs: Sequence[Array], dense: Sequence[Array], task: Task | None = None) -> float:
    """How far outputs moved from the dense model's: the mean over all that count, each scaled by its own spread.

    Class scores or probabilities (N, C) move by mean KL(dense || pruned), where the task says that they are classes; floats by
    squared error over variance, the mean over columns; whole numbers and bools by the share of entries that differ.

    Args:
        outputs: of the model.
        dense: of the dense model, shaped as ``outputs``.
        task: which outputs count, and what they mean; None: decided by ``dense``.
    """
    task = decide(dense, None)[0] if task is None else task
    moved = [
        (AGREEMENT if k == task.output and task.scores(dense) else VALUES).divergence(outputs[k], dense[k])
        for k in task.counted
        if dense[k].size
    ]
    return float(np.mean(moved)) if moved else 0.0
