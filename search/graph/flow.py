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
    """What a run on ids has found so far. Filled by the flow functions below, read by `search.prune.groups`."""

    initializers: Mapping[str, Array]
    shapes: Mapping[str, tuple[int, ...]]
    static: Mapping[str, Array]
    """Values that do not depend on the inputs: weights, shapes, indices."""
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
        differ = (a != b) & (a > 0) & (b > 0)
        if differ.any():
            self.unions.append(np.unique(np.stack([a[differ], b[differ]], axis=1), axis=0))
        fixed = ((a == FIXED) & (b > 0)) | ((b == FIXED) & (a > 0))
        self.keep(node, np.where(fixed, np.maximum(a, b), 0), f"{node.op} meets values of fixed width")
        return np.where((a == FIXED) | (b == FIXED), np.int32(FIXED), np.maximum(a, b))

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
        found = np.unique(ids[ids > 0])
        if found.size:
            before = self.frozen.get(node.name, (np.zeros(0, np.int32), ""))[0]
            self.frozen[node.name] = (np.union1d(before, found), reason)

    def channels(self, node: Node, ids: Ids, axis: int) -> Ids:
        """Ids along one axis, where they are the same at all other positions; otherwise they are frozen."""
        moved = np.moveaxis(ids, axis, 0).reshape(ids.shape[axis], -1)
        if moved.shape[1] == 0 or (moved == moved[:, :1]).all():
            return moved[:, 0] if moved.shape[1] else np.full(len(moved), FIXED, np.int32)
        self.keep(node, ids, f"{node.op} reads units that are spread over more than one axis")
        return np.full(len(moved), FIXED, np.int32)

    def along(self, ids: Ids, axis: int, value: str) -> Ids:
        """Channel ids spread over the shape of ``value``."""
        shape = self.shapes[value]
        view = ids.reshape([-1 if i == axis % len(shape) else 1 for i in range(len(shape))])
        return np.broadcast_to(view, shape)

    def none(self, value: str) -> Ids:
        """Data that is no unit's, all over ``value``."""
        return np.broadcast_to(np.int32(FIXED), self.shapes[value])


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
        at.keep(node, ids, f"{node.op} is not an operator that we can cut")
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


def conv(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """Consumes c_in units and produces c_out; with groups, see `_grouped`."""
    weight, bias, out = node.inputs[1], node.input(2), node.outputs[0]
    if inputs[0] is None or weight not in at.initializers:
        return freeze(node, inputs, at)
    ids = at.channels(node, inputs[0], 1)
    groups = int(node.get("group", 1))
    if groups > 1:
        return [at.along(_grouped(node, ids, groups, at), 1, out)]
    at.slot(node, weight, 1, ids, "consumes")
    fresh = at.fresh(node, at.initializers[weight].shape[0])
    at.slot(node, weight, 0, fresh, "produces")
    at.slot(node, bias, 0, fresh, "produces")
    return [at.along(fresh, 1, out)]


def _grouped(node: Node, ids: Ids, groups: int, at: Coupling) -> Ids:
    """Ids of the output channels of a convolution in groups; every group must stay as wide as the others.

    Many narrow groups (depthwise, ResNeXt) go as a whole: a group's inputs and outputs are one unit. Of few wide groups
    (AlexNet, RegNet) the same positions go in every group.
    """
    weight, bias = node.inputs[1], node.input(2)
    c_out, width = at.initializers[weight].shape[:2]
    by_group = ids.reshape(groups, width)
    if groups >= width:
        unit = at.unite_along(node, by_group, 1)
        passed = np.repeat(unit, c_out // groups)
        at.slot(node, weight, 0, passed, "scales")
        at.slot(node, bias, 0, passed, "scales")
        return passed
    at.slot(node, weight, 1, at.unite_along(node, by_group, 0), "consumes")
    fresh = at.fresh(node, c_out)
    at.unite_along(node, fresh.reshape(groups, -1), 0)
    at.slot(node, weight, 0, fresh, "produces")
    at.slot(node, bias, 0, fresh, "produces")
    return fresh


def conv_transpose(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """As `conv`; the weight is (c_in, c_out / groups, ...)."""
    weight, bias, out = node.inputs[1], node.input(2), node.outputs[0]
    if inputs[0] is None or weight not in at.initializers or int(node.get("group", 1)) != 1:
        return freeze(node, inputs, at)
    at.slot(node, weight, 0, at.channels(node, inputs[0], 1), "consumes")
    fresh = at.fresh(node, at.initializers[weight].shape[1])
    at.slot(node, weight, 1, fresh, "produces")
    at.slot(node, bias, 0, fresh, "produces")
    return [at.along(fresh, 1, out)]


def gemm(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """Rows of features times a weight matrix."""
    weight, bias, out = node.inputs[1], node.input(2), node.outputs[0]
    usable = inputs[0] is not None and weight in at.initializers and not node.get("transA", 0)
    if not usable or (bias and bias not in at.initializers):
        return freeze(node, inputs, at)
    assert inputs[0] is not None
    consumed = 1 if node.get("transB", 0) else 0
    at.slot(node, weight, consumed, at.channels(node, inputs[0], 1), "consumes")
    fresh = at.fresh(node, at.initializers[weight].shape[1 - consumed])
    at.slot(node, weight, 1 - consumed, fresh, "produces")
    if bias and at.initializers[bias].shape[-1:] == fresh.shape:
        at.slot(node, bias, at.initializers[bias].ndim - 1, fresh, "produces")
    return [at.along(fresh, 1, out)]


def matmul(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """Features on the last axis times a weight matrix (c_in, c_out); anything else is frozen."""
    weight, out = node.inputs[1], node.outputs[0]
    if inputs[0] is None or weight not in at.initializers or at.initializers[weight].ndim != 2:
        return freeze(node, inputs, at)
    at.slot(node, weight, 0, at.channels(node, inputs[0], -1), "consumes")
    fresh = at.fresh(node, at.initializers[weight].shape[1])
    at.slot(node, weight, 1, fresh, "produces")
    return [at.along(fresh, -1, out)]


def batch_norm(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """Scales every channel by itself."""
    if inputs[0] is None or any(weight not in at.initializers for weight in node.inputs[1:5]):
        return freeze(node, inputs, at)
    ids = at.channels(node, inputs[0], 1)
    for weight in node.inputs[1:5]:
        at.slot(node, weight, 0, ids, "scales")
    return [at.along(ids, 1, node.outputs[0])]


def elementwise(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """Units that meet in an element are one unit; weights that broadcast against units scale them."""
    out = node.outputs[0]
    shape = at.shapes[out]
    total: Ids = np.broadcast_to(np.int32(0), shape)
    for ids in inputs:
        if ids is not None:
            total = _meet(node, total, ids, shape, at)
    for value, ids in zip(node.inputs, inputs, strict=True):
        if ids is None and value:
            _scale(node, value, total, shape, at)
    return [total]


def _meet(node: Node, total: Ids, ids: Ids, shape: tuple[int, ...], at: Coupling) -> Ids:
    """Unite an operand with the others, unless one of its units would spread over several."""
    aligned = ids.reshape((1,) * (len(shape) - ids.ndim) + ids.shape)
    for axis, (size, wanted) in enumerate(zip(aligned.shape, shape, strict=True)):
        if size == 1 and wanted > 1 and (aligned > 0).any():
            along = np.moveaxis(total, axis, 0)
            if (along != along[:1]).any():
                at.keep(node, ids, f"{node.op} spreads one channel over several")
                return total
    return at.unite(node, total, np.broadcast_to(aligned, shape))


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


def reduce(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """Passes units that are the same along every reduced axis; a reduction over channels freezes them."""
    ids, out = inputs[0], node.outputs[0]
    if ids is None:
        return [at.none(out)]
    axes = node.get("axes")
    if axes is None:
        axes = at.static[node.inputs[1]].reshape(-1).tolist() if node.input(1) else list(range(ids.ndim))
    for axis in sorted((int(a) % ids.ndim for a in axes), reverse=True):
        if (ids != ids.take([0], axis)).any():
            return freeze(node, inputs, at)
        ids = ids.take([0], axis)
    return [np.broadcast_to(ids.reshape(at.shapes[out]), at.shapes[out])]


def move(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """Run the operator's own lowering on the ids."""
    from search.graph.ops import OPS  # the table refers to the flows, and movement to the table  # noqa: PLC0415

    if inputs[0] is None and node.op != "Concat":
        return [at.none(value) for value in node.outputs if value]
    data = range(len(inputs)) if node.op == "Concat" else (0,)
    values: list[Any] = [at.static.get(value) for value in node.inputs]
    for position in data:
        ids = inputs[position]
        values[position] = ids if ids is not None else np.full(at.static[node.inputs[position]].shape, FIXED, np.int32)
    if node.op == "Pad" and len(values) > 2:
        values[2] = np.int32(0)
    moved = OPS[node.op].lowering(13)(node, values)
    outputs = moved if isinstance(moved, tuple) else (moved,)
    for ids in outputs:
        if node.op == "Reshape" and sum(_varies(ids, axis) for axis in range(ids.ndim)) > 1:
            at.keep(node, ids, "Reshape splits the channels over several axes")
    return outputs


def _varies(ids: Ids, axis: int) -> bool:
    return bool((ids != ids.take([0], axis)).any()) if ids.shape[axis] > 1 else False
