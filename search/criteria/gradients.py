"""Gradients of every sample's loss with respect to gates on the units: what Taylor and Fisher criteria are made of.

A gate multiplies a unit wherever a weight reads it; at 1 the network is dense, at 0 the unit is cut. The loss is the
cross-entropy of the client's labels (half the squared error for values). Without labels each sample's target is drawn
from the network's own prediction, which makes the squared gradients the Fisher information of the outputs; the
divergence from the dense output itself has no gradient at the dense network. Amari (1998), section 2; Theis et al. (2018).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from search.graph.ir import Array, Graph, is_float
from search.graph.run.execute import Engine, forward, samples_at_once, trainable
from search.input.task import Task, decide
from search.space.groups import Groups
from search.train.loss import binary_cross_entropy

MOST_SAMPLES = 128
"""One backward pass a sample; sums over this many rank units as sums over more do."""


def gate_gradients(
    graph: Graph,
    groups: Groups,
    feeds: Mapping[str, Array],
    labels: Array | None,
    seed: int,
    task: Task | None = None,
) -> dict[str, Array]:
    """Group id to (N, units): derivative of each sample's loss by each gate, N at most `MOST_SAMPLES`."""
    some = {name: value[:MOST_SAMPLES] for name, value in feeds.items()}
    weights = {name: graph.initializers[name] for name in trainable(graph)}
    outputs = Engine(graph, batch=samples_at_once(graph, groups.shapes, MOST_SAMPLES))(weights, some)
    if task is None:
        task, labels = decide(outputs, labels)
    if labels is None or task.kind == "decisions":
        aims = _drawn(outputs, task, np.random.default_rng((seed, 2)))
    else:
        aims = {task.output: (task, labels[: len(outputs[task.output])])}
    run, losses = forward(graph), {position: _loss(of_output) for position, (of_output, _) in aims.items()}
    targets = {position: target for position, (_, target) in aims.items()}

    def sample_loss(gates: dict[str, Any], sample: dict[str, Any], target: dict[int, Any]) -> Any:
        found = run(gated(weights, groups, gates), {name: value[None] for name, value in sample.items()})
        return sum((loss(found[k], target[k]) for k, loss in losses.items()), jnp.float32(0))

    gates = {group.id: jnp.ones(len(group)) for group in groups.prunable}
    every = jax.jit(lambda xs, ys: jax.lax.map(lambda pair: jax.grad(sample_loss)(gates, *pair), (xs, ys)))
    with jax.numpy_rank_promotion("allow"):
        return {name: np.asarray(value, np.float64) for name, value in every(some, targets).items()}


def gated(weights: Mapping[str, Array], groups: Groups, gates: Mapping[str, Any]) -> dict[str, Any]:
    """Weights that read every unit through its gate: (units,) a group."""
    scaled: dict[str, Any] = dict(weights)
    for group in groups.prunable:
        reads = {(s.weight, s.axis): s for s in group.slots if s.role == "consumes" and s.weight in scaled}
        for slot in reads.values():  # a weight that two nodes share is gated once
            member = np.isin(slot.ids, group.units)
            position = np.where(member, np.searchsorted(group.units, slot.ids), 0).clip(max=len(group) - 1)
            factor = jnp.where(member, gates[group.id][position], 1.0)
            weight = scaled[slot.weight]
            scaled[slot.weight] = weight * factor.reshape([-1 if i == slot.axis else 1 for i in range(weight.ndim)])
    return scaled


def _drawn(outputs: Sequence[Array], task: Task, rng: np.random.Generator) -> dict[int, tuple[Task, Array]]:
    """Targets of the outputs that count, by position, drawn from what the network predicts.

    They are classes for scores (N, C), values for other floats; of several outputs those that spread less count for more.
    """
    found: dict[int, tuple[Task, Array]] = {}
    for k in (k for k in task.counted if is_float(outputs[k].dtype)):
        output = outputs[k]
        if k == task.output and task.scores(outputs):
            noisy = log_probabilities(jnp.asarray(output), 1) + rng.gumbel(size=output.shape)
            found[k] = Task("classes"), np.asarray(noisy.argmax(1), np.int64)
        else:
            spread = float(output[np.isfinite(output)].std()) if len(task.counted) > 1 else 1.0
            found[k] = (
                Task("values"),
                np.asarray(output + rng.standard_normal(output.shape) / max(spread, 1e-12), np.float32),
            )
    return found


def _loss(task: Task) -> Callable[[Any, Any], Any]:
    """Of one sample's output (1, ...) and its target (...)."""

    def classes(output: Any, target: Any) -> Any:
        chosen = jnp.expand_dims(target[None], task.axis)
        return -jnp.take_along_axis(log_probabilities(output, task.axis), chosen, task.axis).mean()

    def binary(output: Any, target: Any) -> Any:
        return binary_cross_entropy(output, target[None], task.threshold).mean()

    def values(output: Any, target: Any) -> Any:
        missed = output - jnp.reshape(target, output.shape)
        return 0.5 * (jnp.where(jnp.isfinite(missed), missed, 0) ** 2).sum()

    return {"classes": classes, "binary": binary, "values": values}[task.kind]


def log_probabilities(output: Any, axis: int) -> Any:
    """Of scores or of probabilities along an axis, told apart by their sum."""
    is_probability = (output.min() >= 0) & (jnp.abs(output.sum(axis) - 1).max() < 1e-3)
    return jnp.where(is_probability, jnp.log(jnp.maximum(output, 1e-12)), jax.nn.log_softmax(output, axis=axis))
