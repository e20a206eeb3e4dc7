"""What movements say about sizes, rewritten for a cut graph."""

from __future__ import annotations

import dataclasses

import numpy as np

from search.graph.ir import Node
from search.graph.ops.cut import Cut, with_attributes


def reshape(node: Node, at: Cut) -> Node:
    """New sizes where the old ones are named, or copied from an axis that changed otherwise."""
    if not at.changed(node.outputs[0]) or node.input(1) not in at.initializers:
        return node
    old, new = at.shapes[node.outputs[0]], at.shape(node.outputs[0])
    source = at.shape(node.inputs[0])
    target = []
    for axis, size in enumerate(at.initializers[node.inputs[1]].reshape(-1).tolist()):
        copies = size == 0 and source[axis] == new[axis]
        target.append(size if size == -1 or copies or new[axis] == old[axis] else new[axis])
    return at.with_input(node, 1, np.array(target, np.int64))


def expand(node: Node, at: Cut) -> Node:
    """New sizes where the old ones are named; 1 keeps what the input has."""
    if not at.changed(node.outputs[0]) or node.input(1) not in at.initializers:
        return node
    wanted = at.initializers[node.inputs[1]].reshape(-1).tolist()
    new = at.shape(node.outputs[0])[-len(wanted) :]
    old = at.shapes[node.outputs[0]][-len(wanted) :]
    target = [after if size == before else size for size, before, after in zip(wanted, old, new, strict=True)]
    return at.with_input(node, 1, np.array(target, np.int64))


def split(node: Node, at: Cut) -> Node:
    """Sizes of the parts, if any part changed."""
    if not any(at.changed(name) for name in node.outputs if name):
        return node
    axis = int(node.get("axis", 0))
    sizes = [at.shape(name)[axis] for name in node.outputs]
    if "split" in node.attributes:
        return with_attributes(node, split=sizes)
    attributes = {name: value for name, value in node.attributes.items() if name != "num_outputs"}
    return at.with_input(dataclasses.replace(node, attributes=attributes), 1, np.array(sizes, np.int64))


def slice_(node: Node, at: Cut) -> Node:
    """Bounds count what is kept before them."""
    source = node.inputs[0]
    if source not in at.value_ids or not at.changed(source):
        return node
    given = len(node.inputs) > 1
    starts, ends = (
        (at.initializers.get(node.inputs[i]) if given else np.asarray(node.get(("starts", "ends")[i - 1])))
        for i in (1, 2)
    )
    if starts is None or ends is None:
        return node
    axes = at.initializers[node.input(3)] if node.input(3) else np.asarray(node.get("axes", range(len(starts))))
    new_starts, new_ends = starts.copy(), ends.copy()
    for i, axis in enumerate(axes.reshape(-1).tolist()):
        stays = at.stays(source, axis)
        if not stays.all():
            first, last, _ = slice(int(starts[i]), int(ends[i])).indices(len(stays))
            new_starts[i], new_ends[i] = stays[:first].sum(), stays[:last].sum()
    if not given:
        return with_attributes(node, starts=new_starts.tolist(), ends=new_ends.tolist())
    return at.with_input(at.with_input(node, 1, new_starts), 2, new_ends)


def gather(node: Node, at: Cut) -> Node:
    """Indices that are kept, counted anew; a scalar stays one."""
    source, axis = node.inputs[0], int(node.get("axis", 0))
    if source not in at.value_ids or node.input(1) not in at.initializers:
        return node
    stays = at.stays(source, axis)
    if stays.all():
        return node
    index = at.initializers[node.inputs[1]]
    index = np.where(index < 0, index + len(stays), index)
    kept = index[stays[index]] if index.ndim else index
    return at.with_input(node, 1, np.asarray((np.cumsum(stays) - 1)[kept], np.int64))
