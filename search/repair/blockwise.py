"""Repair of whole blocks: all weights of a block move at once towards what the dense block gives.

`search.repair.least_squares` refits one linear map after another, each towards its own dense output, which a narrower map
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
import functools
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.sparse.linalg import LinearOperator, cg

from search.graph.ir import Array, Graph, Node, TensorInfo, is_float
from search.graph.run import fuse
from search.graph.run.execute import batches, forward, needed
from search.graph.run.execute import shapes as shapes_of
from search.graph.sampling import Sampling
from search.input.outputs import reached
from search.repair.rectified import Bounds
from search.space.groups import Groups
from search.space.plan import Candidate
from search.space.uncut import spread
from search.train.deployed import cut_graph, made_zeros
from search.train.descent import replicate, scatter
from search.train.loss import Batch
from search.train.teacher import Teacher, tunable
from search.train.trainer import matched_values, samples_that_train
from search.wire.errors import InvalidModel

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
    given = {info.name for info in graph.inputs} | {""}  # an operand that is left out needs nobody
    for value in values:
        parts.append(needed(graph, [value], given))
        given |= _made(parts[-1]) - set(static)
    later = [_read(itertools.chain(*parts[i + 1 :])) - set(static) for i in range(len(parts))]
    return [_stretch(graph, *of_part) for of_part in zip(values, parts, later, strict=True)]


def _stretch(graph: Graph, value: str, nodes: Sequence[Node], read_later: Collection[str]) -> Stretch:
    inputs = sorted(_read(nodes) - _made(nodes) - graph.initializers.keys())
    outputs = [value, *sorted(_made(nodes) & set(read_later) - {value})]
    infos = [tuple(TensorInfo(name, np.dtype(np.float32), ()) for name in of_part) for of_part in (inputs, outputs)]
    sampling = graph.sampling if graph.sampling.native else Sampling.of_chunks(*infos)
    part = graph.replace(nodes=tuple(nodes), inputs=infos[0], outputs=infos[1], sampling=sampling)
    return Stretch(part, tunable(part))


def _made(nodes: Iterable[Node]) -> set[str]:
    return {name for node in nodes for name in node.outputs if name}


def _read(nodes: Iterable[Node]) -> set[str]:
    return {name for node in nodes for name in node.inputs if name}


class BlockRepairer:
    """Repairs any number of candidates against what the dense network's blocks give."""

    def __init__(self, graph: Graph, groups: Groups, feeds: Mapping[str, Array]) -> None:
        """Nothing is computed until a candidate asks for it.

        Args:
            graph: the dense network.
            groups: its coupling.
            feeds: calibration samples.
        """
        self.native = graph.sampling.native
        self.feeds = dict(feeds if self.native else graph.sampling.chunks(feeds))
        self.graph, self.groups = self._of_chunks(graph), groups
        order = {name: i for i, node in enumerate(graph.nodes) for name in node.outputs}
        found = {_behind(graph, value) for value in matched_values(graph, groups.shapes)}
        outputs = (graph.outputs[position] for position in reached(graph))
        found.update(info.name for info in outputs if info.name in order and is_float(info.dtype))
        self.values = sorted(found, key=order.__getitem__)
        """Where blocks end, and the outputs that say something of the weights."""

    def _of_chunks(self, graph: Graph) -> Graph:
        """A graph that is not native as a function of single chunks, each of which is one sample here."""
        if self.native:
            return graph
        return graph.replace(sampling=Sampling.of_chunks(graph.inputs, graph.outputs))

    def _samples(self, value: str) -> int:
        """As many as give `MOST_ROWS` positions: elements a sample over the units that they belong to."""
        units = len(np.unique(self.groups.value_ids[value]))
        positions = max(1, math.prod(self.groups.shapes[value]) // units)
        return min(max(BATCH, MOST_ROWS // positions), len(next(iter(self.feeds.values()))))

    @functools.cached_property
    def _targets(self) -> dict[str, Array]:
        """What the dense network gives for the first samples."""
        teacher = Teacher(self.graph, self.groups.shapes, self.values)
        samples = {value: self._samples(value) for value in self.values}
        parts: dict[str, list[Array]] = {value: [] for value in self.values}
        for first in range(0, max(samples.values()), BATCH):
            _, inner = teacher({name: x[first : first + BATCH] for name, x in self.feeds.items()})
            for value, made in inner.items():
                if first < samples[value]:
                    each = made if self.native else made.reshape(-1, *self.groups.shapes[value])
                    parts[value].append(each[: samples[value] - first].copy())
        return {value: np.concatenate(of_value) for value, of_value in parts.items()}

    def repair(self, candidate: Candidate, check: Callable[[], None] = lambda: None) -> dict[str, Array]:
        """Full-sized initializers of a repaired candidate that differ from its graph's, its blocks refitted in order.

        They are as they were where the network is too large (`MOST_MACS`), where its weights are no float32, or where samples do
        not stay apart on the first axis of what goes from block to block. Zeros that pruning made stay.

        Args:
            candidate: repaired layer by layer.
            check: called every second or so; what it raises ends the repair.
        """
        graph = self._of_chunks(cut_graph(candidate))
        shapes, static = self._shapes(graph, 1)
        twice, _ = self._shapes(graph, 2)

        def samples_first(name: str) -> bool:
            if name not in shapes or not self.native:
                return name in shapes
            return shapes[name][:1] == (1,) and twice[name] == (2, *shapes[name][1:])

        values = [value for value in self.values if value not in static and samples_first(value)]
        parts = stretches(graph, values, static)
        samples = {part.value: self._samples(part.value) for part in parts}
        macs = {part.value: sum(w.macs for w in fuse.workloads(part.graph, shapes, static)) for part in parts}
        whole = all(samples_first(name) for part in parts for name in part.inputs)
        plain = all(graph.initializers[name].dtype == np.float32 for part in parts for name in part.weights)
        if not (whole and plain) or ITERATIONS * PASSES * sum(macs[v] * samples[v] for v in macs) > MOST_MACS:
            return dict(candidate.params)
        masks, params, alive = made_zeros(candidate), dict(graph.initializers), self.feeds
        for i, part in enumerate(parts):
            check()
            given = {name: alive[name] for name in part.inputs}
            batch = min(BATCH, samples[part.value], samples_that_train(part.graph, shapes))
            step = Step(part, {name: params[name] for name in part.weights}, masks, batch=batch, check=check)
            found, moved = _refitted(step, given, self._wanted(part.value, candidate, shapes))
            params.update(moved)
            read_later = {name for later in parts[i + 1 :] for name in later.inputs}
            alive = {name: value for name, value in {**alive, **found}.items() if name in read_later}
        changed = {name: value for name, value in params.items() if value is not graph.initializers[name]}
        full = candidate.variant.graph.with_initializers(candidate.params)
        return {**candidate.params, **spread(changed, full, candidate.variant.groups, candidate.keep)}

    def _shapes(self, graph: Graph, samples: int) -> tuple[dict[str, tuple[int, ...]], dict[str, Array]]:
        return shapes_of(graph, graph.sampling.shapes({name: x.shape[1:] for name, x in self.feeds.items()}, samples))

    def _wanted(self, value: str, candidate: Candidate, shapes: Mapping[str, tuple[int, ...]]) -> Array | None:
        """The dense network's value, of the units that stay; None where the two cannot be compared."""
        groups, target = candidate.variant.groups, self._targets[value]
        stays = ~groups.removed(candidate.keep)[groups.value_ids[value]]
        own = 1 if self.native else 0  # the first axis of a value that is not the samples'
        for axis in range(own, stays.ndim):
            others = tuple(other for other in range(stays.ndim) if other != axis)
            target = np.compress(stays.any(others), target, axis=axis + 1 - own)
        return target if target.shape[1:] == shapes[value][own:] else None


def _refitted(
    step: Step, given: Mapping[str, Array], wanted: Array | None
) -> tuple[dict[str, Array], dict[str, Array]]:
    """What a stretch gives, and those of its weights that moved: none where the step misses the target by more."""
    before = step.outputs(step.start, given)
    if wanted is None or not step.start:
        return before, {}
    moved = step.weights(given, wanted)
    after = step.outputs(moved, given)
    value = step.part.value
    errors = [np.square(found[value][: len(wanted)] - wanted).mean() for found in (before, after)]
    return (after, moved) if errors[1] < errors[0] else (before, {})


def _behind(graph: Graph, value: str) -> str:
    """The value, or what the activation makes of it that alone reads it."""
    return value if Bounds.behind(graph, value) is None else graph.consumers()[value][0].outputs[0]


class Step:
    """A Gauss-Newton step of one stretch."""

    def __init__(
        self,
        part: Stretch,
        start: Mapping[str, Array],
        masks: Mapping[str, Array],
        *,
        batch: int = BATCH,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing is compiled until it is used.

        Args:
            part: the part of the network.
            start: its weights.
            masks: weights whose entries outside the mask (same shape, bool) stay as they are.
            batch: samples that are computed at once.
            check: called once an iteration; what it raises ends the step.
        """
        self.part, self.start, self.batch, self.check = part, dict(start), batch, check
        everything = np.ones((), bool)
        self.scale = {n: np.sqrt(np.square(value).mean()) * masks.get(n, everything) for n, value in start.items()}
        flat, self._unravel = ravel_pytree({name: jnp.asarray(value) for name, value in start.items()})
        self.size = flat.size
        run = forward(part.graph)
        self._run = jax.jit(run)

        def gradient(weights: Any, moves: Any, batch: Batch, missed: Any) -> Any:
            """With ``missed`` 1 half that of the linearised error, s J' (f + J s moves - Y); with 0 its linear part."""
            nowhere = jax.tree.map(jnp.zeros_like, moves)
            found, back = jax.vjp(lambda m: run(self._moved(weights, m), batch.feeds)[0], nowhere)
            forth = jax.linear_transpose(lambda y: back(y)[0], found)  # jax.jvp does not know gradients of our own
            return back(forth(moves)[0] + missed * (found - batch.answers[0]))[0]

        self._gradient = jax.jit(gradient)

    def _moved(self, weights: Mapping[str, Any], moves: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value + self.scale[name] * moves[name] for name, value in weights.items()}

    def outputs(self, weights: Mapping[str, Array], given: Mapping[str, Array]) -> dict[str, Array]:
        """What the stretch gives to later ones, its value among it, by name.

        Args:
            weights: to run it with.
            given: its inputs, (N, ...).
        """
        count = len(next(iter(given.values())))
        made = [[np.asarray(value) for value in self._run(weights, part)] for part in batches(given, self.batch)]
        names = [info.name for info in self.part.graph.outputs]
        return {name: np.concatenate([each[i] for each in made])[:count] for i, name in enumerate(names)}

    def weights(self, given: Mapping[str, Array], wanted: Array) -> dict[str, Array]:
        """Weights after the step; those of the start where the value has no gradient.

        Args:
            given: inputs of the stretch, (N, ...).
            wanted: what its value should be for the first of them, (M, ...); samples beyond full batches are left out.
        """
        starts = range(0, len(wanted) - self.batch + 1, self.batch)
        parts = [slice(first, first + self.batch) for first in starts]
        data = [scatter(Batch({k: x[part] for k, x in given.items()}, [wanted[part]], {}, None)) for part in parts]
        weights, nowhere = replicate(self.start), np.zeros(self.size)
        try:
            jax.eval_shape(
                self._gradient, weights, self._unravel(jnp.asarray(nowhere, np.float32)), data[0], np.float32(1)
            )
        except NO_GRADIENT:
            return dict(self.start)

        def gradient(flat: Array, missed: float) -> Array:
            moves = replicate(self._unravel(jnp.asarray(flat, np.float32)))
            total = np.zeros(self.size)
            for batch in data:  # one by one: sums over devices that wait for each other's threads never end
                total += np.asarray(ravel_pytree(self._gradient(weights, moves, batch, np.float32(missed)))[0])
            return total

        weight = DAMPING * float(np.square(wanted).sum())
        curvature = LinearOperator(
            (self.size, self.size), lambda flat: gradient(flat, 0.0) + weight * flat, dtype=np.float64
        )
        step, _ = cg(
            curvature, -gradient(nowhere, 1.0), rtol=TOLERANCE, maxiter=ITERATIONS, callback=lambda _: self.check()
        )
        moves = self._unravel(jnp.asarray(step, np.float32))
        return {name: np.asarray(value, np.float32) for name, value in self._moved(self.start, moves).items()}
