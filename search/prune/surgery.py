"""Masking and cutting.

Both start from a graph, its groups and the units to keep; the cut graph equals the masked one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from search.graph.ir import Array, Graph, Node
from search.graph.lower import ints
from search.prune.groups import Groups, Keep


def mask(initializers: Mapping[str, Array], groups: Groups, keep: Keep) -> dict[str, Array]:
    """Initializers that changed: wherever a weight consumes a cut unit it reads zero. Shapes stay."""
    removed = groups.removed(keep)
    changed: dict[str, Array] = {}
    for slot in groups.slots:
        cut = removed[slot.ids]
        if slot.role == "consumes" and cut.any():
            weight = changed.get(slot.weight, initializers[slot.weight])
            shape = [-1 if axis == slot.axis else 1 for axis in range(weight.ndim)]
            changed[slot.weight] = np.where(cut.reshape(shape), np.zeros((), weight.dtype), weight)
    return changed


def cut(graph: Graph, groups: Groups, keep: Keep) -> Graph:
    """The physically smaller graph: cut units are deleted from every slot, constants that name sizes are rewritten.

    Post-condition, proved by `search.evaluate.parity` for every file that leaves: it computes what the masked graph
    computes.
    """
    removed = groups.removed(keep)
    initializers = dict(graph.initializers)
    for slot in groups.slots:
        stays = ~removed[slot.ids]
        if not stays.all():
            initializers[slot.weight] = np.compress(stays, initializers[slot.weight], axis=slot.axis)
    nodes = []
    for node in graph.nodes:
        rewritten, constants = _resize(node, initializers, groups, removed)
        nodes.append(rewritten)
        initializers.update(constants)
    return graph.replace(nodes=tuple(nodes), initializers=initializers)


def _resize(
    node: Node, initializers: Mapping[str, Array], groups: Groups, removed: Array
) -> tuple[Node, dict[str, Array]]:
    """Rewrite what a node says about sizes: reshape targets, split sizes, groups of a depthwise convolution."""
    if node.op == "Conv" and int(node.get("group", 1)) > 1:
        channels = _kept_shape(node.inputs[0], groups, removed)[1]
        return _with_attributes(node, group=channels // initializers[node.inputs[1]].shape[1]), {}
    if node.op in ("Reshape", "Expand") and node.input(1) in groups.static:
        old, new = groups.shapes[node.outputs[0]], _kept_shape(node.outputs[0], groups, removed)
        if old != new:
            wanted = ints(groups.static[node.inputs[1]])
            target = [new[i] if size == old[i] and old[i] != new[i] else size for i, size in enumerate(wanted)]
            return _with_input(node, 1, np.array(target, np.int64))
    if node.op == "Split" and any(groups.shapes[name] != _kept_shape(name, groups, removed) for name in node.outputs):
        axis = int(node.get("axis", 0)) % len(groups.shapes[node.outputs[0]])
        sizes = [_kept_shape(name, groups, removed)[axis] for name in node.outputs]
        if node.input(1):
            return _with_input(node, 1, np.array(sizes, np.int64))
        return _with_attributes(node, split=sizes), {}
    return node, {}


def _others(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return tuple(i for i in range(len(shape)) if i != axis)


def _kept_shape(value: str, groups: Groups, removed: Array) -> tuple[int, ...]:
    """Shape of an activation after cutting: along every axis, the positions that keep anything."""
    ids = groups.value_ids[value]
    stays = ~removed[ids]
    if stays.all():
        return tuple(ids.shape)
    return tuple(int(stays.any(axis=_others(ids.shape, axis)).sum()) for axis in range(ids.ndim))


def _with_attributes(node: Node, **attributes: object) -> Node:
    return Node(node.name, node.op, node.inputs, node.outputs, {**node.attributes, **attributes}, node.domain)


def _with_input(node: Node, position: int, value: Array) -> tuple[Node, dict[str, Array]]:
    """A constant input of its own for this node: the old one may be shared with others."""
    name = f"{node.name}.cut{position}"
    inputs = tuple(name if i == position else old for i, old in enumerate(node.inputs))
    return Node(node.name, node.op, inputs, node.outputs, node.attributes, node.domain), {name: value}
