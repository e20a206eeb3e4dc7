"""A graph in stretches whose inner values are computed again for the gradient instead of being kept (gradient checkpointing).

Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016: with about sqrt(n) stretches of n nodes both what is
kept between stretches and what one stretch needs grow with sqrt(n), for one more forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from search.graph.ir import Graph, Node
from search.graph.run.execute import Values, advance, entered, left, needed
from search.graph.sampling import samples_of


def stretches(nodes: Sequence[Node], outputs: Sequence[str]) -> list[tuple[Sequence[Node], list[str]]]:
    """About sqrt(n) runs of nodes, each with the values that later ones, or the outputs, read of it."""
    size = max(1, math.ceil(math.sqrt(len(nodes))))
    parts = [nodes[start : start + size] for start in range(0, len(nodes), size)]
    wanted, found = set(outputs), []
    for part in reversed(parts):
        made = {name for node in part for name in node.outputs}
        found.append((part, sorted(made & wanted)))
        wanted |= {name for node in part for name in node.inputs}
    return found[::-1]


def checkpointed(
    graph: Graph, *, outputs: Sequence[str], products: Any = np.float32
) -> Callable[[Mapping[str, Any], Mapping[str, Any]], list[Any]]:
    """`execute.forward` with the same results and gradients, whose gradient keeps the values between stretches only."""
    parts = stretches(needed(graph, outputs), outputs)

    def run(parameters: Mapping[str, Any], feeds: Mapping[str, Any]) -> list[Any]:
        values, stacked = entered(graph, feeds, parameters)
        with jax.numpy_rank_promotion("allow"):  # ONNX broadcasts by definition
            for nodes, kept in parts:
                values |= _stretch(nodes, kept, values, stacked, graph.opset, products)
        return left(graph, values, stacked, outputs, samples_of(feeds))

    return run


def _stretch(
    nodes: Sequence[Node], kept: Sequence[str], values: Values, stacked: set[str], opset: int, products: Any
) -> Values:
    """What later stretches read; constants are computed once, in passing."""
    made = {name for node in nodes for name in node.outputs}
    read = {name for node in nodes for name in node.inputs if name and name not in made}
    traced = {name: values[name] for name in read if not _constant(values[name])}
    constants: Values = {}

    def compute(traced: Values) -> Values:
        local = {**{name: values[name] for name in read}, **traced}
        for node in nodes:
            advance(node, local, stacked, opset, products)
        constants.update({name: local[name] for name in kept if _constant(local[name])})
        return {name: local[name] for name in kept if not _constant(local[name])}

    return {**_forgetful(compute)(traced), **constants}


def _forgetful(compute: Callable[[Values], Values]) -> Callable[[Values], Values]:
    """The same function, whose gradient keeps its inputs only.

    XLA removes the barriers of ``jax.checkpoint`` on a CPU and merges both passes again. Here the second one adds nothing, but
    a nothing that is known only when the gradient arrives.
    """

    def backward(inputs: Values, gradient: Values) -> tuple[Values]:
        nothing = 0 * next(iter(jax.tree.leaves(gradient))).reshape(-1)[0]
        late = {name: value + nothing if _moves(value) else value for name, value in inputs.items()}
        _, pull = jax.vjp(compute, late)
        return cast("tuple[Values]", pull(gradient))

    function = jax.custom_vjp(compute)
    function.defvjp(lambda inputs: (compute(inputs), inputs), backward)
    return function


def _moves(value: Any) -> bool:
    return isinstance(value, jax.Array) and bool(jnp.issubdtype(value.dtype, jnp.floating))


def _constant(value: object) -> bool:
    return value is None or isinstance(value, np.ndarray | np.generic)
