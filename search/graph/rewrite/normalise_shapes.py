"""Exact rewrites that need shapes: computed reshapes, channel shuffles, zero states of recurrent layers.

What is static is told from what depends on a free dimension by running the graph's shapes twice, at two sizes of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from search.graph.ir import Array, Graph, Node, TensorInfo
from search.graph.ops import of
from search.graph.run.execute import apply_node, shapes
from search.wire.errors import ResourceLimit, SecateurError, UnsupportedOperator

FREE_SIZES = ((64, 96), (16, 24), (8, 12))
"""Tried for the first free size that is not the batch; what a network accepts depends on its strides and tables."""
APART = (32, 8, 4)
"""How much larger than the one before each further free size is, so that no two are equal by chance; then none is."""
BATCHES = (2, 3)


@dataclasses.dataclass(frozen=True)
class Probe:
    """Shapes and static values of a graph at one size of its free dimensions."""

    shapes: Mapping[str, tuple[int, ...]]
    static: Mapping[str, Array]


def rewrite_shapes(graph: Graph, runs: Sequence[Mapping[str, tuple[int, ...]]] = (), *, shuffles: bool = True) -> Graph:
    """Every rewrite of this file; a graph whose shapes cannot be told is left as it is.

    Args:
        graph: whose shapes are looked at.
        runs: input shapes of two runs that the file is known to take; otherwise some are tried.
        shuffles: whether shuffles of channels become one Gather.
    """
    probes = _probes(graph, runs)
    if probes is None:
        return graph
    graph = fold_reshapes(graph, probes)
    graph = channel_shuffles(graph, probes) if shuffles else graph
    return drop_zero_states(graph, probes)


def _probes(graph: Graph, runs: Sequence[Mapping[str, tuple[int, ...]]]) -> tuple[Probe, Probe] | None:
    tried = [(_sizes(graph, 0, free[0], apart), _sizes(graph, 1, free[1], apart)) for free, apart in _TRIED]
    for pair in [tuple(runs)] if runs else tried:
        try:
            first, second = (Probe(*shapes(graph, inputs)) for inputs in pair)
        except UnsupportedOperator:
            raise
        except ResourceLimit:  # of two or three samples; what one costs decides
            shapes(graph, {name: _of_one(graph, name, shape) for name, shape in pair[0].items()})
            return None
        except SecateurError:
            continue
        return first, second
    return None


def _of_one(graph: Graph, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    return graph.sampling.shapes({name: graph.sampling.sample_shape(name, shape)})[name]


_TRIED = [(free, apart) for free, apart in zip(FREE_SIZES, APART, strict=True)] + [(free, 0) for free in FREE_SIZES]


def _sizes(graph: Graph, probe: int, free: int, apart: int) -> dict[str, tuple[int, ...]]:
    """Input shapes of a probe; equal names have equal sizes."""
    batch = graph.sampling.batch or (BATCHES[probe] if graph.sampling.joins else 1)
    known: dict[object, int] = {}

    def size(info: TensorInfo, axis: int) -> int:
        declared = info.shape[axis]
        if axis == graph.sampling.inputs.get(info.name, 0):
            return batch
        if isinstance(declared, int) and declared > 0:
            return declared
        named = isinstance(declared, str) and declared.strip("? ")
        return known.setdefault(declared if named else (info.name, axis), free + apart * len(known))

    return {info.name: tuple(size(info, axis) for axis in range(len(info.shape))) for info in graph.inputs}


def fold_reshapes(graph: Graph, probes: Sequence[Probe]) -> Graph:
    """Targets of Reshape and Expand that are computed from shapes become constants (0 and -1, or 1, say what is free).

    So do bounds, sizes and repeats that do not depend on a free dimension.
    """
    constants: dict[str, Array] = {}
    nodes = []
    for node in graph.nodes:
        if node.op in ("Slice", "Split", "Tile"):
            node = _with_constants(node, probes, graph, constants)  # noqa: PLW2901
        target = _target(node, probes) if node.op in ("Reshape", "Expand") else None
        if target is None or node.inputs[1] in graph.initializers:
            nodes.append(node)
            continue
        name = f"{node.outputs[0]}.shape"
        constants[name] = np.array(target, np.int64)
        nodes.append(dataclasses.replace(node, inputs=(node.inputs[0], name)))
    return graph.replace(nodes=tuple(nodes), initializers={**graph.initializers, **constants})


def _with_constants(node: Node, probes: Sequence[Probe], graph: Graph, constants: dict[str, Array]) -> Node:
    """The node with every operand but the first that is the same in all probes as a constant."""
    inputs = list(node.inputs)
    for i, name in enumerate(node.inputs[1:], 1):
        values = [probe.static.get(name) for probe in probes]
        if name in graph.initializers or any(value is None for value in values) or not np.array_equal(*values):  # type: ignore[arg-type]
            continue
        inputs[i] = f"{node.outputs[0]}.constant{i}"
        constants[inputs[i]] = np.asarray(values[0])
    return dataclasses.replace(node, inputs=tuple(inputs))


def _target(node: Node, probes: Sequence[Probe]) -> list[int] | None:
    """The target with 0 for an axis that is copied and -1 for one that is free; None where two are."""
    wanted = [probe.static.get(node.inputs[1]) for probe in probes]
    if any(value is None for value in wanted):
        return None
    first, second = ([int(v) for v in value.reshape(-1)] for value in wanted if value is not None)
    inputs = [probe.shapes[node.inputs[0]] for probe in probes]
    if node.op == "Expand":
        return None if node.get("allowzero", 0) else _expand_target(first, second, inputs)
    outputs = [probe.shapes[node.outputs[0]] for probe in probes]
    zero_copies = not node.get("allowzero", 0)
    target, free = [], []
    for axis, (a, b) in enumerate(zip(first, second, strict=True)):
        copied = axis < len(inputs[0]) and all(i[axis] == o[axis] for i, o in zip(inputs, outputs, strict=True))
        target.append(a if a == b else 0 if copied and zero_copies else -1)
        free += [axis] if target[-1] == -1 else []
    return target if len(free) <= 1 and (zero_copies or 0 not in first) else None


def _expand_target(first: list[int], second: list[int], inputs: list[tuple[int, ...]]) -> list[int] | None:
    """1 keeps what the input has."""
    target = []
    for axis, (a, b) in enumerate(zip(first, second, strict=True)):
        aligned = axis - len(first) + len(inputs[0])
        same = aligned >= 0 and (inputs[0][aligned], inputs[1][aligned]) == (a, b)
        target.append(1 if same else a if a == b else None)
    return None if None in target else [size for size in target if size is not None]


def channel_shuffles(graph: Graph, probes: Sequence[Probe]) -> Graph:
    """Reshape, Transpose, Reshape that only permute channels become one Gather: any channel can then go by itself."""
    consumers, outputs = graph.consumers(), {info.name for info in graph.outputs}
    constants: dict[str, Array] = {}
    replaced: dict[str, Node | None] = {}
    for node in graph.nodes:
        chain = [node]
        for op in ("Transpose", "Reshape"):
            value = chain[-1].outputs[0]
            after = consumers.get(value, [])
            if len(after) == 1 and after[0].op == op and after[0].inputs[0] == value and value not in outputs:
                chain.append(after[0])
        if node.op != "Reshape" or len(chain) != 3:
            continue
        order = _channel_order(chain, probes[0], graph.opset)
        if order is None:
            continue
        last = chain[-1]
        constants[f"{last.outputs[0]}.order"] = order
        inputs = (node.inputs[0], f"{last.outputs[0]}.order")
        replaced.update({step.name: None for step in chain})
        replaced[last.name] = Node(last.name, "Gather", inputs, last.outputs, {"axis": 1})
    nodes = tuple(new for node in graph.nodes if (new := replaced.get(node.name, node)) is not None)
    return graph.replace(nodes=nodes, initializers={**graph.initializers, **constants})


def _channel_order(chain: Sequence[Node], probe: Probe, opset: int) -> Array | None:
    """The permutation of axis 1 that a chain of movements amounts to, or None if it does anything else."""
    shape = probe.shapes[chain[0].inputs[0]]
    if len(shape) < 3 or shape != probe.shapes[chain[-1].outputs[0]]:
        return None
    elements = np.arange(int(np.prod(shape, dtype=object)), dtype=np.int32).reshape(shape)
    moved = elements
    for node in chain:
        rest = [probe.static.get(name) for name in node.inputs[1:]]
        if any(value is None for value in rest):
            return None
        moved = apply_node(node, [moved, *rest], opset)[0]
    order = moved[0].reshape(shape[1], -1)[:, 0] // int(np.prod(shape[2:]))
    return order.astype(np.int64) if np.array_equal(elements[:, order], moved) else None


def drop_zero_states(graph: Graph, probes: Sequence[Probe]) -> Graph:
    """Initial states that are zero whatever the batch are left out, which means the same."""
    nodes = []
    for node in graph.nodes:
        entry = of(node)
        zero = {
            i
            for i in (() if entry is None else entry.zeros)
            if node.input(i) and all(node.input(i) in p.static and not np.any(p.static[node.input(i)]) for p in probes)
        }
        kept = tuple("" if i in zero else name for i, name in enumerate(node.inputs))
        nodes.append(dataclasses.replace(node, inputs=kept) if zero else node)
    return graph.replace(nodes=tuple(nodes))
