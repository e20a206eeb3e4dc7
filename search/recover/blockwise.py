"""Repair of whole blocks: all weights of a block move at once towards what the dense block gives.

`search.recover.least_squares` refits one linear map after another, each towards its own dense output, which a narrower map
cannot reach. What counts is what leaves the block. Here the repaired block is linearised in its weights W, and the least squares
in all of them,

    minimise over d  |f(W, X) + J s d - Y|^2 + lambda |Y|^2 |d|^2,

is solved by conjugate gradients: a Gauss-Newton step (Nocedal & Wright, "Numerical Optimization", 2006, section 10.3). X is what
the pruned network gives the block, Y what the dense block gives behind its activation, s the size of each weight tensor. The few
iterations leave alone what hardly shows in Y; lambda only holds what does not show at all. Blocks are taken in order, so that
each also mends what earlier ones lost. No label, one pass over the blocks.

Source: block reconstruction (Li et al., "BRECQ", 2021, section 3.2), here in closed form about the repaired weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.sparse.linalg import LinearOperator, cg

from search.errors import InvalidModel
from search.graph import fuse
from search.graph.execute import batches, forward
from search.graph.execute import shapes as shapes_of
from search.graph.ir import Array, Graph, Node, TensorInfo
from search.plan import Candidate
from search.prune.groups import Groups
from search.recover.deployed import cut_graph, made_zeros
from search.recover.descent import replicate, scatter
from search.recover.loss import Batch
from search.recover.rectified import Bounds
from search.recover.spread import spread
from search.recover.teacher import Teacher, tunable
from search.recover.train import matched_values

ITERATIONS = 50
"""Of conjugate gradients. A ResNet-20 repaired to 3.05x had lost 15.1 points on unseen images after the repair of single layers,
13.9 after 25 iterations, 12.8 after 50."""
MOST_ROWS = 1 << 16
"""Positions of a block's output that are matched, of all samples together: blocks with large maps need few samples. Four times as
many mend no more."""
BATCH = 64
DAMPING = 1e-6
"""lambda. A channel may be scaled up and its readers down, which changes nothing: rounding would move these at random."""
TOLERANCE = 1e-3
"""Of the equations' remainder, where fewer iterations do."""
MOST_MACS = 6e12
"""Of a candidate's repair, about two minutes on two cores; larger networks keep the repair of single layers."""
PASSES = 4
"""Forward passes that an iteration takes as long as: the block, its Jacobian, and that transposed."""


NO_GRADIENT = (InvalidModel, NotImplementedError, TypeError, ValueError)
"""What JAX, or the lowering of a node, raises where something cannot be differentiated or transposed."""


@dataclasses.dataclass(frozen=True)
class Stretch:
    """The part of a network between two values that are matched."""

    graph: Graph
    """Its inputs are what earlier stretches give it; its first output is the value, the others are what later ones read."""
    weights: tuple[str, ...]
    """Those that may move."""

    @property
    def value(self) -> str:
        """What is matched."""
        return self.graph.outputs[0].name

    @property
    def inputs(self) -> list[str]:
        """What it reads."""
        return [info.name for info in self.graph.inputs]


def stretches(graph: Graph, values: Sequence[str], static: Collection[str]) -> list[Stretch]:
    """A network in stretches that end in the given values; what depends on shapes only is in each that needs it.

    Args:
        graph: the network.
        values: names of activations, in the order of the graph.
        static: values that do not depend on the data.
    """
    parts: list[list[Node]] = []
    given = {info.name for info in graph.inputs}
    for value in values:
        parts.append(_between(graph, value, given))
        given |= {name for node in parts[-1] for name in node.outputs if name not in static}
    return [_stretch(graph, value, parts[i], parts[i + 1 :]) for i, value in enumerate(values)]


def _between(graph: Graph, value: str, given: Collection[str]) -> list[Node]:
    """Nodes in order that a value depends on, but for those that made what is given."""
    wanted, nodes = {value}, []
    for node in reversed(graph.nodes):
        if any(name in wanted and name not in given for name in node.outputs):
            nodes.append(node)
            wanted.update(node.inputs)
    return nodes[::-1]


def _stretch(graph: Graph, value: str, nodes: Sequence[Node], later: Sequence[Sequence[Node]]) -> Stretch:
    made = {name for node in nodes for name in node.outputs}
    read = {name for node in nodes for name in node.inputs if name}
    read_later = {name for part in later for node in part for name in node.inputs}
    inputs = sorted(read - made - graph.initializers.keys())
    outputs = [value, *sorted((made & read_later) - {value})]
    infos = [tuple(TensorInfo(name, np.dtype(np.float32), ()) for name in of_part) for of_part in (inputs, outputs)]
    part = graph.replace(nodes=tuple(nodes), inputs=infos[0], outputs=infos[1])
    return Stretch(part, tunable(part))


class BlockRepairer:
    """Holds what the dense network's blocks give; repairs any number of candidates against it."""

    def __init__(self, graph: Graph, groups: Groups, feeds: Mapping[str, Array]) -> None:
        """One pass of the dense network over the calibration samples.

        Args:
            graph: the dense network.
            groups: its coupling.
            feeds: calibration samples.
        """
        self.shapes, self.feeds = groups.shapes, dict(feeds)
        order = {name: i for i, node in enumerate(graph.nodes) for name in node.outputs}
        found = {_behind(graph, value) for value in matched_values(graph, groups.shapes)}
        self.values = sorted(found | {graph.outputs[0].name}, key=order.__getitem__)
        """Where blocks end, and the first output."""
        outputs, inner = Teacher(graph, groups.shapes, self.values)(feeds)
        made = {**inner, graph.outputs[0].name: outputs[0]}
        self.targets = {value: made[value][: self._samples(value)].copy() for value in self.values}

    def _samples(self, value: str) -> int:
        shape = self.shapes[value]
        positions = int(np.prod(shape[2:] if len(shape) == 4 else shape[1:-1]))
        return min(max(BATCH, MOST_ROWS // positions), len(next(iter(self.feeds.values()))))

    def repair(self, candidate: Candidate) -> dict[str, Array]:
        """Full-sized initializers of a repaired candidate that differ from its graph's, its blocks refitted in order.

        As they were where the network is too large, see `MOST_MACS`; zeros that pruning made stay.
        """
        graph = cut_graph(candidate)
        shapes, static = shapes_of(graph, {name: self.shapes[name] for name in self.feeds})
        values = [value for value in self.values if value in shapes and value not in static]
        parts = stretches(graph, values, static)
        macs = {part.value: sum(w.macs for w in fuse.workloads(part.graph, shapes, static)) for part in parts}
        if ITERATIONS * PASSES * sum(macs[value] * len(self.targets[value]) for value in values) > MOST_MACS:
            return dict(candidate.params)
        masks, params, alive = made_zeros(candidate), dict(graph.initializers), self.feeds
        for i, part in enumerate(parts):
            given = {name: alive[name] for name in part.inputs}
            found, moved = self._refitted(part, given, params, masks, self._wanted(part.value, candidate, shapes))
            params.update(moved)
            read_later = {name for later in parts[i + 1 :] for name in later.inputs}
            alive = {name: value for name, value in {**alive, **found}.items() if name in read_later}
        changed = {name: value for name, value in params.items() if value is not graph.initializers[name]}
        full = candidate.variant.graph.with_initializers(candidate.params)
        return {**candidate.params, **spread(changed, full, candidate.variant.groups, candidate.keep)}

    def _wanted(self, value: str, candidate: Candidate, shapes: Mapping[str, tuple[int, ...]]) -> Array | None:
        """The dense network's value, of the units that stay; None where the two cannot be compared."""
        groups, target = candidate.variant.groups, self.targets[value]
        stays = ~groups.removed(candidate.keep)[groups.value_ids[value]]
        for axis in range(1, stays.ndim):
            others = tuple(other for other in range(stays.ndim) if other != axis)
            target = np.compress(stays.any(others), target, axis=axis)
        return target if target.shape[1:] == shapes[value][1:] else None

    def _refitted(
        self,
        part: Stretch,
        given: Mapping[str, Array],
        params: Mapping[str, Array],
        masks: Mapping[str, Array],
        wanted: Array | None,
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """What a stretch gives, and those of its weights that moved: none where the step misses the target by more."""
        run = jax.jit(forward(part.graph))

        def outputs(weights: Mapping[str, Array]) -> dict[str, Array]:
            made = [[np.asarray(value) for value in run(weights, batch)] for batch in batches(given, BATCH)]
            count = len(next(iter(given.values())))
            names = [info.name for info in part.graph.outputs]
            return {name: np.concatenate([each[i] for each in made])[:count] for i, name in enumerate(names)}

        start = {name: params[name] for name in part.weights}
        before = outputs(start)
        if wanted is None or not start:
            return before, {}
        moved = Step(part, start, masks).weights(given, wanted)
        after = outputs(moved)
        errors = [np.square(found[part.value][: len(wanted)] - wanted).mean() for found in (before, after)]
        return (after, moved) if errors[1] < errors[0] else (before, {})


def _behind(graph: Graph, value: str) -> str:
    """The value, or what the activation makes of it that alone reads it."""
    return value if Bounds.behind(graph, value) is None else graph.consumers()[value][0].outputs[0]


class Step:
    """A Gauss-Newton step of one stretch."""

    def __init__(self, part: Stretch, start: Mapping[str, Array], masks: Mapping[str, Array]) -> None:
        """Nothing is compiled until it is used.

        Args:
            part: the part of the network.
            start: its weights.
            masks: weights whose entries outside the mask (same shape, bool) stay as they are.
        """
        self.start = replicate(dict(start))
        everything = np.ones((), bool)
        self.scale = {
            name: np.sqrt(np.square(value).mean()) * masks.get(name, everything) for name, value in start.items()
        }
        flat, self._unravel = ravel_pytree(self.start)
        self.size = flat.size
        run = forward(part.graph)

        def gradient(moves: Any, batch: Batch, missed: Any) -> Any:
            """With ``missed`` 1 half that of the linearised error, s J' (f + J s moves - Y); with 0 its linear part."""
            nowhere = jax.tree.map(jnp.zeros_like, moves)
            found, back = jax.vjp(lambda m: run(self._moved(m), batch.feeds)[0], nowhere)
            forth = jax.linear_transpose(lambda y: back(y)[0], found)  # jax.jvp does not know gradients of our own
            return back(forth(moves)[0] + missed * (found - batch.answers[0]))[0]

        self._gradient = jax.jit(gradient)

    def _moved(self, moves: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value + self.scale[name] * moves[name] for name, value in self.start.items()}

    def weights(self, given: Mapping[str, Array], wanted: Array) -> dict[str, Array]:
        """Weights after the step; those of the start where an operator has no gradient.

        Args:
            given: inputs of the stretch, (N, ...).
            wanted: what its value should be for the first of them, (M, ...); samples beyond full batches are left out.
        """
        size = min(BATCH, len(wanted))
        starts = range(0, len(wanted) - size + 1, size)
        data = [
            scatter(Batch({k: x[i : i + size] for k, x in given.items()}, [wanted[i : i + size]], {}, None))
            for i in starts
        ]

        try:
            jax.eval_shape(self._gradient, self.start, data[0], np.float32(1))
        except NO_GRADIENT:
            return {name: np.asarray(value) for name, value in self.start.items()}

        def gradient(flat: Any, missed: float) -> Any:
            moves = self._unravel(flat.astype(np.float32))
            parts = [ravel_pytree(self._gradient(moves, batch, np.float32(missed)))[0] for batch in data]
            return np.sum([np.asarray(part, np.float64) for part in parts], 0)

        nowhere = np.zeros(self.size)
        weight = DAMPING * float(np.square(wanted).sum())
        curvature = LinearOperator(
            (self.size, self.size), lambda flat: gradient(flat, 0.0) + weight * flat, dtype=np.float64
        )
        step, _ = cg(curvature, -gradient(nowhere, 1.0), rtol=TOLERANCE, maxiter=ITERATIONS)
        moved = self._moved(self._unravel(jnp.asarray(step, np.float32)))
        return {name: np.asarray(value, np.float32) for name, value in moved.items()}
