"""The one training loop: Nadam, averaged weights, judged on data they do not learn from, able to stop and go on at any step."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from search.graph.ir import Array, Graph
from search.graph.run.execute import forward
from search.graph.run.segments import checkpointed
from search.train.loss import Batch, Objective, Weights

CHECKS = 8
"""How often a run is judged on the search split."""
PATIENCE = 4
"""Judgements in a row without a new best of the run that end it. The start does not count: a full learning rate first leaves
the closed-form optimum, and only the end of the course comes below it."""
WARM_UP, COOL_DOWN = 0.05, 0.3
"""Share of the steps in which the learning rate rises, and in which it falls again."""
RECENT = 4
"""What is judged and kept is an average of the weights in which step s counts about s^3 times, so that it is centred a fifth of
the steps back (polynomial decay, Shamir & Zhang 2013, section 4). The learning rate can then stay high for longer: 250 steps
bring a repaired ResNet-32 at 2.1x to 84 % of the dense network's answers to unseen images, on a cosine without an average to
83 %; 600 steps bring it to 85 % either way."""
GRADIENTS, SQUARES = 0.9, 0.95
"""What a step keeps of the averages before, of gradients and of their squares. With Nesterov's look ahead (Nadam, Dozat 2016) 600
steps bring a repaired ResNet-20 at 3x from 2.03 nats to 1.14, where Adam with 0.999 for squares comes to 1.22, and 1,500 steps of
it to 1.09; 400 steps bring a ResNet-32 at 1.5x from 0.51 to 0.39, and to 0.44."""
CHECKPOINT_S = 30.0
Params = dict[str, Any]


class Store(Protocol):
    """Where an unfinished run keeps its state."""

    def load(self) -> Mapping[str, Array] | None:
        """What was saved last, if anything."""

    def save(self, arrays: Mapping[str, Array]) -> None:
        """Replace what was saved."""


@dataclasses.dataclass(frozen=True)
class Course:
    """How long and how boldly."""

    steps: int
    learning_rate: float
    weights: Weights
    begin: float = 0.0
    """Share of the course of the learning rate that earlier stages of the same run have used."""
    end: float = 1.0
    """The same at the end of this stage."""
    checks: int = CHECKS
    """How often the run is judged."""

    def rate(self, step: int) -> np.float32:
        """Learning rate of a step."""
        progress = self.begin + (self.end - self.begin) * (step + 0.5) / self.steps
        return np.float32(self.learning_rate * rate_share(progress))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    params: dict[str, Array]
    """The weights of the best judgement, those of the start among them."""
    score: float
    """Its score; lower is better."""
    last: dict[str, Array]
    """The average at the last step; the best weights where the loss stopped being a number."""
    diverged: bool
    """Whether the loss stopped being a number."""


class Student:
    """A pruned graph whose step is compiled once, however often and on whatever terms it is trained."""

    def __init__(
        self,
        graph: Graph,
        names: tuple[str, ...],
        objective: Objective,
        *,
        values: tuple[str, ...] = (),
        masks: Mapping[str, Array] | None = None,
        sparing: bool = False,
        products: Any = np.float32,
    ) -> None:
        """Nothing is compiled until the first step.

        Args:
            graph: the network as it will be deployed.
            names: weights that move.
            objective: the loss.
            values: inner values that are compared with the dense network's.
            masks: weights whose entries outside the mask (same shape, bool) stay zero.
            sparing: compute activations twice instead of keeping them: a third of the memory, a quarter more time.
            products: float type of convolutions and matrix products; weights, gradients and everything else stay float32.
        """
        self.graph, self.names = graph, names
        self.masks = dict(masks or {})
        self.optimiser = optax.chain(
            optax.clip_by_global_norm(1.0), optax.scale_by_adam(GRADIENTS, SQUARES, nesterov=True)
        )
        wanted = [*(info.name for info in graph.outputs), *values]
        run = (checkpointed if sparing else forward)(graph, outputs=wanted, products=products)
        count = len(graph.outputs)

        def loss(params: Params, batch: Batch, weights: Weights) -> Any:
            found = run(params, batch.feeds)
            return objective(found[:count], dict(zip(values, found[count:], strict=True)), batch, weights)

        def step(
            params: Params, state: Any, batch: Batch, weights: Weights, rate: Any, masks: Params
        ) -> tuple[Params, Any, Any]:
            value, gradient = jax.value_and_grad(loss)(params, batch, weights)
            updates, state = self.optimiser.update(masked(gradient, masks), state, params)
            moved = {name: params[name] - rate * updates[name] for name in params}
            return masked(moved, masks), state, value

        self.gradient = jax.jit(jax.grad(loss))
        self.step = jax.jit(step, donate_argnums=(0, 1))

    def start(self) -> Params:
        """The graph's own weights, masked, on the devices."""
        return masked(replicate({name: self.graph.initializers[name] for name in self.names}), self.masks)


averaged = jax.jit(optax.incremental_update, donate_argnums=1)
"""(new, mean, share of the new) to the mean with the new."""


def masked(params: Params, masks: Mapping[str, Any]) -> Params:
    """The same with zeros outside the masks."""
    return {name: jnp.where(masks[name], value, 0) if name in masks else value for name, value in params.items()}


def descend(
    student: Student,
    course: Course,
    batches: Callable[[int], Batch],
    judge: Callable[[Mapping[str, Array]], float],
    store: Store | None = None,
    *,
    check: Callable[[], None] = lambda: None,
) -> Outcome:
    """Train a student from its graph's weights.

    The same arguments give the same bits, also when a run is stopped and goes on from its store.

    Args:
        student: what is trained.
        course: steps, learning rate, terms.
        batches: step to its batch; a pure function, called from another thread.
        judge: weights to a score on data that is not trained on; lower is better.
        store: keeps the state of an unfinished run.
        check: called before every step; what it raises ends the run, whose state is then saved.
    """
    run = _Run.begin(student, judge, store)
    keeper = _Keeper(store)
    every = max(1, course.steps // course.checks)
    for step, batch in ahead(batches, run.step, course.steps):
        with keeper.saving(run):
            check()
        run.params, run.state, loss = student.step(
            run.params, run.state, batch, course.weights, course.rate(step), student.masks
        )
        run.mean = averaged(run.params, run.mean, np.float32(RECENT / (step + RECENT)))
        run.step = step + 1
        if not np.isfinite(float(loss)):
            return Outcome(run.best, run.score, run.best, diverged=True)
        if run.step % every == 0 or run.step == course.steps:
            run.consider(judge)
            if run.stale >= PATIENCE:
                break
    return Outcome(run.best, run.score, _host(run.mean), diverged=False)


def best_so_far(student: Student, saved: Mapping[str, Array]) -> Outcome:
    """What a run had come to when its state was saved."""
    best = {name: saved[f"best/{name}"] for name in student.names}
    return Outcome(best, float(saved["score"]), best, diverged=False)


def rate_share(progress: float) -> float:
    """Share of the full learning rate: a linear rise over `WARM_UP` of a run, all of it, half a cosine to zero over `COOL_DOWN`.

    Example:
        >>> [round(rate_share(t), 3) for t in (0.025, 0.05, 0.7, 0.85, 1.0)]
        [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    falling = max(0.0, 1 - (1 - progress) / COOL_DOWN)
    return min(1.0, progress / WARM_UP) * 0.5 * (1 + float(np.cos(np.pi * falling)))


@dataclasses.dataclass
class _Run:
    """Everything that changes during a run."""

    params: Params
    state: Any
    mean: Params
    best: dict[str, Array]
    score: float
    step: int = 0
    stale: int = 0
    lowest: float = float("inf")
    """Lowest score since the start."""

    @classmethod
    def begin(cls, student: Student, judge: Callable[[Mapping[str, Array]], float], store: Store | None) -> _Run:
        params = student.start()
        state = student.optimiser.init(params)
        saved = store.load() if store is not None else None
        if saved is None:
            best = _host(params)
            return cls(params, state, jax.tree.map(jnp.copy, params), best, judge(best))
        leaves, tree = jax.tree.flatten((params, state, params))
        leaves = [replicate(saved[f"leaf{i}"]) for i in range(len(leaves))]
        params, state, mean = jax.tree.unflatten(tree, leaves)
        best = {name: saved[f"best/{name}"] for name in student.names}
        counts = {key: saved[key].item() for key in ("score", "step", "stale", "lowest")}
        return cls(params, state, mean, best, **counts)

    def consider(self, judge: Callable[[Mapping[str, Array]], float]) -> None:
        now = _host(self.mean)
        score = judge(now)
        self.stale += 1
        if score < self.lowest:
            self.lowest, self.stale = score, 0
        if score < self.score:
            self.best, self.score = now, score

    def arrays(self) -> dict[str, Array]:
        leaves = jax.tree.leaves((self.params, self.state, self.mean))
        return {
            **{f"leaf{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)},
            **{f"best/{name}": value for name, value in self.best.items()},
            "score": np.asarray(self.score),
            "step": np.asarray(self.step),
            "stale": np.asarray(self.stale),
            "lowest": np.asarray(self.lowest),
        }


class _Keeper:
    """Saves a run at most `CHECKPOINT_S` after the last time, and whenever it is ended from outside."""

    def __init__(self, store: Store | None) -> None:
        self.store, self.saved_at = store, time.monotonic()

    @contextlib.contextmanager
    def saving(self, run: _Run) -> Iterator[None]:
        """Around a place where a run may be ended."""
        try:
            yield
        except BaseException:
            self.save(run)
            raise
        if time.monotonic() - self.saved_at > CHECKPOINT_S:
            self.save(run)

    def save(self, run: _Run) -> None:
        if self.store is not None:
            self.store.save(run.arrays())
            self.saved_at = time.monotonic()


def ahead(batches: Callable[[int], Batch], first: int, last: int) -> Iterator[tuple[int, Batch]]:
    """Steps and their batches; the next batch is made while the current step runs."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        coming = pool.submit(batches, first)
        for step in range(first, last):
            batch = coming.result()
            if step + 1 < last:
                coming = pool.submit(batches, step + 1)
            yield step, scatter(batch)


def _host(params: Params) -> dict[str, Array]:
    return {name: np.array(value) for name, value in params.items()}  # a copy: steps reuse the devices' memory


def replicate(tree: Any) -> Any:
    """Arrays on every local device."""
    return jax.device_put(tree, jax.sharding.NamedSharding(_devices(), jax.sharding.PartitionSpec()))  # type: ignore[no-untyped-call]


def scatter(batch: Batch) -> Batch:
    """A batch divided over the local devices, where its size divides by their number; else on every one."""
    devices = _devices()
    count = len(next(iter(batch.feeds.values())))
    if count % devices.size:
        return Batch(*replicate(tuple(batch)))
    sharding = jax.sharding.NamedSharding(devices, jax.sharding.PartitionSpec("sample"))  # type: ignore[no-untyped-call]
    return Batch(*jax.device_put(tuple(batch), sharding))


def _devices() -> jax.sharding.Mesh:
    return jax.sharding.Mesh(np.array(jax.local_devices()), ("sample",))
