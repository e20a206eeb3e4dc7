"""Lowering of sequences (Python lists) and optionals (None when empty)."""

from __future__ import annotations

import numpy as np

from search.graph.ir import Node
from search.graph.ops.lower import Inputs, Lower, Value, ints, namespace, optional


def _concat(node: Node, inputs: Inputs) -> Value:
    items, axis = inputs[0], node.get("axis")
    xp = namespace(*items)
    return (xp.stack if node.get("new_axis", 0) else xp.concatenate)(items, axis=axis)


def _split(node: Node, inputs: Inputs) -> Value:
    x, axis = inputs[0], node.get("axis", 0)
    sizes = optional(inputs, 1)
    size = x.shape[axis]
    if sizes is None:
        parts = namespace(x).split(x, size, axis=axis)
        items = list(parts) if node.get("keepdims", 1) else [namespace(x).squeeze(part, axis) for part in parts]
        return (items,)
    chunk = ints(sizes)
    each = chunk[0] if np.ndim(sizes) == 0 else 0
    ends = list(range(each, size, each)) if each else np.cumsum(chunk)[:-1].tolist()
    return (list(namespace(x).split(x, ends, axis=axis)),)


def _insert(_: Node, inputs: Inputs) -> Value:
    items = list(inputs[0])
    position = optional(inputs, 2)
    items.insert(len(items) if position is None else ints(position)[0], inputs[1])
    return (items,)


def _erase(_: Node, inputs: Inputs) -> Value:
    items = list(inputs[0])
    position = optional(inputs, 1)
    del items[-1 if position is None else ints(position)[0]]
    return (items,)


FUNCTIONS: dict[str, Lower] = {
    "SequenceConstruct": lambda _, v: (list(v),),
    "SequenceEmpty": lambda _node, _v: ([],),
    "SequenceAt": lambda _, v: v[0][ints(v[1])[0]],
    "SequenceLength": lambda _, v: np.array(len(v[0]), np.int64),
    "SequenceInsert": _insert,
    "SequenceErase": _erase,
    "SplitToSequence": _split,
    "ConcatFromSequence": _concat,
    "OptionalHasElement": lambda _, v: np.array(bool(v) and v[0] is not None),
    "OptionalGetElement": lambda _, v: (v[0],),
}
