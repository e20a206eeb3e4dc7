"""What the linear maps of a network should give when it is repaired: rows and moments of the dense network."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from search.graph.ir import Array, Graph
from search.graph.limits import MAX_VALUE_ELEMENTS
from search.graph.ops.linear_map import Linear
from search.graph.run.parts import divided, values_of
from search.repair.moments import Moments
from search.repair.rectified import Bounds
from search.space.groups import Groups
from search.space.linear import linear_of

FEWEST_SAMPLES = 16
"""For calibration, where so many can be run at once at all."""
MOST_ROWS = 16_384
"""Rows of a least squares: on ResNet-20 twice as many mend no more, while half the samples mend clearly less."""
WIDE_INPUTS, FEWEST_ROWS = 1_152, 4_096
"""Inputs above which two rows each are enough, and how many always are: products of rows grow with the square of the inputs,
and on an EfficientNet 4,096 rows a layer mend as much as 16,384."""
MOST_INPUTS = 8_192
"""Inputs of a map that is refitted: beyond it there are fewer rows than inputs, and the equations alone take gigabytes."""
AT_ONCE_BYTES, MOST_AT_ONCE = 1 << 26, 64
"""Of the values of a batch that are looked at in the dense network, and samples of one: with more a run is no faster."""


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


@dataclasses.dataclass
class _Sums:
    """Moments of the rows of all maps that have a weight and a bias in common, as they come."""

    uses: int = 0
    moments: Moments | None = None
    pending: list[tuple[Array, Array]] = dataclasses.field(default_factory=list)
    """Inputs (groups, R, d) and outputs (groups, R, m) that the moments do not have yet."""

    def add(self, x: Array, y: Array) -> None:
        """More rows of inputs and outputs; their products are taken when they are worth a product."""
        self.pending.append((x, y))
        if sum(rows.shape[1] for rows, _ in self.pending) >= 2 * x.shape[2]:
            self.close()

    def close(self) -> None:
        """Take what is pending into the moments."""
        if self.pending:
            new = Moments.of(*(np.concatenate(parts, 1) for parts in zip(*self.pending, strict=True)))
            self.moments = new if self.moments is None else Moments.joined([self.moments, new])
            self.pending.clear()


@dataclasses.dataclass
class _Rows:
    """What is gathered of one map of the dense network, batch by batch."""

    linear: Linear
    value: str
    sums: _Sums
    positions: Array | None = None
    wanted: list[Array] = dataclasses.field(default_factory=list)


def measure(
    graph: Graph, groups: Groups, feeds: Mapping[str, Array], exits: Mapping[str, str], rng: np.random.Generator
) -> tuple[list[dict[str, Array]], dict[str, Target]]:
    """Rows and moments of every linear map of the dense network, in one pass.

    Args:
        graph: the dense network, with stand-ins beside its blocks.
        groups: its coupling.
        feeds: calibration samples.
        exits: stand-in nodes to what they should give.
        rng: chooses the output positions that are looked at.

    Returns:
        The samples in the batches that rows stand in, and node name to target.
    """
    weights, found = graph.initializers, _maps(graph, groups.shapes, exits)
    batches = divided(graph.sampling, feeds, _samples_at_once(found.values(), groups.shapes))
    wanted = [name for of_map in found.values() for name in (*_looked_at(of_map.linear), of_map.value)]
    for values in values_of(graph, batches, wanted):
        for of_map in found.values():
            linear = of_map.linear
            x, y = (seen(graph, linear, values[name]) for name in _looked_at(linear))
            most = rows_for(linear.matrix(weights).shape[1])
            if of_map.positions is None:
                of_map.positions = linear.positions(y.shape, len(y) * len(batches), most, rng)
            x_rows = linear.input_rows(x, weights, of_map.positions, y.shape[2:])
            some = slice(None, None, max(1, of_map.sums.uses * x_rows.shape[1] * len(batches) // most))
            y_rows = linear.output_rows(y, of_map.positions)
            of_map.sums.add(x_rows[:, some], y_rows[:, some])
            aim = y if of_map.value == linear.output else seen(graph, linear, values[of_map.value])
            of_map.wanted.append(linear.output_rows(aim, of_map.positions))
    targets = {}
    for name, of_map in found.items():
        of_map.sums.close()
        if of_map.positions is not None and of_map.sums.moments is not None:
            targets[name] = Target(
                of_map.linear,
                of_map.positions,
                of_map.value,
                np.concatenate(of_map.wanted, 1),
                Bounds.behind(graph, of_map.value),
                of_map.sums.moments,
                of_map.sums.uses,
            )
    return batches, targets


def _maps(graph: Graph, shapes: Mapping[str, Sequence[int]], exits: Mapping[str, str]) -> dict[str, _Rows]:
    """Every linear map of the network by its node, and stand-ins, which should give their block's exit."""
    weights, sums, found = graph.initializers, _residual_sums(graph, shapes), {}
    linears = {node.name: linear for node in graph.nodes if (linear := linear_of(node, graph)) is not None}
    uses = Counter(_key(linear, weights) for linear in linears.values())
    sums_of = {key: _Sums(count) for key, count in uses.items()}
    for name, linear in linears.items():
        if linear.matrix(weights).shape[1] <= MOST_INPUTS and linear.node.inputs[0] not in weights:
            own = dataclasses.replace(linear, output=exits.get(name, linear.output))
            found[name] = _Rows(own, sums.get(name, own.output), sums_of[_key(linear, weights)])
    return found


def seen(graph: Graph, linear: Linear, value: Array) -> Array:
    """A value of a batch as a map looks at it, (N, ...): a chunk is one sample, unless it holds images."""
    return value if linear.spatial or graph.sampling.native else value[None]


def _looked_at(linear: Linear) -> tuple[str, str]:
    """The value that a map reads, and the one that it gives."""
    return linear.node.inputs[0], linear.output


def _samples_at_once(maps: Iterable[_Rows], shapes: Mapping[str, Sequence[int]]) -> int:
    """Samples whose values, all that are looked at together, take no more than `AT_ONCE_BYTES`."""
    names = {name for of_map in maps for name in (*_looked_at(of_map.linear), of_map.value)}
    each = sum(4 * math.prod(shapes[name]) for name in names if name in shapes)
    return int(np.clip(AT_ONCE_BYTES // max(1, each), 1, MOST_AT_ONCE))


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
        other = other_operand(graph, readers[0].outputs[0], linear.output)
        if other is None or other in graph.initializers or shapes.get(other) != shapes[linear.output]:
            continue  # x + x, or a sum that broadcasts
        if order.get(other, -1) < order[node.outputs[0]]:
            sums[node.name] = readers[0].outputs[0]
    return sums


def other_operand(graph: Graph, total: str, value: str) -> str | None:
    """The other operand of the sum that gives ``total``; None where the sum was dropped and ``value`` stands alone."""
    add = next((reader for reader in graph.nodes if total in reader.outputs), None)
    return None if add is None else next((name for name in add.inputs if name != value), None)


def rows_for(inputs: int) -> int:
    """Most rows of a least squares with so many inputs."""
    return MOST_ROWS if inputs <= WIDE_INPUTS else min(MOST_ROWS, max(FEWEST_ROWS, 2 * inputs))


def samples_that_fit(
    graph: Graph, shapes: Mapping[str, Sequence[int]], *, budget_bytes: int = 1 << 29, most: int = 1024
) -> int:
    """Calibration samples such that the largest activation of all of them stays within a budget."""
    largest = max(
        (int(np.prod(shapes[name])) for node in graph.nodes for name in node.outputs if name in shapes), default=1
    )
    fewest = min(FEWEST_SAMPLES, max(1, MAX_VALUE_ELEMENTS // largest))
    return int(np.clip(graph.sampling.chunk * budget_bytes // (4 * largest), fewest, most))
