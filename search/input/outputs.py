"""Which outputs of a network say something of its weights, found from its graph and from what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from search.graph.ir import Array, Graph, Node
from search.graph.ops import Op, of

_KERNELS = ("conv", "dense")
_VARIES = 1e-6
"""Largest change over the samples, in terms of an output's magnitude, that rounding may make."""


def reached(graph: Graph) -> tuple[int, ...]:
    """Positions of the outputs that a kernel with weights takes part in, directly or by what it reads; all where none does.

    An operator outside the table counts as such a kernel: what it holds is not known. Constants, sizes and echoes of inputs
    have neither among what they are made of.
    """
    behind = {name for node in graph.nodes if _is_kernel(node) for name in node.outputs}
    for node in graph.nodes:
        if behind.intersection(node.inputs):
            behind.update(node.outputs)
    behind.discard("")
    found = tuple(i for i, info in enumerate(graph.outputs) if info.name in behind)
    return found or tuple(range(len(graph.outputs)))


def _is_kernel(node: Node) -> bool:
    entry = of(node)
    return entry is None or entry.kind in _KERNELS


def informative(graph: Graph, outputs: Sequence[Array], feeds: Mapping[str, Array]) -> tuple[int, ...]:
    """Positions of the outputs that count: those that weights reach, that are numbers, differ between samples and echo no input.

    Args:
        graph: the dense network.
        outputs: of it, for some samples.
        feeds: these samples.

    Returns:
        At least one position: where no output passes every test, those that pass the first ones.
    """
    kept = reached(graph)
    for test in (
        lambda output: output.dtype.kind not in "OSUT",
        lambda output: not any(np.array_equal(output, value) for value in feeds.values()),
        _varies,
    ):
        kept = tuple(position for position in kept if test(outputs[position])) or kept
    return kept


def _varies(output: Array) -> bool:
    """Whether what is finite in some samples is not the same in all of them."""
    if output.dtype.kind in "iub" or not output.size:
        return bool((output != output[:1]).any())
    values = output.astype(np.float64)
    finite = np.isfinite(values)
    if not (finite == finite[:1]).all():
        return True
    values = np.where(finite, values, 0.0)
    return bool(np.ptp(values, 0).max() > _VARIES * np.abs(values).max())


def along_last_axis(graph: Graph) -> tuple[int, ...]:
    """Positions of the outputs that are a product with weights, (N, T, K) @ (K, C), but for what is done to each value or row."""
    return tuple(
        i
        for i, info in enumerate(graph.outputs)
        if (maker := _maker(graph, info.name, _keeps_axes)) is not None
        and maker.op == "MatMul"
        and maker.input(1) in graph.initializers
    )


def features(graph: Graph) -> tuple[int, ...]:
    """Positions of the outputs that nothing makes which ends a classifier: an activation, a norm, a concatenation, say."""
    return tuple(
        i
        for i, info in enumerate(graph.outputs)
        if (maker := _maker(graph, info.name, lambda entry: entry.scores == "passes")) is not None
        and ((entry := of(maker)) is None or entry.scores != "makes")
    )


def _keeps_axes(entry: Op) -> bool:
    """Whether an operator leaves every value at its place."""
    return entry.apart == "elements" or entry.kind == "softmax"


def _maker(graph: Graph, name: str, passes: Callable[[Op], bool]) -> Node | None:
    """The node that makes a value, behind those that are passed by; None where it is an input, or several values meet."""
    makers = graph.producers()
    while name in makers:
        node = makers[name]
        entry = of(node)
        if entry is None or not passes(entry):
            return node
        changing = [value for value in node.inputs if value and value not in graph.initializers]
        if len(changing) != 1:
            return None
        name = changing[0]
    return None
