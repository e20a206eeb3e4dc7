"""What nodes say about sizes, rewritten for a cut graph."""

from __future__ import annotations

from collections.abc import Iterable

from search.graph.ir import Node
from search.graph.ops import of
from search.graph.ops.cut import Cut
from search.space.flow_sizes import Size


def resize(node: Node, sizes: Iterable[Size], at: Cut) -> Node:
    """The node as it must be in the cut graph.

    Args:
        node: an operator.
        sizes: constants that name sizes, of any node.
        at: the cut.
    """
    entry = of(node)
    if entry is not None and entry.cut is not None:
        node = entry.cut(node, at)
    for size in sizes:
        if size.node == node.name and at.changed(size.value):
            node = _named(node, size, at)
    return node


def _named(node: Node, size: Size, at: Cut) -> Node:
    """A constant that names the extent of a value that is cut, as it is after the cut."""
    constant = (at.constants.get(node.inputs[size.operand]), at.initializers.get(node.inputs[size.operand]))
    old = next(value for value in constant if value is not None)
    new = old.copy().reshape(-1)
    new[size.position] = at.shape(size.value)[size.axis]
    return at.with_input(node, size.operand, new.reshape(old.shape))
