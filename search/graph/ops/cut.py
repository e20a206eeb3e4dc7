"""A cut under way, as the operators see it that have to say other sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from search.graph.flow import Ids
from search.graph.ir import Array, Node


@dataclasses.dataclass
class Cut:
    """What goes, the weights as they are by now, and the constants that the operators add."""

    value_ids: Mapping[str, Ids]
    """Unit ids of every activation, canonical, batch 1."""
    shapes: Mapping[str, tuple[int, ...]]
    """Before the cut."""
    removed: Array
    """Boolean table over unit ids."""
    initializers: Mapping[str, Array]
    constants: dict[str, Array] = dataclasses.field(default_factory=dict)

    def stays(self, value: str, axis: int) -> Array:
        """Boolean vector along an axis of an activation: True where anything is kept."""
        ids = self.value_ids[value]
        others = tuple(i for i in range(ids.ndim) if i != axis % ids.ndim)
        return np.asarray((~self.removed[ids]).any(axis=others))

    def shape(self, value: str) -> tuple[int, ...]:
        """Shape of a value after the cut, at batch 1."""
        if value not in self.value_ids:
            return self.shapes[value]
        return tuple(int(self.stays(value, axis).sum()) for axis in range(self.value_ids[value].ndim))

    def changed(self, value: str) -> bool:
        """Whether a value is smaller after the cut."""
        return self.shape(value) != self.shapes[value]

    def with_input(self, node: Node, position: int, value: Array) -> Node:
        """The node with a constant of its own as an input: the old one may be shared with others."""
        name = f"{node.name}.cut{position}"
        self.constants[name] = value
        inputs = [*node.inputs, *[""] * (position + 1 - len(node.inputs))]
        inputs[position] = name
        return dataclasses.replace(node, inputs=tuple(inputs))


def with_attributes(node: Node, **attributes: object) -> Node:
    """The node with some attributes changed."""
    return dataclasses.replace(node, attributes={**node.attributes, **attributes})
