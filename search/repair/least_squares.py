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
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from search.graph.ir import Array, Graph
from search.graph.ops.linear_map import Linear
from search.graph.run.parts import stop_by_stop
from search.repair.moments import Equations, Moments, ridge
from search.repair.rectified import Bounds
from search.repair.targets import measure, other_operand, seen
from search.space.blocks import Block, Variant, with_stand_ins
from search.space.groups import Groups, Keep
from search.space.linear import linear_of
from search.space.structures.pattern import Zeros, zeros_among
from search.space.structures.sparse import damped
from search.space.surgery import cut, mask
from search.space.uncut import spread

DAMPING = 1e-2
"""Ridge in units of the mean diagonal, as group OBS uses (METHODS: lambda about 1e-2)."""
STAND_IN_DAMPING = 1e-3
"""The prior of a stand-in is nothing, so it is pulled less."""


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
        exits = {node.name: block.exit for block in blocks for node in block.stand_ins.values()}
        self._batches, self.targets = measure(with_stand_ins(graph, blocks), groups, feeds, exits, rng)
        self.stand_ins = self._stand_ins(blocks)
        """Initializers of every stand-in, fitted to the dense block given the dense inputs."""

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
        graph, groups = variant.graph, variant.groups
        masked = mask(graph.initializers, groups, keep)
        params: dict[str, Array] = {**graph.initializers, **masked}
        sparse = _sparse_outputs(groups, keep, zeros or {})
        alone: list[str] = []
        shared: set[str] = set()
        for name in _touched(variant, masked, sparse):
            target = self.targets.get(name)
            if target is not None and target.uses == 1:
                alone.append(name)
            elif target is not None and target.linear.weight not in shared:
                shared.add(target.linear.weight)
                stays = _inputs_that_stay(target.linear, params)
                _refit(target.linear, target.moments.of_inputs(stays), stays, params, sparse.get(name))
        wide = graph.with_initializers(params)
        small = self._refitted(alone, cut(wide, groups, keep), groups, groups.removed(keep), zeros or {})
        return _changes({**params, **spread(small, wide, groups, keep)}, graph)

    def _refitted(
        self, names: Sequence[str], small: Graph, groups: Groups, removed: Array, zeros: Mapping[str, Zeros]
    ) -> dict[str, Array]:
        """Weights of some nodes of the cut network, refitted in order on what it really computes."""
        params = dict(small.initializers)
        nodes = {node.name: node for node in small.nodes}
        linears = {
            name: linear for name in names if name in nodes and (linear := linear_of(nodes[name], small)) is not None
        }
        others = {
            name: other
            for name, linear in linears.items()
            if (value := self.targets[name].value) != linear.output
            and (other := other_operand(small, value, linear.output))
        }
        stops = {
            name: [linear.node.inputs[0], *([others[name]] if name in others else [])]
            for name, linear in linears.items()
        }
        for name, batches in stop_by_stop(small, params, self._batches, stops):
            linear, target = linears[name], self.targets[name]
            out_size = groups.shapes[linear.node.outputs[0]][2:]
            x_rows = [
                linear.input_rows(seen(small, linear, values[stops[name][0]]), params, target.positions, out_size)
                for values in batches
            ]
            added = [
                linear.output_rows(seen(small, linear, values[others[name]]), target.positions)
                for values in batches
                if name in others
            ]
            ids = groups.value_ids.get(linear.output)  # none where no channel of it belongs to anything
            stays = None if ids is None else ~removed[_channel_ids(ids, linear.axis)]
            wanted = target.rows if stays is None else _of_outputs(target.rows, stays, linear.groups)
            _fit(linear, target.bounds, np.concatenate(x_rows, 1), wanted, added, params, zeros.get(name))
        return {name: value for name, value in params.items() if value is not small.initializers[name]}


def _touched(variant: Variant, masked: Collection[str], sparse: Collection[str]) -> Iterator[str]:
    """Nodes that compute something else than in the dense network, in order."""
    changed: set[str] = set(masked)
    for node in variant.graph.nodes:
        if node.name in variant.rewired or node.name in sparse or not changed.isdisjoint(node.inputs):
            changed.update(node.outputs)
            yield node.name


def _channel_ids(ids: Array, axis: int) -> Array:
    """Units of a value's channels, which stand along one axis: 0 where a channel belongs to none."""
    units: Array = np.moveaxis(ids, axis, -1).reshape(-1, ids.shape[axis]).max(0)
    return units


def _of_outputs(rows: Array, stays: Array, groups: int) -> Array:
    """Rows (dense groups, R, m) of the outputs that stay, a boolean vector over all, as (groups, R, m) of the cut map."""
    flat = rows.transpose(1, 0, 2).reshape(rows.shape[1], -1)[:, stays]
    return np.ascontiguousarray(flat.reshape(len(flat), groups, -1).transpose(1, 0, 2))


def _fit(
    linear: Linear,
    bounds: Bounds | None,
    x_rows: Array,
    wanted: Array,
    added: Sequence[Array],
    params: dict[str, Array],
    zeros: Zeros | None,
) -> None:
    """Refit one map of a cut network.

    Args:
        linear: the map.
        bounds: what the activation behind it cuts off.
        x_rows: its inputs (groups, R, d), as the cut network has them.
        wanted: (groups, R, m) of what it gives, or of the sum that it ends in.
        added: what the cut network adds to it in that sum, in parts of the rows; none where there is no sum.
        params: weights of the cut network; its own are replaced.
        zeros: those among its weights.
    """
    plus: Array | float = np.concatenate(added, 1) if added else 0.0
    wanted = wanted - plus
    stays = _inputs_that_stay(linear, params)
    x_rows = x_rows if stays.all() else x_rows[:, :, stays]
    moments = Moments.of(x_rows, wanted)
    equations = Equations(moments, damping=DAMPING, intercept=bool(linear.bias))
    if bounds is not None:
        solution, offset = equations.solve(moments, linear.matrix(params)[:, stays].astype(np.float64))
        predicted = x_rows @ solution.astype(np.float32) + offset.astype(np.float32)[:, None]
        moments = moments.with_outputs(x_rows, bounds.reachable(wanted, predicted, plus))
    sparse = None if zeros is None else _Zeros(zeros, np.ones(wanted.shape[2], bool))
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
