"""Fine-tuning: everything that the pruned copies of one dense network share while they are trained."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from search.graph.ir import Array, Graph
from search.graph.onnx.write import export
from search.graph.run.execute import forward
from search.graph.run.execute import shapes as shapes_of
from search.graph.run.segments import stretches
from search.input.data import Part
from search.input.task import Task
from search.judge.accuracy import divergence, quality
from search.judge.dense import understood
from search.judge.sessions import Session
from search.train.augment import NONE, Augmentation, half_mixed
from search.train.descent import Course, Outcome, Store, Student, descend
from search.train.loss import Batch, Weights, objective_for
from search.train.teacher import Teacher, tunable
from search.wire.errors import InvalidModel

BATCH = 64
FEWEST_SAMPLES = 32
"""With fewer training samples nothing is trained: closed form does as well and cannot overfit as much."""
MEMORY_BYTES = 4 << 30
"""Of one step's activations and their gradients."""
DISTIL = Weights(answers=0.03, values=1.0, labels=0.0)
"""Match the dense network's inner values, and its answers; needs no labels (AdaPrune, Hubara et al. 2021). Answers at 0.1
instead: in three of four trials 250 to 300 steps end with fewer of the dense network's answers to unseen images."""
MOST_OF_LABELS = 0.1
"""Weight of labels where the dense network gets a tenth of them wrong, or more."""
LABELS_ASKED = 512
"""Training samples that tell how many it gets wrong."""
PRODUCTS = {"gpu": jnp.bfloat16, "tpu": jnp.bfloat16}
"""JAX backend to the float type of convolutions and matrix products, where it is not float32; bfloat16 has float32's range, so
that the loss needs no scaling."""


class Trainer:
    """Trains pruned copies of a dense network."""

    def __init__(
        self,
        graph: Graph,
        shapes: Mapping[str, tuple[int, ...]],
        train: Part,
        search: Part,
        *,
        seed: int,
        augmentation: Augmentation = NONE,
        real: bool = True,
    ) -> None:
        """Open the teacher.

        Args:
            graph: the dense network.
            shapes: shape of every value at batch 1.
            train: samples to learn from, with labels where there are any.
            search: samples to be judged on, half of them mixed where they are images; nothing is learned from them.
            seed: of the order of samples and their augmentation.
            augmentation: of the samples to learn from, anew in every epoch.
            real: whether samples are what the network was made for; synthetic ones cannot tell which weights of a run to keep.
        """
        # of images known by heart a repaired copy still knows much: on them training looks like a loss, even where it mends
        unseen = search if augmentation == NONE else half_mixed(search, np.random.default_rng((seed, 2)))
        self.search, self.seed, self.real = unseen, seed, real
        self.teacher = Teacher(graph, shapes, matched_values(graph, shapes))
        self.shapes = shapes
        self.dense, _ = self.teacher(self.search.feeds)
        self.train = understood(train, graph)
        self.objective = objective_for(self.dense, self.train.labels, self.train.task)
        self.labels = useful_labels(self.train.labels, self.train.task)
        self.weights = DISTIL if self.labels is None else DISTIL._replace(labels=min(MOST_OF_LABELS, self._unknown()))
        self.augmentation = augmentation
        wanted = min(BATCH, len(train))
        self.sparing = samples_that_train(graph, shapes) < wanted
        most = min(wanted, samples_that_train(graph, shapes, sparing=self.sparing))
        most = most - most % jax.local_device_count() or most  # divided over the devices where there is enough
        self.batch = graph.sampling.whole(most)

    def _unknown(self) -> float:
        """Share of the labels, of the variance of values, that the dense network gets wrong.

        Labels that it knows by heart say nothing that its answers do not, and only teach the copy to know them by heart as well.
        """
        asked = self.train.take(slice(LABELS_ASKED))
        outputs = Session(export(self.teacher.graph), self.teacher.graph.sampling)(asked.feeds)
        return 1 - quality(outputs, asked.labels, outputs, asked.task).value

    def student(self, graph: Graph, masks: Mapping[str, Array] | None = None) -> Student:
        """A pruned graph, ready to be trained; its inner values that still have the dense shape are compared."""
        inputs = {info.name: self.shapes[info.name] for info in graph.inputs}
        found, _ = shapes_of(graph, inputs)
        values = tuple(name for name in self.teacher.values if found.get(name) == self.shapes[name])
        products = PRODUCTS.get(jax.default_backend(), np.float32)
        return Student(
            graph, tunable(graph), self.objective, values=values, masks=masks, sparing=self.sparing, products=products
        )

    def why_not(self) -> str | None:
        """Why the dense network, and so none of its copies, has a gradient; None where it has one."""
        student = self.student(self.teacher.graph)
        try:
            jax.eval_shape(student.gradient, student.start(), self.batches()(0), self.weights)
        except (InvalidModel, ValueError, TypeError) as error:
            return str(error).splitlines()[0]
        return None

    def batches(self, first: int = 0) -> Callable[[int], Batch]:
        """Step to its batch, counted from a first one: pure, every sample once an epoch, augmented anew."""

        def batch(step: int) -> Batch:
            part = self.train.take(_indices(first + step, self.batch, len(self.train), self.seed))
            rng = np.random.default_rng((self.seed, 3, first + step))
            part = self.augmentation.of(part, rng)
            answers, values = self.teacher(part.feeds)
            return Batch(part.feeds, answers, values, None if self.labels is None else part.labels)

        return batch

    def judge(self, graph: Graph) -> Callable[[Mapping[str, Array]], float]:
        """Weights of a graph to their divergence from the dense network on the search split; NaN counts as infinite."""

        def score(params: Mapping[str, Array]) -> float:
            session = Session(export(graph.with_initializers(params)), graph.sampling, threads=1)
            found = divergence(session(self.search.feeds), self.dense, self.search.task)
            return found if np.isfinite(found) else float("inf")

        return score

    def run(
        self,
        student: Student,
        course: Course,
        *,
        first: int = 0,
        store: Store | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> Outcome:
        """Train from a first batch on; the best weights on the search split, the last ones where that is not ``real``.

        A ResNet-20 that had lost 37 points by its repair on synthetic images had lost 37 with the best by such images, which were
        early ones, and 32 with the last.
        """
        judge = self.judge(student.graph)
        outcome = descend(student, course, self.batches(first), judge, store, check=check)
        if self.real:
            return outcome
        return dataclasses.replace(outcome, params=outcome.last, score=judge(outcome.last))


def samples_that_train(graph: Graph, shapes: Mapping[str, tuple[int, ...]], *, sparing: bool = False) -> int:
    """Samples whose values stay within `MEMORY_BYTES` with their gradients.

    Args:
        graph: the network.
        shapes: of every value at batch 1.
        sparing: only the values between stretches are kept, and those inside one of them.
    """
    if not sparing:
        every = _bytes([name for node in graph.nodes for name in node.outputs], shapes)
        return max(1, graph.sampling.chunk * MEMORY_BYTES // max(1, 2 * every))
    parts = stretches(graph.nodes, [info.name for info in graph.outputs])
    kept = {name for _, names in parts for name in names}
    inside = [{name for node in nodes for name in node.outputs} - kept for nodes, _ in parts]
    per_sample = _bytes(kept, shapes) + max((_bytes(names, shapes) for names in inside), default=0)
    return max(1, graph.sampling.chunk * MEMORY_BYTES // max(1, 2 * per_sample))


def _bytes(names: Iterable[str], shapes: Mapping[str, tuple[int, ...]]) -> int:
    return 4 * sum(int(np.prod(shapes[name])) for name in names if name in shapes)


def matched_values(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Where a network's branches meet: the sums of two activations of one shape, floats."""
    sums = tuple(
        node.outputs[0]
        for node in graph.nodes
        if node.op == "Add"
        and not any(name in graph.initializers for name in node.inputs)
        and len({tuple(shapes.get(name, ())) for name in node.inputs}) == 1
    )
    inputs = {  # one chunk, as the engine takes it
        info.name: jax.ShapeDtypeStruct(  # type: ignore[no-untyped-call]
            (graph.sampling.chunk, *graph.sampling.sample_shape(info.name, shapes[info.name])), info.dtype
        )
        for info in graph.inputs
    }
    traced = jax.eval_shape(functools.partial(forward(graph, outputs=sums), {}), inputs)
    return tuple(name for name, value in zip(sums, traced, strict=True) if jnp.issubdtype(value.dtype, jnp.floating))


def useful_labels(labels: Array | None, task: Task | None = None) -> Array | None:
    """Labels that can teach something: None where all classes are the same, or the answers are decisions without a gradient."""
    if labels is None or (task is not None and task.kind == "decisions"):
        return None
    if labels.dtype.kind in "iu" and (labels == labels.reshape(-1)[0]).all():
        return None
    return labels


def _indices(step: int, batch: int, samples: int, seed: int) -> Array:
    """Positions of a step's samples in an endless row of shuffled epochs."""
    first, last = step * batch, (step + 1) * batch
    epochs = range(first // samples, (last - 1) // samples + 1)
    order = np.concatenate([np.random.default_rng((seed, 4, epoch)).permutation(samples) for epoch in epochs])
    return order[first - epochs[0] * samples : last - epochs[0] * samples]
