"""Repair without training: walk the pruned network once and refit every weight in closed form.

Each linear map is refitted, in order, so that its output is again what the dense network had there, given the inputs that
the pruned network really sees. A branch that ends in a residual addition is fitted to the dense *sum* minus the pruned
shortcut, so that it also mends what earlier layers lost. No label, no gradient, one pass.

Source: layer-wise reconstruction of pruned networks (He et al., "Channel Pruning", 2017, eq. 2; AdaPrune, Hubara et al. 2021),
solved sequentially, and once more for what the activations let through.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from search.graph.ir import Array, Graph, Node
from search.graph.limits import MAX_VALUE_ELEMENTS
from search.graph.ops.linear_map import Linear
from search.graph.run.stepwise import Stepwise
from search.graph.sampling import joined
from search.repair.moments import Equations, Moments, ridge
from search.repair.rectified import Bounds
from search.space.blocks import Block, Variant, with_stand_ins
from search.space.groups import Groups, Keep
from search.space.linear import linear_of
from search.space.structures.pattern import Zeros, zeros_among
from search.space.structures.sparse import damped
from search.space.surgery import mask

DAMPING = 1e-2
"""Ridge in units of the mean diagonal, as group OBS uses (METHODS: lambda about 1e-2)."""
STAND_IN_DAMPING = 1e-3
"""The prior of a stand-in is nothing, so it is pulled less."""
FEWEST_SAMPLES = 16
"""For calibration, where so many can be run at once at all."""
MOST_ROWS = 16_384
"""Rows of a least squares: on ResNet-20 twice as many mend no more, while half the samples mend clearly less."""
WIDE_INPUTS, FEWEST_ROWS = 1_152, 4_096
"""Inputs above which two rows each are enough, and how many always are: products of rows grow with the square of the inputs,
and on an EfficientNet 4,096 rows a layer mend as much as 16,384."""
MOST_INPUTS = 8_192
"""Inputs of a map that is refitted: beyond it there are fewer rows than inputs, and the equations alone take gigabytes."""


@dataclasses.dataclass(frozen=True)
class Target:
    """What a linear map should give: rows of the dense network at some positions."""

    linear: Linear
    positions: Array
    value: str
    """The value that is matched: the map's own output, or the residual sum that it ends in."""
    rows: Array
    """(groups, R, m), of ``value`` in the dense network."""
    bounds: Bounds | None
    """What the activation behind ``value`` cuts off."""
    moments: Moments
    """Of the dense network's inputs and the map's own outputs, over all maps that have this weight and bias."""
    uses: int = 1
    """Maps that have this weight and bias: the steps of a recurrence that was written out, say."""


_Key = tuple[str, str, tuple[int, ...]]


def _key(linear: Linear, weights: Mapping[str, Array]) -> _Key:
    """The same for maps that have a weight and a bias in common, and read the weight alike."""
    return linear.weight, linear.bias, linear.matrix(weights).shape


def _of_all(rows: Sequence[tuple[Array, Array]]) -> Moments:
    """Moments of the rows of several maps, inputs (groups, R, d) and outputs (groups, R, m) each."""
    return Moments.of(*(np.concatenate(parts, 1) for parts in zip(*rows, strict=True)))


class Repairer:
    """Holds the dense network's targets; repairs any number of candidates against them."""

    def __init__(
        self,
        graph: Graph,
        groups: Groups,
        feeds: Mapping[str, Array],
        *,
        rng: np.random.Generator,
        blocks: Sequence[Block] = (),
    ) -> None:
        """One pass of the dense network over the calibration samples.

        Args:
            graph: the dense network.
            groups: its coupling.
            feeds: calibration samples.
            rng: chooses the output positions that are looked at.
            blocks: residual blocks whose stand-ins are fitted as well.
        """
        self.dense = Variant(graph, groups)
        self.feeds = {name: jax.numpy.asarray(value) for name, value in feeds.items()}
        self.stepwise = Stepwise()
        self._sums = _residual_sums(graph, groups.shapes)
        exits = {node.name: block.exit for block in blocks for node in block.stand_ins.values()}
        self.targets = self._measure(with_stand_ins(graph, blocks), exits, rng)
        self.stand_ins = self._stand_ins(blocks)
        """Initializers of every stand-in, fitted to the dense block given the dense inputs."""

    def _measure(self, graph: Graph, exits: Mapping[str, str], rng: np.random.Generator) -> dict[str, Target]:
        """Rows and moments for every linear map of the network, and for stand-ins, which should give their block's exit."""
        weights = graph.initializers
        pending: dict[str, tuple[Linear, Array]] = {}
        measured: dict[str, tuple[Linear, Array]] = {}
        found: dict[str, tuple[Linear, Array, str, Array, Bounds | None]] = {}
        rows_of: dict[_Key, list[tuple[Array, Array]]] = {}
        moments: dict[_Key, Moments] = {}
        uses = Counter(_key(linear, weights) for node in graph.nodes if (linear := linear_of(node, graph)) is not None)

        def visit(node: Node, values: dict[str, Any]) -> None:
            linear = linear_of(node, graph)
            if linear is not None and linear.matrix(weights).shape[1] <= MOST_INPUTS:
                linear = dataclasses.replace(linear, output=exits.get(node.name, linear.output))
                pending[node.name] = (linear, self._seen(linear, values[node.inputs[0]]))

        for _, values in self.stepwise.walk(graph, {}, self.feeds, visit):
            for name, (linear, x) in list(pending.items()):
                if linear.output in values:
                    del pending[name]
                    y = self._seen(linear, values[linear.output])
                    inputs = linear.matrix(weights).shape[1]
                    positions, key = linear.positions(y.shape, len(y), rows_for(inputs), rng), _key(linear, weights)
                    x_rows = linear.input_rows(x, weights, positions, y.shape[2:])
                    some = slice(None, None, max(1, uses[key] * x_rows.shape[1] // rows_for(inputs)))
                    rows_of.setdefault(key, []).append((x_rows[:, some], linear.output_rows(y, positions)[:, some]))
                    if len(rows_of[key]) == uses[key]:
                        moments[key] = _of_all(rows_of.pop(key))
                    measured[name] = (linear, positions)
            for name, (linear, positions) in list(measured.items()):
                if (value := self._sums.get(name, linear.output)) in values:
                    del measured[name]
                    rows = linear.output_rows(self._seen(linear, values[value]), positions)
                    found[name] = (linear, positions, value, rows, Bounds.behind(graph, value))
        moments |= {key: _of_all(rows) for key, rows in rows_of.items()}  # of maps that have no output of their own
        return {
            name: Target(*seen, moments=moments[key], uses=uses[key])
            for name, seen in found.items()
            for key in [_key(seen[0], weights)]
        }

    def _seen(self, linear: Linear, value: Any) -> Array:
        """A value as a map looks at it, (N, ...); a stack of chunks as (K, ...), of images as (K n, C, ...)."""
        stacked = linear.spatial and not self.dense.graph.sampling.native
        return np.asarray(joined(value) if stacked else value)

    def _stand_ins(self, blocks: Sequence[Block]) -> dict[str, Array]:
        fitted: dict[str, Array] = {}
        for block in blocks:
            fitted.update({name: np.zeros(shape, np.float32) for name, shape in block.weights.items()})
            for node in block.stand_ins.values():
                linear, moments = self.targets[node.name].linear, self.targets[node.name].moments
                nothing = linear.matrix(fitted).astype(np.float64)
                linear.write(*ridge(moments, nothing, damping=STAND_IN_DAMPING, intercept=bool(linear.bias)), fitted)
        return fitted

    def compensated(self, keep: Keep) -> dict[str, Array]:
        """Weights of the consumers of cut units, refitted to their own dense outputs as if only they had changed.

        Equals the OBS update for the whole set at once: W_K = W G[:, K] (G[K, K])^-1.
        """
        graph, groups = self.dense.graph, self.dense.groups
        params = mask(graph.initializers, groups, keep)
        todo = set(params)
        for target in self.targets.values():
            linear = target.linear
            if linear.weight in todo:
                todo.discard(linear.weight)
                full = {**graph.initializers, **params}
                stays = _inputs_that_stay(linear, full)
                _refit(linear, target.moments.of_inputs(stays), stays, full)
                params[linear.weight] = full[linear.weight]
                if linear.bias:
                    params[linear.bias] = full[linear.bias]
        return params

    def sparsified(self, zeros: Mapping[str, Zeros]) -> dict[str, Array]:
        """Weights with zeros, refitted to their own dense outputs as if only they had changed.

        Args:
            zeros: node name to the zeros of its weight.
        """
        params = dict(self.dense.graph.initializers)
        for node, of_node in zeros.items():
            target = self.targets[node]
            stays = _inputs_that_stay(target.linear, params)
            sparse = _Zeros(of_node, np.ones(target.rows.shape[2], bool))
            _refit(target.linear, target.moments.of_inputs(stays), stays, params, sparse)
        return _changes(params, self.dense.graph)

    def repair(
        self, keep: Keep, variant: Variant | None = None, zeros: Mapping[str, Zeros] | None = None
    ) -> dict[str, Array]:
        """Initializers of a masked network, refitted in order against the dense network.

        A weight that several maps have is refitted once, to what all of them give in the dense network.

        Args:
            keep: units that stay, of the variant's groups.
            variant: the network with blocks dropped or replaced; the dense one when None.
            zeros: node name to the zeros among those of its weights that are not cut.
        """
        variant = variant or self.dense
        graph = variant.graph
        masked = mask(graph.initializers, variant.groups, keep)
        params: dict[str, Array] = {**graph.initializers, **masked}
        changed: set[str] = set()
        shared: set[str] = set()
        sparse = _sparse_outputs(variant.groups, keep, zeros or {})

        def visit(node: Node, values: dict[str, Any]) -> None:
            target = self.targets.get(node.name)
            touched = node.name in variant.rewired or any(name in masked or name in changed for name in node.inputs)
            if touched or node.name in sparse:
                changed.update(node.outputs)
                if target is not None and target.uses == 1:
                    self._fit(target, node, variant, values, params, sparse.get(node.name))
                elif target is not None and target.linear.weight not in shared:
                    shared.add(target.linear.weight)
                    stays = _inputs_that_stay(target.linear, params)
                    _refit(target.linear, target.moments.of_inputs(stays), stays, params, sparse.get(node.name))

        for _ in self.stepwise.walk(graph, params, self.feeds, visit):
            pass
        return _changes(params, graph)

    def _fit(
        self,
        target: Target,
        node: Node,
        variant: Variant,
        values: Mapping[str, Any],
        params: dict[str, Array],
        sparse: _Zeros | None,
    ) -> None:
        linear = target.linear
        x = self._seen(linear, values[node.inputs[0]])
        out_size = variant.groups.shapes[node.outputs[0]][2:]
        added: Array | float = 0.0
        if target.value != linear.output and (other := _other_operand(variant.graph, target.value, linear.output)):
            added = linear.output_rows(self._seen(linear, values[other]), target.positions)
        wanted = target.rows - added
        stays = _inputs_that_stay(linear, params)
        x_rows = linear.input_rows(x, params, target.positions, out_size)[:, :, stays]
        moments = Moments.of(x_rows, wanted)
        equations = Equations(moments, damping=DAMPING, intercept=bool(linear.bias))
        if target.bounds is not None:
            solution, offset = equations.solve(moments, linear.matrix(params)[:, stays].astype(np.float64))
            predicted = x_rows @ solution.astype(np.float32) + offset.astype(np.float32)[:, None]
            moments = moments.with_outputs(x_rows, target.bounds.reachable(wanted, predicted, added))
        _refit(linear, moments, stays, params, sparse, equations)


@dataclasses.dataclass(frozen=True)
class _Zeros:
    """Zeros of a map's weight among the outputs that stay, a boolean vector."""

    zeros: Zeros
    outputs: Array


def _sparse_outputs(groups: Groups, keep: Keep, zeros: Mapping[str, Zeros]) -> dict[str, _Zeros]:
    """Node name to its zeros."""
    removed = groups.removed(keep)
    stays = {slot.node: ~removed[slot.ids] for slot in groups.slots if slot.role == "produces"}
    return {node: _Zeros(of_node, stays[node]) for node, of_node in zeros.items() if node in stays}


def _changes(params: Mapping[str, Array], graph: Graph) -> dict[str, Array]:
    return {name: value for name, value in params.items() if value is not graph.initializers.get(name)}


def _residual_sums(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """Linear node to the Add that is the only reader of its output and that comes when the other operand is there."""
    consumers = graph.consumers()
    order = {value: i for i, node in enumerate(graph.nodes) for value in node.outputs}
    sums: dict[str, str] = {}
    for node in graph.nodes:
        linear = linear_of(node, graph)
        readers = consumers.get(linear.output, []) if linear is not None else []
        if linear is None or len(readers) != 1 or readers[0].op != "Add":
            continue
        other = _other_operand(graph, readers[0].outputs[0], linear.output)
        if other is None or other in graph.initializers or shapes.get(other) != shapes[linear.output]:
            continue  # x + x, or a sum that broadcasts
        if order.get(other, -1) < order[node.outputs[0]]:
            sums[node.name] = readers[0].outputs[0]
    return sums


def _other_operand(graph: Graph, total: str, value: str) -> str | None:
    """The other operand of the sum that gives ``total``; None where the sum was dropped and ``value`` stands alone."""
    add = next((reader for reader in graph.nodes if total in reader.outputs), None)
    return None if add is None else next((name for name in add.inputs if name != value), None)


def _inputs_that_stay(linear: Linear, params: Mapping[str, Array]) -> Array:
    """(d,) inputs that the masked weight reads; the equations are solved for those alone."""
    return np.asarray((linear.matrix(params) != 0).any((0, 2)))


def _refit(
    linear: Linear,
    moments: Moments,
    stays: Array,
    params: dict[str, Array],
    sparse: _Zeros | None = None,
    equations: Equations | None = None,
) -> None:
    """Solve for the weights of the inputs that stay, of which ``moments`` are, and write them."""
    matrix = np.zeros(linear.matrix(params).shape)
    prior = linear.matrix(params)[:, stays].astype(np.float64)
    equations = equations or Equations(moments, damping=DAMPING, intercept=bool(linear.bias))
    solution, offset = equations.solve(moments, prior)
    if sparse is not None:
        hessian = damped(moments.gram[0], DAMPING)
        if not linear.bias:
            hessian = damped(moments.gram[0] + np.outer(moments.mean_x[0], moments.mean_x[0]), DAMPING)
        taps = math.prod(params[linear.weight].shape[2:])
        columns = np.flatnonzero(stays)
        solution[0] = zeros_among(solution[0].T, hessian, sparse.zeros, sparse.outputs, columns, taps).T
        offset = moments.mean_y - np.einsum("gd,gdm->gm", moments.mean_x, solution)
    matrix[:, stays] = solution
    linear.write(matrix, offset, params)


def rows_for(inputs: int) -> int:
    """Most rows of a least squares with so many inputs."""
    return MOST_ROWS if inputs <= WIDE_INPUTS else min(MOST_ROWS, max(FEWEST_ROWS, 2 * inputs))


def samples_that_fit(
    graph: Graph, shapes: Mapping[str, Sequence[int]], *, budget_bytes: int = 1 << 28, most: int = 1024
) -> int:
    """Calibration samples such that the largest activation of all of them stays within a budget."""
    largest = max(
        (int(np.prod(shapes[name])) for node in graph.nodes for name in node.outputs if name in shapes), default=1
    )
    fewest = min(FEWEST_SAMPLES, max(1, MAX_VALUE_ELEMENTS // largest))
    return int(np.clip(graph.sampling.chunk * budget_bytes // (4 * largest), fewest, most))
