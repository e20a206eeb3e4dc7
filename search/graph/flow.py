"""How unit ids flow through operators: channel coupling by running the graph on integers.

Every output channel of a weighted operator is a *unit* with an id of its own (1, 2, ...; 0 is "no unit": an input or
a constant). An activation is then an integer array of the activation's own shape, batch 1, that says which unit each
element belongs to. Units that meet in an addition are one unit from there on. Where a weight consumes, produces or
scales units, a *slot* (weight, axis, ids along that axis) is recorded: cutting a unit is deleting its positions from
every slot.

Idea: dependency groups, Fang et al., "DepGraph" (2023), without offset bookkeeping: ids travel through the operators'
own lowering.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from search.graph.ir import Array, Node

Ids = Array
FIXED = -1
"""Id of data that is no unit's and cannot be cut: the model's input, or what came out of an operator that mixes channels."""
Role = Literal["produces", "consumes", "scales"]


@dataclasses.dataclass(frozen=True)
class Slot:
    """Axis ``axis`` of initializer ``weight``, read by ``node``; position i belongs to unit ``ids[i]`` (0: to none)."""

    node: str
    weight: str
    axis: int
    ids: Ids
    role: Role


@dataclasses.dataclass
class Coupling:
    """What a run on ids has found so far. Filled by the flow functions below, read by `search.space.groups`."""

    initializers: Mapping[str, Array]
    shapes: Mapping[str, tuple[int, ...]]
    static: Mapping[str, Array]
    """Values that do not depend on the inputs: weights, shapes, indices."""
    lower: Callable[[Node, Sequence[Any]], Any]
    """Computes a movement operator, on ids as on data."""
    makers: Mapping[str, Node] = dataclasses.field(default_factory=dict)
    """Value to the node that gives it."""
    readers: Mapping[str, Sequence[Node]] = dataclasses.field(default_factory=dict)
    ids: dict[str, Ids] = dataclasses.field(default_factory=dict)
    """Of every activation that was reached."""
    slots: list[Slot] = dataclasses.field(default_factory=list)
    unions: list[Ids] = dataclasses.field(default_factory=list)
    """Arrays (n, 2) of ids that are one unit."""
    frozen: dict[str, tuple[Ids, str]] = dataclasses.field(default_factory=dict)
    """Node name to the ids that must stay, and why."""
    producer: dict[int, str] = dataclasses.field(default_factory=dict)
    """First id of a run of fresh units to the node that produces them."""
    count: int = 0

    def fresh(self, node: Node, units: int) -> Ids:
        """New ids for the output channels of a weighted operator."""
        first = self.count + 1
        self.count += units
        self.producer[first] = node.name
        return np.arange(first, first + units, dtype=np.int32)

    def slot(self, node: Node, weight: str, axis: int, ids: Ids, role: Role) -> None:
        """Record a slot of a weight (a missing optional input is ignored)."""
        if weight:
            self.slots.append(Slot(node.name, weight, axis, ids, role))

    def unite(self, node: Node, a: Ids, b: Ids) -> Ids:
        """Say that two equally shaped arrays hold the same units, element by element; returns the ids to go on with."""
        shape = a.shape
        a, b = thin(a, b)
        differ = (a != b) & (a > 0) & (b > 0)
        if differ.any():
            self.unions.append(np.unique(np.stack([a[differ], b[differ]], axis=1), axis=0))
        fixed = ((a == FIXED) & (b > 0)) | ((b == FIXED) & (a > 0))
        self.keep(node, np.where(fixed, np.maximum(a, b), 0), f"{node.op} meets values of fixed width")
        return np.broadcast_to(np.where((a == FIXED) | (b == FIXED), np.int32(FIXED), np.maximum(a, b)), shape)

    def unite_along(self, node: Node, ids: Ids, axis: int) -> Ids:
        """Make one unit of all ids along an axis; where some positions belong to no unit, the others stay too."""
        mixed = (ids > 0).any(axis) & ~(ids > 0).all(axis)
        if mixed.any():
            self.keep(node, np.compress(mixed, ids, axis=1 - axis), f"{node.op} groups channels that stay with others")
        first: Ids = ids.max(axis)
        self.unite(node, ids, np.broadcast_to(np.expand_dims(first, axis), ids.shape))
        return first

    def keep(self, node: Node, ids: Ids | None, reason: str) -> None:
        """Freeze units and remember why."""
        if ids is None:
            return
        (ids,) = thin(ids)
        found = np.unique(ids[ids > 0])
        if found.size:
            before = self.frozen.get(node.name, (np.zeros(0, np.int32), ""))[0]
            self.frozen[node.name] = (np.union1d(before, found), reason)

    def channels(self, node: Node, ids: Ids, axis: int) -> Ids:
        """Ids along one axis, where they are the same at all other positions; otherwise they are frozen."""
        count = ids.shape[axis]
        (seen,) = thin(np.moveaxis(ids, axis, 0)) if ids.size else (np.moveaxis(ids, axis, 0),)
        moved = np.broadcast_to(seen, (count, *seen.shape[1:])).reshape(count, -1)
        if moved.shape[1] == 0 or (moved == moved[:, :1]).all():
            return moved[:, 0] if moved.shape[1] else np.full(len(moved), FIXED, np.int32)
        self.keep(node, ids, f"{node.op} reads units that are spread over more than one axis")
        return np.full(len(moved), FIXED, np.int32)

    def summed(self, node: Node, ids: Ids, axis: int) -> Ids:
        """Ids of what a sum along an axis leaves, with that axis of size 1; units that differ along it stay."""
        first = ids.take([0], axis)
        if (ids == first).all():
            return first
        self.keep(node, ids, f"{node.op} sums over channels")
        return np.full(first.shape, FIXED, np.int32)

    def along(self, ids: Ids, axis: int, value: str) -> Ids:
        """Channel ids spread over the shape of ``value``."""
        shape = self.shapes[value]
        view = ids.reshape([-1 if i == axis % len(shape) else 1 for i in range(len(shape))])
        return np.broadcast_to(view, shape)

    def none(self, value: str) -> Ids:
        """Data that is no unit's, all over ``value``."""
        return np.broadcast_to(np.int32(FIXED), self.shapes[value])


def thin(*ids: Ids) -> tuple[Ids, ...]:
    """Equally shaped ids without what repeats: an axis along which nothing is stored in any of them has size 1.

    Ids of an image differ by channel and are spread over its pixels, which so cost nothing.
    """
    index = tuple(slice(None) if any(each.strides[i] for each in ids) else slice(0, 1) for i in range(ids[0].ndim))
    return tuple(each[index] for each in ids)


Flow = Callable[[Node, Sequence[Ids | None], Coupling], Sequence[Ids]]
"""(node, ids of the inputs or None for weights and constants, coupling) to ids of the outputs."""


def freeze(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """Units that enter an operator which mixes them stay."""
    for ids in inputs:
        at.keep(node, ids, f"{node.op} mixes or orders the channels of its input")
    return [at.none(value) for value in node.outputs if value]


def unknown(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """Units that meet an operator outside the table stay."""
    for ids in inputs:
        at.keep(node, ids, f"{node.op} is run by ONNX Runtime as it is")
    return [at.none(value) for value in node.outputs if value]


def forget(node: Node, _inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """The output depends on shapes only."""
    return [at.none(value) for value in node.outputs if value]


def same(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """One element in, one element out."""
    ids = inputs[0] if inputs[0] is not None else at.none(node.outputs[0])
    return [ids for value in node.outputs if value]


def spatial(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """Acts on every channel (axis 1) by itself."""
    assert inputs[0] is not None
    ids = at.channels(node, inputs[0], 1)
    return [at.along(ids, 1, value) for value in node.outputs if value]


def elementwise(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """Units that meet in an element are one unit; weights that broadcast against units scale them."""
    shape = at.shapes[node.outputs[0]]
    total = meet(node, [ids for ids in inputs if ids is not None], shape, at)
    for value, ids in zip(node.inputs, inputs, strict=True):
        if ids is None and value:
            _scale(node, value, total, shape, at)
    return [total]


def meet(node: Node, operands: Sequence[Ids], shape: tuple[int, ...], at: Coupling) -> Ids:
    """Unite operands that broadcast against each other, units first; data without units only where it has a width."""
    aligned = [ids.reshape((1,) * (len(shape) - ids.ndim) + ids.shape) for ids in operands]
    total: Ids = np.broadcast_to(np.int32(0), shape)
    for ids in sorted(aligned, key=lambda ids: (not (ids > 0).any(), -ids.size)):
        axes = [axis for axis in range(len(shape)) if varies(total, axis)]
        spread = [axis for axis in axes if ids.shape[axis] == 1]
        if not (ids > 0).any() and (total > 0).any():
            if len(spread) < len(axes):
                total = at.unite(node, total, np.broadcast_to(ids, shape))
        elif spread:
            at.keep(node, ids, f"{node.op} spreads one channel over several")
        else:
            total = at.unite(node, total, np.broadcast_to(ids, shape))
    return total


def _scale(node: Node, value: str, total: Ids, shape: tuple[int, ...], at: Coupling) -> None:
    """Slots of a weight that broadcasts against units; one value for all of them needs no slot."""
    weight = at.static.get(value)
    if weight is None or weight.ndim > len(shape):
        at.keep(node, total, f"{node.op} has an operand that we cannot follow")
        return
    for axis in range(weight.ndim):
        aligned = axis + len(shape) - weight.ndim
        moved = np.moveaxis(total, aligned, 0).reshape(shape[aligned], -1)
        if weight.shape[axis] == 1 or not (moved != moved[:1]).any():
            continue
        if value not in at.initializers:
            at.keep(node, total, f"{node.op} has a computed operand of fixed width")
            return
        at.slot(node, value, axis, at.channels(node, total, aligned), "scales")


def varies(ids: Ids, axis: int) -> bool:
    """Whether ids differ along an axis."""
    (ids,) = thin(ids)
    return bool((ids != ids.take([0], axis)).any()) if ids.shape[axis] > 1 else False
