"""Unstructured, N:M and block sparsity, trained: masks by magnitude along a schedule; zeros are exact at every step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from search.graph.ir import Array, Graph
from search.train.descent import Course, Outcome, Student
from search.train.schedules import Stage
from search.train.trainer import Trainer
from search.wire.errors import InvalidRequest

Pattern = Callable[[Array, float], Array]
"""(scores of a weight, share of it to cut) to its mask: True stays."""
Run = Callable[[Student, Course, int], Outcome]
"""Trains a student for a course, a stage before which so many steps were done."""


def unstructured(scores: Array, sparsity: float) -> Array:
    """The highest scores stay, wherever they are; exactly ``round(sparsity * size)`` entries go.

    Example:
        >>> unstructured(np.array([3.0, 1.0, 2.0, 4.0]), 0.5).tolist()
        [True, False, False, True]
    """
    cut = round(sparsity * scores.size)
    mask = np.ones(scores.size, bool)
    mask[np.argsort(scores.reshape(-1), kind="stable")[:cut]] = False
    return mask.reshape(scores.shape)


def two_of_four(scores: Array, sparsity: float) -> Array:
    """2:4 along the inputs (axis 1): the two lowest of every four go, once at least half is asked for.

    Before that, as many whole fours as give the sparsity, those that lose least first.
    """
    rows = np.moveaxis(scores, 1, -1)
    fours = rows.reshape(-1, 4)
    rank = fours.argsort(1, kind="stable").argsort(1, kind="stable")
    lost = np.where(rank < 2, fours, 0).sum(1)
    chosen = ~unstructured(lost, min(1.0, 2 * sparsity))
    mask = (rank >= 2) | ~chosen[:, None]
    return np.ascontiguousarray(np.moveaxis(mask.reshape(rows.shape), -1, 1))


def erdos_renyi(shapes: Mapping[str, tuple[int, ...]], sparsity: float) -> dict[str, float]:
    """A sparsity for every weight, so that all together have the one asked for and small layers keep more.

    The density of a weight is proportional to the sum of its sizes over their product, at most 1 (Erdos-Renyi kernel,
    Mocanu 2018; Evci 2020, section 3).

    Args:
        shapes: weight name to shape.
        sparsity: share of all entries together.
    """
    raw = {name: sum(shape) / int(np.prod(shape)) for name, shape in shapes.items()}
    size = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    whole: set[str] = set()
    while True:
        left = (1 - sparsity) * sum(size.values()) - sum(size[name] for name in whole)
        scale = left / max(1e-30, sum(raw[name] * size[name] for name in raw if name not in whole))
        full = {name for name in raw if name not in whole and scale * raw[name] > 1}
        if not full:
            return {name: 0.0 if name in whole else 1 - scale * raw[name] for name in raw}
        whole |= full


def sparsify(
    trainer: Trainer,
    graph: Graph,
    sparsity: Mapping[str, float],
    stages: Sequence[Stage],
    course: Course,
    *,
    pattern: Pattern = unstructured,
    student: Student | None = None,
    run: Run | None = None,
) -> tuple[Graph, Outcome]:
    """Train a graph along a schedule.

    Args:
        trainer: data and teacher.
        graph: the network; its shapes stay.
        sparsity: weight name to the share of its entries that shall be zero at the end.
        stages: a schedule.
        course: steps of all stages together, learning rate and terms.
        pattern: how a mask is formed.
        student: one of this graph that is compiled already; its masks of other weights stay.
        run: trains the student for a stage; by default the trainer does, each stage on the batches behind those of the last.

    Returns:
        The trained graph with its exact zeros, and what the last stage came to; diverged if any stage was.

    Raises:
        InvalidRequest: a schedule that regrows single weights, with another pattern than `unstructured`.
    """
    if pattern is not unstructured and any(stage.regrow for stage in stages):
        raise InvalidRequest("the schedule `regrowth` moves single weights; use it with unstructured sparsity only")
    student = student or trainer.student(graph)
    run = run or (lambda student, course, first: trainer.run(student, course, first=first))
    student.graph = graph
    student.masks |= {name: np.ones(graph.initializers[name].shape, bool) for name in sparsity}
    share_done, steps_done, diverged = 0.0, 0, False
    for stage in stages:
        weights = student.graph.initializers
        masks = {
            name: pattern(np.abs(weights[name]) * student.masks[name], share * stage.level)
            for name, share in sparsity.items()
        }
        if stage.regrow:
            masks = regrown(masks, weights, _gradient(trainer, student, steps_done), stage.regrow)
        student.masks |= masks
        if stage.rewind:
            student.graph = graph
        last = stage is stages[-1]
        part = _part(course, stage, share_done, checks=course.checks if last else 1)
        outcome = run(student, part, steps_done)
        share_done, steps_done, diverged = (
            share_done + stage.share,
            steps_done + part.steps,
            diverged or outcome.diverged,
        )
        student.graph = student.graph.with_initializers(outcome.params if last else outcome.last)
    return student.graph, dataclasses.replace(outcome, diverged=diverged)


def _part(course: Course, stage: Stage, done: float, *, checks: int) -> Course:
    begin, end = (0.0, 1.0) if stage.restart else (done, min(1.0, done + stage.share))
    steps = max(1, round(course.steps * stage.share))
    return dataclasses.replace(course, steps=steps, begin=begin, end=end, checks=checks)


def _gradient(trainer: Trainer, student: Student, step: int) -> dict[str, Array]:
    """Of all weights, the cut ones too, on the batch of a step."""
    gradient = student.gradient(student.start(), trainer.batches()(step), trainer.weights)
    return {name: np.asarray(value) for name, value in gradient.items()}


def regrown(
    masks: Mapping[str, Array], weights: Mapping[str, Array], gradient: Mapping[str, Array], share: float
) -> dict[str, Array]:
    """Exchange a share of the kept weights: the smallest go, cut ones with the largest gradient come (from zero)."""
    new = {}
    for name, mask in masks.items():
        count = min(round(share * mask.sum()), int((~mask).sum()))
        kept = np.where(mask, np.abs(weights[name]), np.inf).reshape(-1)
        missing = np.where(mask, -np.inf, np.abs(gradient[name])).reshape(-1)
        flat = mask.reshape(-1).copy()
        flat[np.argsort(kept, kind="stable")[:count]] = False
        flat[np.argsort(-missing, kind="stable")[:count]] = True
        new[name] = flat.reshape(mask.shape)
    return new
