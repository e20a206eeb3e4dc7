"""What a network's outputs say and what its labels mean: decided here once, asked by accuracy, training and criteria."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from typing import Literal

import numpy as np

from search.graph.ir import Array
from search.wire.errors import InvalidDataset

Kind = Literal["classes", "binary", "values", "decisions"]


@dataclasses.dataclass(frozen=True)
class Task:
    """How outputs become answers; labels in normal form have the shape and the type of these answers."""

    kind: Kind
    """``classes``: scores along an axis. ``binary``: each value says yes or no. ``values``: numbers, judged by squared error.
    ``decisions``: whole numbers that are the answer itself, as a network that ends in ArgMax gives them."""
    axis: int = 1
    """Of the class scores: 1 for (N, C, ...), -1 for (N, ..., C)."""
    threshold: float = 0.0
    """A binary value above it says yes: 0.5 for probabilities, 0 for logits."""
    output: int = 0
    """Position of the output that labels, classes or decisions belong to."""
    counted: tuple[int, ...] = (0,)
    """Positions of the outputs that say something of the weights, that one among them: all of them rank candidates. They are
    judged together where there are no labels and the kind is ``values``."""

    def answers(self, output: Array) -> Array:
        """Of the output that is judged: classes, (N, ...) without the class axis; 0 and 1; whole numbers or values as they are.

        NaN is never the class that is named.
        """
        if self.kind == "classes":
            met = (
                np.nan_to_num(output, nan=-np.inf, posinf=np.inf, neginf=-np.inf) if np.isnan(output).any() else output
            )
            return np.asarray(met.argmax(self.axis))
        if self.kind == "binary":
            return (output > self.threshold).astype(np.int64)
        return output.astype(np.int64) if self.kind == "decisions" else output

    def classifies_samples(self, output: Array) -> bool:
        """Whether every sample has one class, of several: not so for maps, tokens and single columns."""
        return self.kind == "classes" and self.answers(output).size == len(output)

    def scores(self, outputs: Sequence[Array]) -> bool:
        """Whether the output that is judged holds class scores (N, C), whose distance is that of distributions."""
        return self.kind == "classes" and outputs[self.output].ndim == 2


def decide(
    outputs: Sequence[Array],
    labels: Array | None,
    counted: Sequence[int] | None = None,
    *,
    last: Collection[int] = (),
    features: Collection[int] = (),
    names: Sequence[str] = (),
) -> tuple[Task, Array | None]:
    """Decide which output of a network is judged, and by what.

    Labels belong to the first output that says something of the weights and that they fit, floats before whole numbers: a
    network that gives its decision beside the scores is trained on these. Without labels one output is understood by itself;
    several are values, as no rule tells which of them a client looks at.

    Args:
        outputs: the dense network's outputs for some samples, (M, ...).
        labels: as the client gave them, (N, ...), or None.
        counted: positions of the outputs that say something of the weights; None: all.
        last: positions of those that the network is seen to make along their last axis.
        features: positions of those that the network is seen to make as no classifier does.
        names: of the outputs, for messages.

    Returns:
        The task, and labels in normal form.

    Raises:
        InvalidDataset: classes out of range, or labels that fit no output.
    """
    says = tuple(range(len(outputs)) if counted is None else counted)
    if labels is None:
        task = _unlabelled(outputs[says[0]], last=says[0] in last, features=says[0] in features)
        task = task if len(says) == 1 else Task("values")
        return dataclasses.replace(task, output=says[0], counted=says), None
    order = sorted(says, key=lambda position: outputs[position].dtype.kind in "iub")
    for position in order:
        fit = _fit(outputs[position], labels, last=position in last)
        if fit is not None:
            return dataclasses.replace(fit[0], output=position, counted=says), fit[1]
    first = order[0]
    raise _unfit(outputs[first], labels, _class_axes(outputs[first], last=first in last), [*names, "?"][first])


def understand(output: Array, labels: Array | None, *, last: bool = False) -> tuple[Task, Array | None]:
    """Decide what one output and labels mean. Axes of length 1 in labels count for nothing.

    - Labels shaped as the output: one-hot along a class axis are classes; 0 and 1 for one column, (N, 1) or (N,), or for a map
      of one channel, are binary; other floats are values, and so are other integers for one column or channel.
    - Whole numbers, integers or floats, shaped as the output without its class axis are classes. The class axis is 1 or the
      last one. Where both fit, it is the one along which alone the scores sum to one, else the last one if ``last``, else 1.
    - Whole numbers beside whole numbers of the same shape are decisions.
    - No labels: agreement of classes, where the output clearly holds class scores; decisions where it holds whole numbers;
      values else. Boxes, features and images have a largest entry too, but nobody asks which one it is.

    Args:
        output: an output of the dense network for some samples, (M, ...).
        labels: as the client gave them, (N, ...), or None. N may differ from M.
        last: whether the network is seen to make its output along the last axis, as a product with weights does.

    Returns:
        The task, and labels in normal form (N, ...): int64 shaped as `Task.answers`, or float targets shaped as the output.

    Raises:
        InvalidDataset: classes out of range, or labels that fit in none of these ways.
    """
    return decide([output], labels, last=(0,) if last else ())


def _fit(output: Array, labels: Array, *, last: bool) -> tuple[Task, Array] | None:
    """The task of labels of an output, and these in normal form; None where they are of no known form for it."""
    sample = output.shape[1:]
    if output.dtype.kind in "iub":
        if _are_whole(labels) and _squeezed(labels.shape[1:]) == _squeezed(sample):
            return Task("decisions"), labels.reshape(len(labels), *sample).astype(np.int64)
        return None
    axes = _class_axes(output, last=last)
    if labels[0].size == output[0].size:
        found = _like_output(output, labels.reshape(len(labels), *sample), axes)
        if found is not None:
            return found
    for axis in axes if _are_whole(labels) else ():
        shape = np.delete(sample, axis - 1 if axis > 0 else axis)
        if _squeezed(labels.shape[1:]) == _squeezed(shape):
            _check_range(labels, output.shape[axis])
            return Task("classes", axis), labels.reshape(len(labels), *shape).astype(np.int64)
    return None


def _unlabelled(output: Array, *, last: bool, features: bool) -> Task:
    """What one output says by itself.

    Class scores sum to one along an axis, or stand in one row a sample; rows of unit length are embeddings, and a row whose
    largest entry is the same one in every sample, as the lower edge of a box is, names no class.
    """
    if output.dtype.kind in "iub":
        return Task("decisions")
    axes = _class_axes(output, last=last)
    for axis in axes:
        if _sums_to_one(output, axis):
            return Task("classes", axis)
    row = [axis for axis in axes if output.shape[axis] == output[0].size]
    if not row or features or _has_unit_length(output, row[0]):
        return Task("values")
    task = Task("classes", row[0])
    return task if len(np.unique(task.answers(output))) > 1 else Task("values")


def _has_unit_length(output: Array, axis: int) -> bool:
    return bool(np.allclose(np.square(output.astype(np.float64)).sum(axis), 1, atol=1e-3))


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


def _unfit(output: Array, labels: Array, axes: Sequence[int], name: str) -> InvalidDataset:
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
        f"array `y` has shape {list(labels.shape)}, type {labels.dtype}, {values}, which does not fit the model's output "
        f"`{name}`, {whole}; write it as {', '.join(allowed)}, or as float targets of shape {whole}, judged by squared error"
        f"{several}"
    )
