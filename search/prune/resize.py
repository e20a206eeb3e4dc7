"""What nodes say about sizes, rewritten for a cut graph: one small rule an operator."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from search.graph.flow_sizes import Size
from search.graph.ir import Array, Node
from search.prune.groups import Groups


@dataclasses.dataclass
class Cut:
    """A cut under way: what goes, the weights as they are by now, and the constants that the rules add."""

    groups: Groups
    removed: Array
    """Boolean table over unit ids."""
    initializers: Mapping[str, Array]
    constants: dict[str, Array] = dataclasses.field(default_factory=dict)

    def stays(self, value: str, axis: int) -> Array:
        """Boolean vector along an axis of an activation: True where anything is kept."""
        ids = self.groups.value_ids[value]
        others = tuple(i for i in range(ids.ndim) if i != axis % ids.ndim)
        return np.asarray((~self.removed[ids]).any(axis=others))

    def shape(self, value: str) -> tuple[int, ...]:
        """Shape of a value after the cut, at batch 1."""
        if value not in self.groups.value_ids:
            return self.groups.shapes[value]
        return tuple(int(self.stays(value, axis).sum()) for axis in range(self.groups.value_ids[value].ndim))

    def changed(self, value: str) -> bool:
        """Whether a value is smaller after the cut."""
        return self.shape(value) != self.groups.shapes[value]

    def with_input(self, node: Node, position: int, value: Array) -> Node:
        """The node with a constant of its own as an input: the old one may be shared with others."""
        name = f"{node.name}.cut{position}"
        self.constants[name] = value
        inputs = [*node.inputs, *[""] * (position + 1 - len(node.inputs))]
        inputs[position] = name
        return dataclasses.replace(node, inputs=tuple(inputs))


def resize(node: Node, at: Cut) -> Node:
    """The node as it must be in the cut graph."""
    rule = RULES.get(node.op)
    if rule is not None and not node.domain:
        node = rule(node, at)
    for size in at.groups.sizes:
        if size.node == node.name and at.changed(size.value):
            node = _named(node, size, at)
    return node


def _with(node: Node, **attributes: object) -> Node:
    return dataclasses.replace(node, attributes={**node.attributes, **attributes})


def _named(node: Node, size: Size, at: Cut) -> Node:
    """A constant that names the extent of a value that is cut, as it is after the cut."""
    constant = (at.constants.get(node.inputs[size.operand]), at.initializers.get(node.inputs[size.operand]))
    old = next(value for value in constant if value is not None)
    new = old.copy().reshape(-1)
    new[size.position] = at.shape(size.value)[size.axis]
    return at.with_input(node, size.operand, new.reshape(old.shape))


def _conv(node: Node, at: Cut) -> Node:
    """As many groups as the input's channels fill."""
    if int(node.get("group", 1)) == 1:
        return node
    return _with(node, group=at.shape(node.inputs[0])[1] // at.initializers[node.inputs[1]].shape[1])


def _reshape(node: Node, at: Cut) -> Node:
    """New sizes where the old ones are named, or copied from an axis that changed otherwise."""
    if not at.changed(node.outputs[0]) or node.input(1) not in at.initializers:
        return node
    old, new = at.groups.shapes[node.outputs[0]], at.shape(node.outputs[0])
    source = at.shape(node.inputs[0])
    target = []
    for axis, size in enumerate(at.initializers[node.inputs[1]].reshape(-1).tolist()):
        copies = size == 0 and source[axis] == new[axis]
        target.append(size if size == -1 or copies or new[axis] == old[axis] else new[axis])
    return at.with_input(node, 1, np.array(target, np.int64))


def _expand(node: Node, at: Cut) -> Node:
    """New sizes where the old ones are named; 1 keeps what the input has."""
    if not at.changed(node.outputs[0]) or node.input(1) not in at.initializers:
        return node
    wanted = at.initializers[node.inputs[1]].reshape(-1).tolist()
    new = at.shape(node.outputs[0])[-len(wanted) :]
    old = at.groups.shapes[node.outputs[0]][-len(wanted) :]
    target = [after if size == before else size for size, before, after in zip(wanted, old, new, strict=True)]
    return at.with_input(node, 1, np.array(target, np.int64))


def _split(node: Node, at: Cut) -> Node:
    """Sizes of the parts, if any part changed."""
    if not any(at.changed(name) for name in node.outputs if name):
        return node
    axis = int(node.get("axis", 0))
    sizes = [at.shape(name)[axis] for name in node.outputs]
    if "split" in node.attributes:
        return _with(node, split=sizes)
    attributes = {name: value for name, value in node.attributes.items() if name != "num_outputs"}
    return at.with_input(dataclasses.replace(node, attributes=attributes), 1, np.array(sizes, np.int64))


def _slice(node: Node, at: Cut) -> Node:
    """Bounds count what is kept before them."""
    source = node.inputs[0]
    if source not in at.groups.value_ids or not at.changed(source):
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
        return _with(node, starts=new_starts.tolist(), ends=new_ends.tolist())
    return at.with_input(at.with_input(node, 1, new_starts), 2, new_ends)


def _gather(node: Node, at: Cut) -> Node:
    """Indices that are kept, counted anew; a scalar stays one."""
    source, axis = node.inputs[0], int(node.get("axis", 0))
    if source not in at.groups.value_ids or node.input(1) not in at.initializers:
        return node
    stays = at.stays(source, axis)
    if stays.all():
        return node
    index = at.initializers[node.inputs[1]]
    index = np.where(index < 0, index + len(stays), index)
    kept = index[stays[index]] if index.ndim else index
    return at.with_input(node, 1, np.asarray((np.cumsum(stays) - 1)[kept], np.int64))


def _resize_to_sizes(node: Node, at: Cut) -> Node:
    """A size for every axis, the channels among them."""
    sizes = at.initializers.get(node.input(3))
    if sizes is None or sizes.size < 2 or "axes" in node.attributes or not at.changed(node.outputs[0]):
        return node
    new = sizes.copy()
    new[1] = at.shape(node.outputs[0])[1]
    return at.with_input(node, 3, new)


def _recurrent(node: Node, at: Cut) -> Node:
    return _with(node, hidden_size=at.initializers[node.inputs[2]].shape[-1])


def _attention(node: Node, at: Cut) -> Node:
    """Heads in proportion to what is kept of the features (N, T, heads * width)."""
    counts = {"q_num_heads": node.inputs[0], "kv_num_heads": node.inputs[1]}
    shares = {name: (at.shape(value)[-1], at.groups.shapes[value][-1]) for name, value in counts.items()}
    return _with(
        node, **{name: int(node.get(name)) * new // old for name, (new, old) in shares.items() if node.get(name)}
    )


RULES: dict[str, Callable[[Node, Cut], Node]] = {
    "Conv": _conv,
    "Reshape": _reshape,
    "Expand": _expand,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Resize": _resize_to_sizes,
    "RNN": _recurrent,
    "GRU": _recurrent,
    "LSTM": _recurrent,
    "Attention": _attention,
}
