"""What a pruned network is trained on: the dense network's answers, its inner values, and the labels where there are any."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from search.graph.ir import Array, is_float
from search.input.task import Task, decide

TEMPERATURE = 4.0
"""Of distillation (Hinton 2015, section 2; METHODS: about 4)."""
Answer = Literal["scores", "probabilities", "values"]


class Weights(NamedTuple):
    """How much every term counts; arguments at run time, so that one compiled step serves them all."""

    answers: float = 1.0
    """Distance of the outputs to the dense network's."""
    values: float = 0.0
    """sum_l |Y_l - Y^_l|^2 / |Y_l|^2 over inner values (AdaPrune, Hubara et al. 2021)."""
    labels: float = 0.0
    """Cross-entropy, or squared error for values."""


class Batch(NamedTuple):
    """One step's samples and what the dense network says of them."""

    feeds: Mapping[str, Any]
    answers: Sequence[Any]
    values: Mapping[str, Any]
    labels: Any
    """In normal form (`search.input.task`), or None."""


@dataclasses.dataclass(frozen=True)
class Objective:
    """The loss of one kind of network; hashable, so that it may stand in a compiled function."""

    answer: Answer
    """What the output that is judged holds: class scores or probabilities (N, C), or anything else."""
    classes: bool
    """Whether the labels are classes."""
    axis: int = 1
    """Of the class scores."""
    threshold: float | None = None
    """Where the classes are yes and no: the output above which a value says yes, 0.5 for probabilities, 0 for logits."""
    output: int = 0
    """Position of the output that is judged."""
    counted: tuple[int, ...] = (0,)
    """Positions of the outputs whose distance to the dense network's counts: floats."""

    def __call__(self, outputs: Sequence[Any], values: Mapping[str, Any], batch: Batch, weights: Weights) -> Any:
        """Scalar loss of a student's outputs and values, a mean over samples."""
        loss = weights.answers * self._to_answers(outputs, batch.answers)
        if values:
            distances = [relative_error(values[name], batch.values[name]) for name in values]
            loss += weights.values * sum(distances) / len(distances)
        if batch.labels is not None:
            loss += weights.labels * self._to_labels(outputs[self.output], batch.labels)
        return loss

    def _to_answers(self, outputs: Sequence[Any], answers: Sequence[Any]) -> Any:
        distances = [
            self._divergence(outputs[k], answers[k])
            if k == self.output and self.answer != "values"
            else relative_error(outputs[k], answers[k])
            for k in self.counted
        ]
        return sum(distances) / max(1, len(distances))

    def _divergence(self, output: Any, answer: Any) -> Any:
        """T^2 KL(dense || student) over the classes whose dense scores are finite."""
        finite = jnp.isfinite(answer)
        student, dense = (
            jax.nn.log_softmax(self._scores(jnp.where(finite, x, -jnp.inf)) / TEMPERATURE) for x in (output, answer)
        )
        return TEMPERATURE**2 * jnp.where(finite, jnp.exp(dense) * (dense - student), 0).sum(1).mean()

    def _to_labels(self, output: Any, labels: Any) -> Any:
        if self.classes and self.threshold is not None:
            return binary_cross_entropy(output, labels.reshape(output.shape), self.threshold).mean()
        if self.classes:
            scores = jnp.moveaxis(self._scores(output), self.axis, -1)
            return optax.softmax_cross_entropy_with_integer_labels(scores, labels.reshape(scores.shape[:-1])).mean()
        return relative_error(output, labels.reshape(output.shape))

    def _scores(self, output: Any) -> Any:
        return jnp.log(jnp.maximum(output, 1e-12)) if self.answer == "probabilities" else output


def relative_error(actual: Any, wanted: Any) -> Any:
    """|actual - wanted|^2 / |wanted|^2 over what is wanted and finite."""
    finite = jnp.isfinite(wanted)
    actual, wanted = (jnp.where(finite, value, 0) for value in (actual, wanted))
    return jnp.square(actual - wanted).sum() / jnp.maximum(jnp.square(wanted).sum(), 1e-12)


def binary_cross_entropy(output: Any, labels: Any, threshold: float) -> Any:
    """Of every value; ``output`` are probabilities where the threshold is 0.5, logits otherwise. ``labels`` are 0 or 1."""
    if threshold == 0.5:  # log(1 - p) of a sigmoid that float32 rounds to 1 stays finite
        yes, no = (jnp.log(jnp.maximum(p, 1e-7)) for p in (output, 1 - output))
        return -jnp.where(labels == 1, yes, no)
    return optax.sigmoid_binary_cross_entropy(output, labels)


def objective_for(outputs: Sequence[Array], labels: Array | None, task: Task | None = None) -> Objective:
    """The loss that fits a dense network's outputs and the labels.

    Args:
        outputs: of the dense network, for some samples.
        labels: in normal form where there is a task, or as `search.input.task.decide` takes them.
        task: what both mean; None: decided by the outputs and the labels.
    """
    task = task or decide(outputs, labels)[0]
    judged = outputs[task.output]
    answer: Answer = "values"
    if task.scores(outputs):
        sums_to_one = judged.min() >= 0 and bool(abs(judged.sum(1) - 1).max() < 1e-3)
        answer = "probabilities" if sums_to_one else "scores"
    classes = labels is not None and task.kind != "values"
    counted = tuple(k for k in task.counted if is_float(outputs[k].dtype))
    threshold = task.threshold if task.kind == "binary" else None
    return Objective(answer, classes, task.axis, threshold, task.output, counted)
