"""Repair without training: walk the pruned network once and refit every weight in closed form.

Each linear map is refitted, in order, so that its output is again what the dense network had there, given the inputs that
the pruned network really sees. A branch that ends in a residual addition is fitted to the dense *sum* minus the pruned
shortcut, so that it also mends what earlier layers lost. No label, no gradient, one pass.

Source: layer-wise reconstruction of pruned networks (He et al., "Channel Pruning", 2017, eq. 2; AdaPrune, Hubara et al. 2021),
solved sequentially.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from search.graph import flow
from search.graph.execute import apply_node
from search.graph.ir import Array, Graph, Node
from search.graph.ops import OPS
from search.prune.groups import Groups, Keep
from search.prune.surgery import mask
from search.recover.linear import Linear, Moments, ridge

DAMPING = 1e-2
"""Ridge in units of the mean diagonal, as group OBS uses (METHODS: lambda about 1e-2)."""
MOST_ROWS = 16_384
"""Rows of a least squares: on ResNet-20 twice as many mend no more, while half the samples mend clearly less."""


@dataclasses.dataclass(frozen=True)
class Target:
    """What a linear map should give: rows of the dense network at some positions."""

    linear: Linear
    positions: Array
    value: str
    """The value that is matched: the map's own output, or the residual sum that it ends in."""
    rows: Array
    """(groups, R, m), of ``value`` in the dense network."""
    moments: Moments
    """Of the dense network's inputs and the map's own outputs."""


class Repairer:
    """Holds the dense network's targets; repairs any number of candidates against them."""

    def __init__(self, graph: Graph, groups: Groups, feeds: Mapping[str, Array], *, rng: np.random.Generator) -> None:
        """One pass of the dense network over the calibration samples."""
        self.graph = graph
        self.groups = groups
        self.feeds = {name: jax.numpy.asarray(value) for name, value in feeds.items()}
        self.samples = len(next(iter(feeds.values())))
        self._steps = {node.name: _step(graph, node) for node in graph.nodes}
        self._last_use = _last_use(graph)
        self._sums = _residual_sums(graph, groups.shapes)
        self.targets = self._measure(rng)

    def _walk(
        self, params: Mapping[str, Array], visit: Callable[[Node, dict[str, Any]], None]
    ) -> Iterator[tuple[Node, dict[str, Any]]]:
        """Compute the network node by node, dropping values after their last use; ``visit`` may change ``params`` first."""
        values: dict[str, Any] = {**self.graph.initializers, **self.feeds}
        for position, node in enumerate(self.graph.nodes):
            if any(name not in self.graph.initializers for name in node.inputs if name):
                visit(node, values)
            inputs = {name: params.get(name, values[name]) for name in node.inputs if name}
            values.update(self._steps[node.name](inputs))
            yield node, values
            for name in self._last_use[position]:
                values.pop(name, None)

    def _measure(self, rng: np.random.Generator) -> dict[str, Target]:
        targets: dict[str, Target] = {}
        waiting: dict[str, tuple[Linear, Array, Moments]] = {}
        inputs: dict[str, Array] = {}

        def visit(node: Node, values: dict[str, Any]) -> None:
            if Linear.of(node, self.graph) is not None:
                inputs[node.name] = np.asarray(values[node.inputs[0]])

        for node, values in self._walk({}, visit):
            output = node.outputs[0]
            if node.name in inputs:
                linear = Linear.of(node, self.graph)
                assert linear is not None
                y = np.asarray(values[output])
                positions = linear.positions(y.shape, self.samples, MOST_ROWS, rng)
                x_rows = linear.input_rows(inputs.pop(node.name), self.graph.initializers, positions, y.shape[2:])
                y_rows = linear.output_rows(y, positions)
                moments = Moments.of(x_rows, y_rows)
                total = self._sums.get(node.name)
                if total is None:
                    targets[node.name] = Target(linear, positions, output, y_rows, moments)
                else:
                    waiting[total] = (linear, positions, moments)
            if output in waiting:
                linear, positions, moments = waiting.pop(output)
                rows = linear.output_rows(np.asarray(values[output]), positions)
                targets[linear.node.name] = Target(linear, positions, output, rows, moments)
        return targets

    def compensated(self, keep: Keep) -> dict[str, Array]:
        """Weights of the consumers of cut units, refitted to their own dense outputs as if only they had changed.

        Equals the OBS update for the whole set at once: W_K = W G[:, K] (G[K, K])^-1.
        """
        params = mask(self.graph.initializers, self.groups, keep)
        for target in self.targets.values():
            linear = target.linear
            if linear.weight in params:
                gone = _zero_rows(linear, params)
                moments = _without(target.moments, gone)
                full = {**self.graph.initializers, **params}
                _refit(linear, moments, full)
                params[linear.weight] = full[linear.weight]
                if linear.bias:
                    params[linear.bias] = full[linear.bias]
        return params

    def repair(self, keep: Keep) -> dict[str, Array]:
        """Initializers of the masked network, refitted in order against the dense network."""
        masked = mask(self.graph.initializers, self.groups, keep)
        params: dict[str, Array] = {**self.graph.initializers, **masked}
        changed: set[str] = set()

        def visit(node: Node, values: dict[str, Any]) -> None:
            target = self.targets.get(node.name)
            touched = any(name in masked for name in node.inputs) or any(name in changed for name in node.inputs)
            if touched:
                changed.update(node.outputs)
            if touched and target is not None:
                self._fit(target, node, values, params)

        for _ in self._walk(params, visit):
            pass
        return {name: value for name, value in params.items() if value is not self.graph.initializers.get(name)}

    def _fit(self, target: Target, node: Node, values: dict[str, Any], params: dict[str, Array]) -> None:
        linear = target.linear
        x = np.asarray(values[node.inputs[0]])
        out_hw = self.groups.shapes[node.outputs[0]][2:]
        wanted = target.rows
        if target.value != node.outputs[0]:
            other = values.get(_other_operand(self.graph, target.value, node))
            if other is None:
                return
            wanted = wanted - linear.output_rows(np.asarray(other), target.positions)
        gone = _zero_rows(linear, params)
        x_rows = linear.input_rows(x, params, target.positions, out_hw)
        _refit(linear, _without(Moments.of(x_rows, wanted), gone), params)


def _step(graph: Graph, node: Node) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """One operator, compiled unless it works on shapes or indices, which must stay numpy."""
    fixed = {
        name: value
        for name in node.inputs
        if (value := graph.initializers.get(name)) is not None and value.dtype.kind != "f"
    }

    def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
        outputs = apply_node(
            node, [fixed.get(name, inputs.get(name)) if name else None for name in node.inputs], graph.opset
        )
        return {name: value for name, value in zip(node.outputs, outputs, strict=False) if name}

    compiled = jax.jit(run)

    def step(inputs: Mapping[str, Any]) -> dict[str, Any]:
        moving = {name: value for name, value in inputs.items() if name not in fixed}
        static = node.op in OPS and OPS[node.op].flow is flow.forget
        shapes = any(isinstance(value, np.ndarray) and value.dtype.kind in "iub" for value in moving.values())
        return run(moving) if static or shapes else compiled(moving)

    return step


def _last_use(graph: Graph) -> list[list[str]]:
    outputs = {info.name for info in graph.outputs}
    last: dict[str, int] = {}
    for position, node in enumerate(graph.nodes):
        last.update(
            {name: position for name in (*node.inputs, *node.outputs) if name and name not in graph.initializers}
        )
    drop: list[list[str]] = [[] for _ in graph.nodes]
    for name, position in last.items():
        if name not in outputs:
            drop[position].append(name)
    return drop


def _residual_sums(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """Linear node to the Add that is the only reader of its output and that comes when the other operand is there."""
    consumers = graph.consumers()
    order = {value: i for i, node in enumerate(graph.nodes) for value in node.outputs}
    sums: dict[str, str] = {}
    for node in graph.nodes:
        readers = consumers.get(node.outputs[0], []) if Linear.of(node, graph) is not None else []
        if len(readers) == 1 and readers[0].op == "Add":
            other = _other_operand(graph, readers[0].outputs[0], node)
            same = shapes.get(other) == shapes[node.outputs[0]]
            if same and other not in graph.initializers and order.get(other, -1) < order[node.outputs[0]]:
                sums[node.name] = readers[0].outputs[0]
    return sums


def _other_operand(graph: Graph, total: str, node: Node) -> str:
    add = next(reader for reader in graph.nodes if total in reader.outputs)
    return next((name for name in add.inputs if name not in node.outputs), add.inputs[0])


def _zero_rows(linear: Linear, params: Mapping[str, Array]) -> Array:
    """(groups, d): inputs that the masked weight does not read."""
    return np.asarray((linear.matrix(params) == 0).all(2))


def _without(moments: Moments, gone: Array) -> Moments:
    """Moments of inputs of which some are cut: zeroed, so that the ridge leaves their weights at zero."""
    stays = (~gone).astype(moments.gram.dtype)
    return dataclasses.replace(
        moments,
        gram=moments.gram * stays[:, :, None] * stays[:, None, :],
        cross=moments.cross * stays[:, :, None],
        mean_x=moments.mean_x * stays,
    )


def _refit(linear: Linear, moments: Moments, params: dict[str, Array]) -> None:
    prior = linear.matrix(params).astype(np.float64)
    gone = (prior == 0).all(2)
    solution, offset = ridge(moments, prior, damping=DAMPING, intercept=bool(linear.bias))
    solution[gone] = 0.0
    linear.write(solution, offset, params)


def samples_that_fit(
    graph: Graph, shapes: Mapping[str, Sequence[int]], *, budget_bytes: int = 1 << 28, most: int = 512
) -> int:
    """Calibration samples such that the largest activation of all of them stays within a budget."""
    largest = max(
        (int(np.prod(shapes[name])) for node in graph.nodes for name in node.outputs if name in shapes), default=1
    )
    return int(np.clip(budget_bytes // (4 * largest), 16, most))
