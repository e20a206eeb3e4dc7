"""Sizes that a graph computes: where each comes from, so that cutting can change the constant that names it.

A network resizes, expands or reshapes to a vector that it puts together: the batch from a Shape, channels from a constant,
height and width from another Shape. What comes from a Shape follows a cut by itself where that value is cut alike; a constant is
named as a `Size`; where neither can be said, or two readers of one constant would be cut differently, the units stay.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from search.graph.flow import Coupling, Ids
from search.graph.ir import Node
from search.graph.ops import of


@dataclasses.dataclass(frozen=True)
class Size:
    """Element ``position`` of a constant that ``node`` reads as input ``operand``: the extent of ``value`` along ``axis``."""

    node: str
    operand: int
    constant: str
    position: int
    value: str = ""
    axis: int = 0


@dataclasses.dataclass(frozen=True)
class _Extent:
    """The extent of an activation along an axis, as Shape says it."""

    value: str
    axis: int


def computed_sizes(nodes: Sequence[Node], at: Coupling, canonical: Ids) -> tuple[Size, ...]:
    """Constants that name sizes of cut values, once all ids are known; freezes the units of those that cannot be followed.

    ``canonical`` gives the unit of every id, 0 for what is no unit's.
    """
    units = {name: canonical[np.maximum(ids, 0)] for name, ids in at.ids.items()}
    claims: dict[tuple[str, int, int], list[tuple[Node, Size, Ids]]] = {}
    for node in nodes:
        operand = _says_sizes(node)
        there = operand in at.static and operand not in at.initializers and node.outputs[0] in at.ids
        if not there or "axes" in node.attributes:
            continue
        ids = units[node.outputs[0]]
        elements = at.static[operand].size
        for axis in range(ids.ndim):
            along = np.moveaxis(ids, axis, 0).reshape(ids.shape[axis], -1)
            position = axis - (ids.ndim - elements)
            if position < 0:
                continue
            origin = _origin(operand, position, at)
            if isinstance(origin, Size):
                if at.initializers[origin.constant].reshape(-1)[origin.position] == ids.shape[axis]:
                    size = dataclasses.replace(origin, value=node.outputs[0], axis=axis)
                    claims.setdefault((size.node, size.operand, size.position), []).append((node, size, along))
            elif (along != along[:1]).any() and not (origin is not None and _equal(along, origin, units)):
                at.keep(node, ids, f"{node.op} to a size that is computed")
    found = []
    for of_one in claims.values():
        first = of_one[0][2]
        if all(along.shape == first.shape and (along == first).all() for _, _, along in of_one):
            found.append(of_one[0][1])
            continue
        for node, _, along in of_one:
            at.keep(node, along, f"{node.op} to a size that something else has too")
    return tuple(found)


def _equal(along: Ids, extent: _Extent, units: Mapping[str, Ids]) -> bool:
    """Whether an axis of another activation holds the same units in the same order."""
    other = units.get(extent.value)
    if other is None:
        return False
    moved = np.moveaxis(other, extent.axis, 0).reshape(other.shape[extent.axis], -1)
    return len(moved) == len(along) and bool((moved == moved[:, :1]).all()) and bool((moved[:, :1] == along).all())


def _origin(value: str, position: int, at: Coupling) -> Size | _Extent | None:
    """Where an element of a static value comes from, through operators that move elements and that nothing else reads."""
    origin: Size | None = None
    while value not in at.initializers:
        node = at.makers.get(value)
        if node is None or node.domain or (origin is None and not _names_sizes_alone(value, at)):
            return None
        if node.op == "Shape":
            return _Extent(node.inputs[0], int(node.get("start", 0)) + position)
        if origin is not None and not all(reader.name == origin.node for reader in at.readers[value]):
            return None
        operand, position = _source(node, value, position, at)
        if operand is None:
            return None
        value = node.inputs[operand]
        origin = Size(node.name, operand, value, position)
    return origin


def _names_sizes_alone(value: str, at: Coupling) -> bool:
    return all(_says_sizes(reader) == value for reader in at.readers[value])


def _says_sizes(node: Node) -> str:
    """The operand that names the sizes of a node's output; empty where none does."""
    entry = of(node)
    return "" if entry is None or entry.sized_by is None else node.input(entry.sized_by)


def _source(node: Node, value: str, position: int, at: Coupling) -> tuple[int | None, int]:
    """Operand of a movement that an element of its output comes from, and the element there; None where it computes."""
    entry = of(node)
    if entry is None or entry.moves is None:
        return None, 0
    if entry.apart == "elements":
        return 0, position
    operands = entry.moved(node)
    sizes = [at.static[node.inputs[i]].size for i in operands]
    starts = np.cumsum([0, *sizes])
    values: list[Any] = [at.static.get(name) for name in node.inputs]
    for i in operands:
        values[i] = np.arange(starts[i], starts[i + 1]).reshape(values[i].shape)
    moved = at.lower(node, values)
    part = moved[node.outputs.index(value)] if isinstance(moved, tuple) else moved
    element = int(np.asarray(part).reshape(-1)[position])
    operand = int(np.searchsorted(starts, element, side="right")) - 1
    return operand, element - int(starts[operand])
