"""What errors inside a network do to its answers: the diagonal of a Gauss-Newton matrix, one mean a value.

A small random error e of the channels of a value, at one position of one sample, moves the answers by about c |e|^2 in square:
c is the mean over samples and channels of sum_p g_p^2, where g_p is the gradient, at position p, of the answers projected onto
a random direction (Hutchinson's estimate; Martens & Grosse 2015, section 3, keep the matrix over channels, which here fits the
samples more closely than images of another kind).

The answers' own scale is taken, not their likelihood: a network that knows its samples by heart is certain of almost all of
them, and the curvature of its likelihood is that of the few others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from search.criteria.gradients import log_probabilities
from search.graph.ir import Array, Graph, is_float
from search.graph.run.execute import Engine, apply_node, samples_at_once
from search.input.task import Task, decide
from search.wire.errors import InvalidModel

MOST_SAMPLES = 512
"""One backward pass a sample."""
BATCH = 128


def output_curvature(
    graph: Graph,
    shapes: Mapping[str, Sequence[int]],
    wanted: Mapping[str, int],
    feeds: Mapping[str, Array],
    seed: int,
    task: Task | None = None,
) -> dict[str, float]:
    """Curvature of the answers by each of some values, the mean over its channels.

    Args:
        graph: the dense network.
        shapes: of its values at batch 1.
        wanted: values to the axis of their channels.
        feeds: samples, of which at most `MOST_SAMPLES` are looked at.
        seed: of the directions.
        task: which outputs count, and what they mean; None: decided by what the network answers.

    Returns:
        Value to its curvature; none at all where an operator has no derivative. 0 where nothing reaches an answer.
    """
    some = {name: value[:MOST_SAMPLES] for name, value in feeds.items()}
    outputs = Engine(graph, batch=samples_at_once(graph, shapes, BATCH))({}, some)
    task = decide(outputs, None)[0] if task is None else task
    counted = [k for k in task.counted if is_float(outputs[k].dtype)]
    scores = task.output if task.scores(outputs) else None
    rng = np.random.default_rng((seed, 5))
    directions = [_directions(outputs[k], rng, scores=k == scores) for k in counted]

    def projected(errors: Mapping[str, Any], sample: Mapping[str, Any], along: Sequence[Any]) -> Any:
        chunk = graph.sampling.chunks({name: value[None] for name, value in sample.items()})
        values = {**graph.initializers, **{name: value[0] for name, value in chunk.items()}}
        for node in graph.nodes:
            outputs = apply_node(node, [values[name] if name else None for name in node.inputs], graph.opset)
            for name, value in zip(node.outputs, outputs, strict=False):
                values[name] = value + errors[name] if name in errors else value
        answers = {
            k: graph.sampling.samples(graph.outputs[k].name, values[graph.outputs[k].name][None], 1)[0] for k in counted
        }
        found = [log_probabilities(answer, 0) if k == scores else answer for k, answer in answers.items()]
        return sum(jnp.vdot(v, jnp.where(v == 0, 0, a)) for v, a in zip(along, found, strict=True))

    def squares(pair: Any) -> dict[str, Any]:
        gradients = jax.grad(projected)({name: jnp.zeros(shapes[name]) for name in wanted}, *pair)
        return {name: jnp.square(value).sum() for name, value in gradients.items()}

    try:
        with jax.numpy_rank_promotion("allow"):
            found = jax.jit(lambda pairs: jax.lax.map(squares, pairs))((some, directions))
    except (InvalidModel, ValueError, TypeError):
        return {}
    of_channels = {name: float(np.mean(value)) / shapes[name][wanted[name]] for name, value in found.items()}
    return of_channels if np.isfinite(list(of_channels.values())).all() else {}


def _directions(answer: Array, rng: np.random.Generator, *, scores: bool) -> Array:
    """One a sample, shaped as an answer (N, ...), over the answer's own size; nothing along what is not finite."""
    drawn = np.asarray(rng.standard_normal(answer.shape))
    if scores:  # what is added to all scores of a sample changes none of its probabilities
        drawn -= drawn.mean(1, keepdims=True)
    finite = np.isfinite(answer)
    size = float(np.sqrt(np.square(answer[finite].astype(np.float64)).mean())) if finite.any() else 1.0
    return np.asarray(np.where(finite, drawn, 0) / max(size, 1e-30), np.float32)
