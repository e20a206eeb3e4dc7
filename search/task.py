"""What a network's first output says and what its labels mean: decided here once, asked by accuracy, training and criteria."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from search.errors import InvalidDataset
from search.graph.ir import Array

Kind = Literal["classes", "binary", "values"]


@dataclasses.dataclass(frozen=True)
class Task:
    """How outputs become answers; labels in normal form have the shape and the type of these answers."""

    kind: Kind
    """``classes``: scores along an axis. ``binary``: each value says yes or no. ``values``: numbers, judged by squared error."""
    axis: int = 1
    """Of the class scores: 1 for (N, C, ...), -1 for (N, ..., C)."""
    threshold: float = 0.0
    """A binary value above it says yes: 0.5 for probabilities, 0 for logits."""

    def answers(self, outputs: Array) -> Array:
        """Classes, int64: (N, ...) without the class axis, or 0 and 1 shaped as the output; values as they are."""
        if self.kind == "classes":
            return np.asarray(outputs.argmax(self.axis))
        return (outputs > self.threshold).astype(np.int64) if self.kind == "binary" else outputs

    def classifies_samples(self, outputs: Array) -> bool:
        """Whether every sample has one class, of several: not so for maps, tokens and single columns."""
        return self.kind == "classes" and self.answers(outputs).size == len(outputs)


def is_scores(outputs: Sequence[Array]) -> bool:
    """Whether outputs have the shape of class scores, one array (N, C)."""
    return len(outputs) == 1 and outputs[0].ndim == 2 and outputs[0].shape[1] > 1


def understand(output: Array, labels: Array | None, *, last: bool = False) -> tuple[Task, Array | None]:
    """Decide what outputs and labels mean. Axes of length 1 in labels count for nothing.

    - Labels shaped as the output: one-hot along a class axis are classes; 0 and 1 for one column, (N, 1) or (N,), or for a map
      of one channel, are binary; other floats are values, and so are other integers for one column or channel.
    - Whole numbers, integers or floats, shaped as the output without its class axis are classes. The class axis is 1 or the
      last one. Where both fit, it is the one along which alone the scores sum to one, else the last one if ``last``, else 1.
    - No labels: agreement of classes along the axis that this rule picks; values where there is one column or one channel.
      What else a network may put out, boxes or features, cannot be told from scores; agreement is then of the largest entry.

    Args:
        output: the dense network's first output for some samples, (M, ...).
        labels: as the client gave them, (N, ...), or None. N may differ from M.
        last: whether the network is seen to make its output along the last axis, as a product with weights does.

    Returns:
        The task, and labels in normal form (N, ...): int64 shaped as `Task.answers`, or float targets shaped as the output.

    Raises:
        InvalidDataset: classes out of range, or labels that fit in none of these ways.
    """
    axes = _class_axes(output, last=last)
    if labels is None:
        scored = axes and (_sums_to_one(output, axes[0]) or ((axes[0] == 1 or last) and not _is_single(output)))
        return Task("classes", axes[0]) if scored else Task("values"), None
    sample = output.shape[1:]
    if labels[0].size == output[0].size:
        found = _like_output(output, labels.reshape(len(labels), *sample), axes)
        if found is not None:
            return found
    for axis in axes if _are_whole(labels) else ():
        shape = np.delete(sample, axis - 1 if axis > 0 else axis)
        if _squeezed(labels.shape[1:]) == _squeezed(shape):
            _check_range(labels, output.shape[axis])
            return Task("classes", axis), labels.reshape(len(labels), *shape).astype(np.int64)
    raise _unfit(output, labels, axes)


def _check_range(labels: Array, classes: int) -> None:
    """Refuse classes that the model does not have.

    Raises:
        InvalidDataset: labels below 0, or not below ``classes``.
    """
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise InvalidDataset(
            f"labels run from {low} to {high}; the model has {classes} classes, so labels run from 0 to {classes - 1}; "
            "leave out samples that have no label"
        )


def _like_output(output: Array, labels: Array, axes: Sequence[int]) -> tuple[Task, Array] | None:
    """The task of labels shaped as the output; None where they are integers that may mean anything."""
    single, yes_or_no = _is_single(output), bool(((labels == 0) | (labels == 1)).all())
    for axis in axes if yes_or_no and not single else ():
        if (labels.sum(axis) == 1).all():
            return Task("classes", axis), labels.argmax(axis)
    if single and yes_or_no:
        probabilities = bool(output.min() >= 0 and output.max() <= 1)
        return Task("binary", threshold=0.5 if probabilities else 0.0), labels.astype(np.int64)
    if labels.dtype.kind == "f":
        return Task("values"), labels
    return (Task("values"), labels.astype(np.float64)) if single else None


def _class_axes(output: Array, *, last: bool) -> list[int]:
    """Axes that may hold scores of several classes, the likelier one first."""
    axes = [axis for axis in ((1, -1) if output.ndim > 2 else (1,)) if output.ndim > 1 and output.shape[axis] > 1]
    return sorted(axes, key=lambda axis: (not _sums_to_one(output, axis), last and axis == 1))


def _is_single(output: Array) -> bool:
    """Whether there is one column, (N,) or (N, 1), or a map of one channel, (N, 1, H, W) or (N, H, W, 1)."""
    sizes = _squeezed(output.shape[1:])
    return not sizes or (len(sizes) > 1 and 1 in (output.shape[1], output.shape[-1]))


def _sums_to_one(output: Array, axis: int) -> bool:
    return bool(output.min() >= 0 and np.allclose(output.sum(axis, dtype=np.float64), 1, atol=1e-3))


def _are_whole(labels: Array) -> bool:
    return labels.dtype.kind in "iub" or bool((labels == np.floor(labels)).all())


def _squeezed(shape: Iterable[int]) -> tuple[int, ...]:
    return tuple(int(size) for size in shape if size != 1)


def _unfit(output: Array, labels: Array, axes: Sequence[int]) -> InvalidDataset:
    """Labels of no known form: what was found, what is allowed."""
    whole, allowed = ["N", *output.shape[1:]], []
    for axis in axes:
        shape = [size for i, size in enumerate(whole) if i != axis % output.ndim]
        allowed.append(f"classes 0 to {output.shape[axis] - 1} of shape {shape}")
    if axes:
        allowed.append(f"one-hot classes of shape {whole}")
    if _is_single(output):
        allowed.append(f"0 and 1 of shape {whole}")
    values = f"values {float(labels.min()):g} to {float(labels.max()):g}"
    several = "; several classes of one sample (multi-hot) may be given so too" if axes else ""
    return InvalidDataset(
        f"array `y` has shape {list(labels.shape)}, type {labels.dtype}, {values}, which does not fit the model's first output, "
        f"{whole}; write it as {', '.join(allowed)}, or as float targets of shape {whole}, judged by squared error{several}"
    )
