"""Inputs for a job without data: pictures of no thing in particular, moved until the dense network sees its own data in them.

Photographs are made of things that hide one another. Leaves that fall on one another (the dead leaves model: Lee, Mumford and
Huang, "Occlusion models for natural images", 2001) have their edges and their spectrum, and what networks learn from them holds
for photographs too (Baradad et al., "Learning to See by Looking at Noise", 2021). What a network remembers of its own inputs are
the running statistics of its batch norms, and what makes it answer with confidence; inputs follow both by gradient descent
(DeepInversion, Yin et al. 2020, eq. 2 to 4, without the competition term).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from search.graph.ir import Array, Graph, Node
from search.graph.run.execute import forward
from search.input.outputs import reached
from search.train.pace import macs_of

STEPS = 20
FEWEST_STEPS = 5
RATE = 0.1
BATCH = 64
MOST_MACS = 5e11
"""Half a minute on one core; networks for which that is too little keep the leaves as they fell."""
LEAVES = 60
SMALLEST_LEAF, LARGEST_LEAF = 1 / 16, 0.6
"""Radii in parts of an image's side."""
TINT = 0.25
"""Deviation of a leaf's channels from its grey."""
STATISTICS, CONFIDENCE, ROUGHNESS = 1.0, 0.1, 0.01
"""Weights of the terms; statistics count most where there are any."""

DATA_FREE = (
    "data-free: no data set was given, so accuracy is agreement with the dense model on synthetic inputs, which says little "
    "of real ones (a ResNet-20 that agreed on 99 % of them had lost 18 points on photographs); a few hundred real samples, "
    "labelled or not, do far better"
)
"""What a report says of such a job; measured, see tests/benchmarks/RESULTS.md."""


def synthesise(
    graph: Graph, feeds: Mapping[str, Array], rng: np.random.Generator, *, steps: int = STEPS
) -> dict[str, Array]:
    """Inputs that are more like training data than noise.

    Args:
        graph: the dense network.
        feeds: noise of the right shapes and types; what is no float stays as it is.
        rng: draws the noise and the classes.
        steps: of gradient descent at most; fewer where they would take too long, none when fewer than `FEWEST_STEPS` remain.

    Returns:
        Input name to values shaped as in ``feeds``.
    """
    moving = {name: drawn(value.shape, rng) for name, value in feeds.items() if value.dtype == np.float32}
    fixed = {name: value for name, value in feeds.items() if name not in moving}
    samples = len(next(iter(feeds.values())))
    macs = macs_of(graph, graph.sampling.shapes({name: value.shape[1:] for name, value in feeds.items()}))
    steps = min(steps, int(MOST_MACS / max(1, 3 * macs * samples)))  # a gradient costs about three forward passes
    if steps < FEWEST_STEPS or not moving:
        return {**fixed, **moving}
    order = rng.permutation(samples)
    gradient = jax.jit(jax.grad(_loss(graph)))
    parts = []
    for start in range(0, samples, BATCH):
        index = np.arange(start, start + BATCH) % samples
        part = {name: value[index] for name, value in moving.items()}
        parts.append(
            _followed(gradient, part, {name: value[index] for name, value in fixed.items()}, order[index], steps)
        )
    return {**fixed, **{name: np.concatenate([part[name] for part in parts])[:samples] for name in moving}}


def drawn(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Leaves for images (N, C, H, W), standard normal values for anything else; the deviation is one."""
    if len(shape) == 4:
        return leaves(shape, rng)
    return rng.standard_normal(shape).astype(np.float32)


def leaves(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Ellipses and rectangles of any size and colour fallen on one another, (N, C, H, W): the dead leaves model.

    The number of leaves larger than r falls as 1 / r^2, which makes the pictures look the same at every scale (Lee, Mumford and
    Huang 2001). Channels of a leaf are alike, as those of photographs are.
    """
    samples, channels, *size = shape
    side = min(size)
    row, column = (axis.astype(np.float32) for axis in np.mgrid[: size[0], : size[1]])
    radii = np.minimum(SMALLEST_LEAF * side / np.sqrt(1 - rng.random((LEAVES, samples))), LARGEST_LEAF * side)
    image = _colours(samples, channels, rng) * np.ones((1, 1, *size), np.float32)
    for radius in -np.sort(-radii, axis=0)[..., None, None]:
        y, x = (rng.uniform(0, n, (samples, 1, 1)).astype(np.float32) for n in size)
        turn, narrow = rng.uniform(0, np.pi, (samples, 1, 1)), rng.uniform(0.4, 1, (samples, 1, 1))
        along = ((row - y) * np.cos(turn) + (column - x) * np.sin(turn)) / radius
        across = ((column - x) * np.cos(turn) - (row - y) * np.sin(turn)) / (radius * narrow)
        round_ = rng.random((samples, 1, 1)) < 0.5
        covered = np.where(round_, along**2 + across**2, np.maximum(np.abs(along), np.abs(across))) < 1
        image = np.where(covered[:, None], _colours(samples, channels, rng), image)
    return np.asarray(image / image.std(), np.float32)


def _colours(samples: int, channels: int, rng: np.random.Generator) -> Array:
    grey, tint = rng.standard_normal((samples, 1, 1, 1)), rng.standard_normal((samples, channels, 1, 1))
    return np.asarray(grey + TINT * tint, np.float32)


def _followed(
    gradient: Any, part: dict[str, Array], fixed: Mapping[str, Array], seeds: Array, steps: int
) -> dict[str, Array]:
    optimiser = optax.adam(RATE)
    moving: Any = {name: jnp.asarray(value) for name, value in part.items()}
    state = optimiser.init(moving)
    for _ in range(steps):
        updates, state = optimiser.update(gradient(moving, fixed, seeds), state)
        moving = optax.apply_updates(moving, updates)
    return {name: np.asarray(value) for name, value in moving.items()}


def _loss(graph: Graph) -> Any:
    """Distance of batch statistics from the stored ones, doubt about a class, roughness of images."""
    norms = [node for node in graph.nodes if _is_norm(node, graph)]
    run = forward(graph, outputs=[graph.outputs[reached(graph)[0]].name, *(node.inputs[0] for node in norms)])

    def loss(moving: Mapping[str, Any], fixed: Mapping[str, Any], seeds: Any) -> Any:
        answer, *inner = run({}, {**moving, **fixed})
        total = sum((_statistics(x, node, graph) for x, node in zip(inner, norms, strict=True)), jnp.float32(0))
        total = STATISTICS * total / max(1, len(norms)) + ROUGHNESS * sum(_roughness(x) for x in moving.values())
        if answer.ndim == 2 and answer.shape[1] > 1:
            labels = seeds % answer.shape[1]
            total += CONFIDENCE * optax.softmax_cross_entropy_with_integer_labels(answer, labels).mean()
        return total

    return loss


def _is_norm(node: Node, graph: Graph) -> bool:
    return node.op == "BatchNormalization" and all(name in graph.initializers for name in node.inputs[3:5])


def _statistics(x: Any, node: Node, graph: Graph) -> Any:
    """Squared distance of the channels' means and deviations from the stored ones, in units of the stored deviation."""
    mean, variance = (jnp.asarray(graph.initializers[name]) for name in node.inputs[3:5])
    axes = (0, *range(2, x.ndim))
    deviation = jnp.sqrt(variance + 1e-5)
    shift = (x.mean(axes) - mean) / deviation
    scale = jnp.sqrt(x.var(axes) + 1e-5) / deviation - 1
    return (jnp.square(shift) + jnp.square(scale)).mean()


def _roughness(x: Any) -> Any:
    """Mean squared difference of neighbouring pixels; zero for what is no image."""
    if x.ndim != 4:
        return jnp.float32(0)
    return jnp.square(jnp.diff(x, axis=2)).mean() + jnp.square(jnp.diff(x, axis=3)).mean()
