"""Residual blocks: regions with one entry and one exit, and what may stand in for a whole one.

A block ends in the sum of a branch and a shortcut that both start at one value. It can be dropped, so that the shortcut
alone remains, or replaced by a single convolution or matrix product from its entry to its exit (the shortcut merged in),
which `search.repair` fits by least squares to what the block computed. Values keep their names in every variant.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence

import numpy as np

from search.graph.ir import Array, Graph, Node
from search.graph.rewrite.normalise import drop_dead, drop_identities
from search.graph.run import execute
from search.graph.run.fuse import channel_axes
from search.space.groups import Groups
from search.wire.errors import InvalidModel, ResourceLimit, UnsupportedOperator

DROPPED = "dropped"
Shape = tuple[int, ...]
Shapes = Mapping[str, Sequence[int]]
StandIn = tuple[Node, dict[str, Shape]]
_KERNELS = (3, 1)
_OTHER_SIZES = (1, 3, 32)
"""Added to sizes that are free: whether a stand-in rounds as its block does shows at odd ones; 32 is whole for most networks."""
_ENOUGH_NODES = 64
"""A region larger than this is no block of a network but most of it."""


@dataclasses.dataclass(frozen=True)
class Block:
    """A residual block. ``id`` is the name of the node that adds branch and shortcut."""

    id: str
    entry: str
    """The value that branch and shortcut start from."""
    exit: str
    """The value of the sum."""
    shortcut: str
    """The operand of the sum that remains when the block is dropped."""
    nodes: frozenset[str]
    """Names of the nodes between entry and exit, the sum included."""
    stand_ins: Mapping[str, Node]
    """Setting, e.g. ``conv3x3``, to the node that computes ``exit`` from ``entry``."""
    weights: Mapping[str, tuple[int, ...]]
    """Shapes of the stand-ins' initializers."""

    @property
    def settings(self) -> tuple[str, ...]:
        """Everything that may stand in for the block, the closest first."""
        return (*self.stand_ins, DROPPED)


@dataclasses.dataclass(frozen=True)
class Variant:
    """A network with some blocks dropped or replaced, and its own coupling."""

    graph: Graph
    groups: Groups
    rewired: frozenset[str] = frozenset()
    """Nodes that read, or should give, something else than in the dense network."""


def find_blocks(graph: Graph, shapes: Mapping[str, Sequence[int]], *, exclude: Sequence[str] = ()) -> tuple[Block, ...]:
    """Residual blocks that contain no other one, in the order of the graph.

    Args:
        graph: a normalised graph.
        shapes: value name to shape at batch 1.
        exclude: shell patterns; a block with a node or weight that matches stays as it is.
    """
    producers, consumers = graph.producers(), graph.consumers()
    axes, elsewhere = channel_axes(graph, shapes), _at_other_sizes(graph, shapes)
    order = {node.name: position for position, node in enumerate(graph.nodes)}
    outputs = {info.name for info in graph.outputs}
    blocks: list[Block] = []
    for total in graph.nodes:
        operands = [name for name in total.inputs if name not in graph.initializers]
        if total.op != "Add" or len(operands) != 2 or shapes.get(operands[0]) != shapes.get(operands[1]):
            continue
        region = _region(operands, graph, producers, order)
        if region is None:
            continue
        entry, nodes = region
        inside = {node.name for node in nodes} | {total.name}
        private = all(
            value not in outputs and all(reader.name in inside for reader in consumers.get(value, []))
            for node in nodes
            for value in node.outputs
        )
        if not private or any(block.id in inside for block in blocks) or _excluded(nodes, exclude):
            continue
        shortcut = min(operands, key=lambda name: _weights_between(entry, name, graph, producers))
        if all(_weights_between(entry, name, graph, producers) == 0 for name in operands):
            continue
        stand_ins = _stand_ins(total, entry, axes.get(total.outputs[0], -1), [shapes, *elsewhere])
        weights = {k: v for _, made in stand_ins.values() for k, v in made.items()}
        nodes_of = {setting: node for setting, (node, _) in stand_ins.items()}
        blocks.append(Block(total.name, entry, total.outputs[0], shortcut, frozenset(inside), nodes_of, weights))
    return tuple(blocks)


def _region(
    operands: Sequence[str], graph: Graph, producers: Mapping[str, Node], order: Mapping[str, int]
) -> tuple[str, list[Node]] | None:
    """Walk back from both operands until all paths meet in one value: that value, and the nodes on the way."""
    frontier = set(operands)
    nodes: list[Node] = []
    while len(frontier) > 1:
        made = [name for name in frontier if name in producers]
        if len(made) < len(frontier) - 1 or len(nodes) > _ENOUGH_NODES:
            return None
        last = max(made, key=lambda name: order[producers[name].name])
        node = producers[last]
        nodes.append(node)
        frontier -= set(node.outputs)
        frontier |= {name for name in node.inputs if name and name not in graph.initializers}
    return frontier.pop(), nodes


def _weights_between(entry: str, value: str, graph: Graph, producers: Mapping[str, Node]) -> int:
    """Weights on the way from the entry to a value."""
    seen, waiting, total = {entry}, [value], 0
    while waiting:
        name = waiting.pop()
        if name in seen or name not in producers:
            continue
        seen.add(name)
        node = producers[name]
        total += sum(graph.initializers[i].size for i in node.inputs if i in graph.initializers)
        waiting.extend(node.inputs)
    return total


def _excluded(nodes: Sequence[Node], patterns: Sequence[str]) -> bool:
    names = [name for node in nodes for name in (node.name, *node.inputs)]
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns for name in names)


def _at_other_sizes(graph: Graph, shapes: Shapes) -> list[dict[str, tuple[int, ...]]]:
    """Shapes of all values where the sizes that the inputs leave open are others; none where all are fixed.

    Sizes that the network cannot have (an odd one, where it halves and doubles again) are left out.
    """
    free = {
        info.name: [axis for axis, size in enumerate(info.shape) if axis and not isinstance(size, int)]
        for info in graph.inputs
    }
    found = []
    for more in _OTHER_SIZES if any(free.values()) else ():
        feeds = {
            name: tuple(size + more * (axis in axes) for axis, size in enumerate(shapes[name]))
            for name, axes in free.items()
        }
        with contextlib.suppress(InvalidModel, UnsupportedOperator, ResourceLimit):
            found.append(execute.shapes(graph, feeds)[0])
    return found


def _stand_ins(total: Node, entry: str, axis: int, shapes: Sequence[Shapes]) -> dict[str, StandIn]:
    """Setting to a node from entry to exit and the shapes of its initializers, for values with their channels on an axis.

    ``shapes`` are of all values at one size of the inputs or more; what stands in is right at each.
    """
    ends = [(tuple(at[entry]), tuple(at[total.outputs[0]])) for at in shapes]
    before, after = ends[0]
    if len(before) != len(after) or len(before) < 3:
        return {}
    if axis == 1:  # signals, images, volumes (N, C, ...)
        return _convolutions(total, entry, ends)
    if all(a[:-1] == b[:-1] for a, b in ends):  # tokens (N, ..., C)
        weight = f"{total.name}/linear.weight"
        node = Node(f"{total.name}/linear", "MatMul", (entry, weight), total.outputs)
        return {"linear": (node, {weight: (before[-1], after[-1])})}
    return {}


def _convolutions(total: Node, entry: str, ends: Sequence[tuple[Shape, Shape]]) -> dict[str, StandIn]:
    """Convolutions whose outputs have the size of the block's at every size of its inputs (entry and exit, N, C, ...)."""
    found = {}
    before, after = ends[0]
    strides = [-(-b // max(a, 1)) for b, a in zip(before[2:], after[2:], strict=True)]
    rank = len(strides)
    for k in _KERNELS:
        pad = (k - 1) // 2
        fits = all(
            (b + 2 * pad - k) // s + 1 == a
            for small in ends
            for b, a, s in zip(small[0][2:], small[1][2:], strides, strict=True)
        )
        if not fits or (k > 1 and max(after[2:]) == 1):
            continue
        setting = "conv" + "x".join([str(k)] * rank)
        name = f"{total.name}/{setting}"
        attributes = {"kernel_shape": [k] * rank, "pads": [pad] * 2 * rank, "strides": strides}
        node = Node(name, "Conv", (entry, f"{name}.weight", f"{name}.bias"), total.outputs, attributes)
        weights = {f"{name}.weight": (after[1], before[1], *[k] * rank), f"{name}.bias": (after[1],)}
        found[setting] = (node, weights)
    return found


def replace_blocks(
    graph: Graph, blocks: Sequence[Block], settings: Mapping[str, str], weights: Mapping[str, Array] | None = None
) -> Graph:
    """The graph with some blocks dropped or replaced.

    Args:
        graph: the dense graph.
        blocks: its blocks.
        settings: block id to one of its `Block.settings`; blocks that are not named stay.
        weights: initializers of the stand-ins; zeros where they are missing.
    """
    chosen = {block.id: (block, settings[block.id]) for block in blocks if block.id in settings}
    nodes: list[Node] = []
    initializers = dict(graph.initializers)
    for node in graph.nodes:
        if node.name not in chosen:
            nodes.append(node)
            continue
        block, setting = chosen[node.name]
        if setting == DROPPED:
            nodes.append(Node(node.name, "Identity", (block.shortcut,), node.outputs))
            continue
        stand_in = block.stand_ins[setting]
        nodes.append(stand_in)
        initializers.update({name: _weight(name, block, weights) for name in stand_in.inputs[1:]})
    return drop_dead(drop_identities(graph.replace(nodes=tuple(nodes), initializers=initializers)))


def with_stand_ins(graph: Graph, blocks: Sequence[Block]) -> Graph:
    """The dense graph with every stand-in computed beside its block, unread: the graph to take second moments on."""
    after = {block.id: block for block in blocks}
    nodes: list[Node] = []
    initializers = dict(graph.initializers)
    for node in graph.nodes:
        nodes.append(node)
        if (block := after.get(node.name)) is not None:
            for stand_in in block.stand_ins.values():
                nodes.append(dataclasses.replace(stand_in, outputs=(f"{stand_in.name}:0",)))
                initializers.update({name: _weight(name, block, None) for name in stand_in.inputs[1:]})
    return graph.replace(nodes=tuple(nodes), initializers=initializers)


def _weight(name: str, block: Block, weights: Mapping[str, Array] | None) -> Array:
    given = None if weights is None else weights.get(name)
    return np.zeros(block.weights[name], np.float32) if given is None else given
