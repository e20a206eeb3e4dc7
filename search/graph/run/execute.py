"""Run a graph: a jit-able, differentiable function of its parameters and inputs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from search.graph import limits
from search.graph.ir import Array, Graph, Node
from search.graph.lazy_jax import jax, jnp
from search.graph.ops import of
from search.graph.ops.compute import blaming, compute
from search.graph.ops.lower import Value
from search.graph.run import carried
from search.graph.run.mapped import over_chunks
from search.graph.run.told_shapes import told_shapes
from search.graph.sampling import samples_of

Values = dict[str, Value]
AT_ONCE_ELEMENTS = 1 << 27
"""Of the largest value of a run of several samples: half a gigabyte."""


def trainable(graph: Graph) -> tuple[str, ...]:
    """Names of the initializers that are weights: floats that stand in a weight slot of an operator that computes."""
    floats = set(graph.float_initializers()) - graph.fixed - static_operands(graph)
    names = {
        node.input(slot)
        for node in graph.nodes
        if (entry := of(node)) is not None
        for slot in entry.weights
        if node.input(slot) in floats and graph.initializers[node.input(slot)].ndim > 0
    }
    return tuple(sorted(names))


def static_operands(graph: Graph) -> set[str]:
    """Names of the initializers that static operands are computed from, sizes of values apart: no parameters, whoever reads them.

    A size may be a number that a weight slot shares, or the product of one and what `Shape` says.
    """
    known = set(graph.initializers)
    for node in graph.nodes:
        given = [node.input(i) for i in static_positions(node)] if of_shapes(node) else node.inputs
        if known.issuperset(filter(None, given)):
            known.update(node.outputs)
    wanted: set[str] = set()
    for node in reversed(graph.nodes):
        if of(node) is not None:
            wanted.update(node.input(position) for position in static_positions(node))
            if not of_shapes(node) and not wanted.isdisjoint(node.outputs):
                wanted.update(node.inputs)
    return wanted & known & graph.initializers.keys()


def static_positions(node: Node) -> tuple[int, ...]:
    """Inputs of a node that are known before the network runs."""
    entry = of(node)
    return () if entry is None else entry.static


def of_shapes(node: Node) -> bool:
    """Whether what a node gives depends on the shapes of its inputs only, and on its static operands."""
    entry = of(node)
    return entry is not None and entry.of_shapes


def apply_node(node: Node, inputs: Sequence[Value], opset: int, products: Any = np.float32) -> tuple[Value, ...]:
    """Compute one node as `search.graph.ops.compute.compute` does; what the graph carries, ONNX Runtime runs.

    Raises:
        UnsupportedOperator: as there, or ONNX Runtime fails on what it carries; names the node.
        ResourceLimit, InvalidModel: as there.
    """
    if not node.is_carried:
        return compute(node, inputs, opset, products)
    with blaming(node, inputs):
        return carried.run(node, inputs)


def walk(
    graph: Graph,
    values: Values,
    stacked: set[str] | None = None,
    *,
    until: Iterable[str] | None = None,
    products: Any = np.float32,
) -> Values:
    """Compute every node in order. ``values`` holds inputs and initializers and is extended in place.

    With ``until`` only those values and what they need are computed; ``stacked`` as for `advance`, ``products`` as for
    `apply_node`.
    """
    with jax.numpy_rank_promotion("allow"):  # ONNX broadcasts by definition
        for node in needed(graph, until) if until is not None else graph.nodes:
            advance(node, values, set() if stacked is None else stacked, graph.opset, products)
    return values


def advance(node: Node, values: Values, stacked: set[str], opset: int, products: Any = np.float32) -> None:
    """Compute one node and add what it makes.

    Args:
        node: the operator.
        values: what there is, by name; extended in place.
        stacked: names of those values that are stacks of chunks (K, ...); extended in place.
        opset: version of the operator set.
        products: as for `apply_node`.
    """
    inputs = [values[name] if name else None for name in node.inputs]
    if stacked.isdisjoint(node.inputs):
        outputs = apply_node(node, inputs, opset, products)
    else:
        which = [name in stacked for name in node.inputs]
        outputs, moved = over_chunks(node, inputs, which, lambda given: apply_node(node, given, opset, products))
        stacked.update(name for name, is_stacked in zip(node.outputs, moved, strict=False) if name and is_stacked)
    values.update({name: value for name, value in zip(node.outputs, outputs, strict=False) if name})


def needed(graph: Graph, until: Iterable[str], given: Collection[str] = ()) -> list[Node]:
    """Nodes in order that some values depend on, but for those that made what is ``given``."""
    wanted, nodes = set(until), []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs).difference(given):
            nodes.append(node)
            wanted.update(node.inputs)
    return nodes[::-1]


def forward(
    graph: Graph, *, outputs: Sequence[str] | None = None, products: Any = np.float32
) -> Callable[[Mapping[str, Any], Mapping[str, Any]], list[Any]]:
    """A pure function ``f(parameters, feeds) -> [outputs]`` over the names in `trainable` and the graph's inputs.

    Initializers that are not passed as parameters are constants. Shapes are static: every batch size compiles once.
    ``products`` as for `apply_node`. Feeds and outputs are samples first, (N, ...), however the file has them; inner values are
    joined along their own first axis (see `search.graph.sampling`).
    """
    names = [info.name for info in graph.outputs] if outputs is None else list(outputs)

    def run(parameters: Mapping[str, Any], feeds: Mapping[str, Any]) -> list[Any]:
        values, stacked = entered(graph, feeds, parameters)
        walk(graph, values, stacked, until=names, products=products)
        return left(graph, values, stacked, names, samples_of(feeds))

    return run


def entered(
    graph: Graph, feeds: Mapping[str, Any], parameters: Mapping[str, Any] | None = None
) -> tuple[Values, set[str]]:
    """Initializers and samples (N, ...) as the graph reads them, and the names of those that are stacks of chunks.

    What is static stays so, whatever ``parameters`` hold.
    """
    fixed = {name: graph.initializers[name] for name in static_operands(graph)}
    values = {**graph.initializers, **(parameters or {}), **fixed}
    if graph.sampling.native:
        return {**values, **feeds}, set()
    return {**values, **graph.sampling.chunks(feeds)}, set(feeds)


def left(graph: Graph, values: Values, stacked: Collection[str], names: Sequence[str], count: int) -> list[Any]:
    """Some values for the first ``count`` samples, (N, ...)."""
    if graph.sampling.native:
        return [values[name] for name in names]
    chunks = -(-count // graph.sampling.chunk)
    every = [values[n] if n in stacked else jnp.broadcast_to(values[n], (chunks, *np.shape(values[n]))) for n in names]
    return [graph.sampling.samples(name, value, count) for name, value in zip(names, every, strict=True)]


def shapes(graph: Graph, feeds: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, tuple[int, ...]], dict[str, Array]]:
    """Shape of every value for the given input shapes, and every static value, without computing anything."""
    if (told := told_shapes(graph, feeds, apply_node)) is not None:
        limits.check_total(list(told[0].values()))
        return told

    static: dict[str, Array] = dict(graph.initializers)
    found: dict[str, tuple[int, ...]] = {name: tuple(value.shape) for name, value in static.items()}

    def trace(inputs: dict[str, Any]) -> int:
        values = walk(graph, {**graph.initializers, **inputs})
        for name, value in values.items():
            if not hasattr(value, "shape"):
                continue  # a sequence, or an optional that is empty
            found[name] = tuple(value.shape)
            if isinstance(value, np.ndarray):
                static[name] = value
        return 0

    specs = {info.name: _spec(feeds[info.name], info.dtype) for info in graph.inputs}
    jax.eval_shape(trace, specs)
    limits.check_total(list(found.values()))
    return found, static


def samples_at_once(graph: Graph, shapes: Mapping[str, Sequence[int]], most: int) -> int:
    """Samples of a run, whole chunks and at most so many, whose largest value stays within `AT_ONCE_ELEMENTS`.

    Args:
        graph: the network.
        shapes: of its values in a run of one chunk.
        most: if nothing is large.
    """
    made = [math.prod(shapes[name]) for node in graph.nodes for name in node.outputs if name in shapes]
    fit = graph.sampling.chunk * AT_ONCE_ELEMENTS // max([1, *made])
    return graph.sampling.whole(min(most, max(1, fit)))


def _spec(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype))  # type: ignore[no-untyped-call]


@dataclasses.dataclass(frozen=True)
class Placed:
    """Parameters on the device, kernels of 2-D convolutions as (kh, kw, C, M): the layout in which they compute."""

    arrays: Mapping[str, jax.Array]


def pack(graph: Graph, parameters: Mapping[str, Any]) -> Placed:
    """Parameters in the layout in which they compute; worth it where the same ones are used for many batches."""
    last = _kernels(graph)
    return Placed(
        {
            name: jax.device_put(np.ascontiguousarray(np.transpose(value, (2, 3, 1, 0))) if name in last else value)
            for name, value in parameters.items()
        }
    )


def unpack(graph: Graph, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as the file has them; inside a compiled function this costs nothing."""
    last = _kernels(graph)
    return {name: jnp.transpose(value, (3, 2, 0, 1)) if name in last else value for name, value in arrays.items()}


def _kernels(graph: Graph) -> set[str]:
    return {
        node.inputs[1]
        for node in graph.nodes
        if node.op == "Conv" and node.inputs[1] in graph.initializers and graph.initializers[node.inputs[1]].ndim == 4
    }


class Engine:
    """Runs one graph on batches of a fixed size (the last one padded), so that each network compiles once."""

    def __init__(self, graph: Graph, *, batch: int = 128) -> None:
        """Nothing is compiled until the first call."""
        self.graph = graph
        self.batch = batch
        run = forward(graph)
        self._run = jax.jit(lambda arrays, feeds: run(unpack(graph, arrays), feeds))

    def __call__(self, parameters: Mapping[str, Any] | Placed, feeds: Mapping[str, Array]) -> list[Array]:
        """Outputs for all samples: arrays (N, ...) on the host."""
        placed = parameters if isinstance(parameters, Placed) else pack(self.graph, parameters)
        size, count = self.graph.sampling.whole(self.batch), samples_of(feeds)
        parts = [self._run(placed.arrays, part)[: len(self.graph.outputs)] for part in batches(feeds, size)]
        return [np.concatenate([np.asarray(part[i]) for part in parts])[:count] for i in range(len(self.graph.outputs))]


def batches(feeds: Mapping[str, Array], size: int) -> Iterable[dict[str, Array]]:
    """Feeds in batches of ``size`` samples; the last one repeats its last sample to fill up."""
    count = samples_of(feeds)
    for start in range(0, count, size):
        index = np.minimum(np.arange(start, start + size), count - 1)
        yield {name: value[index] for name, value in feeds.items()}
