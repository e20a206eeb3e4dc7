"""Compute graphs node by node, every operator compiled by itself.

Variants of one network share their nodes, so a variant costs no compilation; and between two nodes a visitor may look at
the values and change the weights of the node that comes next.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from search.graph.ir import Array, Graph, Node
from search.graph.run.execute import apply_node, batches, entered, left, of_shapes, static_positions
from search.graph.run.mapped import over_chunks
from search.graph.sampling import samples_of

Visit = Callable[[Node, dict[str, Any]], None]
Step = Callable[[Sequence[Any]], tuple[tuple[Any, ...], list[bool]]]


class Stepwise:
    """Runs one network and its variants; a node's name says what it does, whatever it reads."""

    def __init__(self) -> None:
        """Nothing is compiled until a node is first computed."""
        self._steps: dict[tuple[str, tuple[bool, ...]], Step] = {}

    def walk(
        self, graph: Graph, params: Mapping[str, Any], feeds: Mapping[str, Any], visit: Visit | None = None
    ) -> Iterator[tuple[Node, dict[str, Any]]]:
        """Yield every node with all live values after it, dropping values after their last use.

        Where the graph is not native (see `search.graph.sampling`) values are stacks of chunks, (K, the value's own shape).

        Args:
            graph: a normalised graph.
            params: initializers that differ from the graph's; read just before each node, so ``visit`` may change them.
            feeds: samples (N, ...) of the graph's inputs.
            visit: is called before every node that is no constant, with the values that are alive.
        """
        for node, values, _ in self._walk(graph, params, feeds, visit):
            yield node, values

    def outputs(
        self, graph: Graph, params: Mapping[str, Any], feeds: Mapping[str, Array], *, batch: int
    ) -> list[Array]:
        """Outputs for all samples: arrays (N, ...) on the host."""
        names = [info.name for info in graph.outputs]
        size, count = graph.sampling.whole(batch), samples_of(feeds)
        parts = []
        for part in batches(feeds, size):
            _, values, stacked = collections.deque(self._walk(graph, params, part), maxlen=1)[0]
            parts.append([np.asarray(value) for value in left(graph, values, stacked, names, size)])
        return [np.concatenate(of_one)[:count] for of_one in zip(*parts, strict=True)]

    def _walk(
        self, graph: Graph, params: Mapping[str, Any], feeds: Mapping[str, Any], visit: Visit | None = None
    ) -> Iterator[tuple[Node, dict[str, Any], set[str]]]:
        """As `walk`, with the names of the values that are stacks of chunks."""
        values, stacked = entered(graph, {name: jnp.asarray(value) for name, value in feeds.items()})
        for node, last_used in zip(graph.nodes, _last_use(graph), strict=True):
            if visit is not None and any(name not in graph.initializers for name in node.inputs if name):
                visit(node, values)
            inputs = [params.get(name, values[name]) if name else None for name in node.inputs]
            made, moved = self._step(node, graph, tuple(name in stacked for name in node.inputs))(inputs)
            values.update({name: value for name, value in zip(node.outputs, made, strict=False) if name})
            stacked.update(name for name, is_stacked in zip(node.outputs, moved, strict=False) if name and is_stacked)
            yield node, values, stacked
            for name in last_used:
                values.pop(name, None)

    def _step(self, node: Node, graph: Graph, stacked: tuple[bool, ...]) -> Step:
        key = (node.name, stacked)
        if key not in self._steps:
            self._steps[key] = _step(node, graph, stacked)
        return self._steps[key]


def _step(node: Node, graph: Graph, stacked: tuple[bool, ...]) -> Step:
    """One operator on its inputs in order, compiled unless it works on shapes, indices or constants, which must stay numpy."""
    opset = graph.opset
    static = static_positions(node)
    fixed = {
        position: value
        for position, name in enumerate(node.inputs)
        if (value := graph.initializers.get(name)) is not None and (value.dtype.kind != "f" or position in static)
    }
    moved: list[bool] = []

    def run(inputs: Sequence[Any]) -> tuple[Any, ...]:
        given = [fixed.get(position, value) for position, value in enumerate(inputs)]
        if not any(stacked):
            moved[:] = [False] * len(node.outputs)
            return apply_node(node, given, opset)
        made, moved[:] = over_chunks(node, given, stacked, lambda of_one: apply_node(node, of_one, opset))
        return made

    compiled = jax.jit(run)

    def step(inputs: Sequence[Any]) -> tuple[tuple[Any, ...], list[bool]]:
        moving = [None if position in fixed else value for position, value in enumerate(inputs)]
        known = {position: value for position, value in enumerate(moving) if isinstance(value, np.ndarray)}
        whole = len(known) == sum(value is not None for value in moving)
        sizes = any(position in static or value.dtype.kind in "iub" for position, value in known.items())
        made = run(moving) if whole or sizes or of_shapes(node) or node.is_carried else compiled(moving)
        return made, moved

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
