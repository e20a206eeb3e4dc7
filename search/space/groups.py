"""Groups of coupled units: what must be kept or cut together, found by running the graph on unit ids."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from search.graph import flow
from search.graph.flow import FIXED, Coupling, Ids, Slot
from search.graph.ir import Array, Graph
from search.graph.ops import of
from search.graph.run import execute
from search.space.flow_sizes import Size, computed_sizes
from search.wire.errors import InvalidModel
from search.wire.report import FrozenGroup

Keep = Mapping[str, Array]
"""Group id to a boolean vector over the group's units: True stays."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Units that share producers; any subset of them can be cut. ``units`` are canonical unit ids, ascending."""

    id: str
    units: Array
    nodes: tuple[str, ...]
    """Nodes that hold a slot of the group, in the order of the graph."""
    slots: tuple[Slot, ...]

    def __len__(self) -> int:
        """Number of units."""
        return len(self.units)

    @functools.cached_property
    def channels_per_unit(self) -> int:
        """Channels that every unit has at least wherever it occurs: 1, or more where a head or a group of a kernel goes whole."""
        occurring = (slot.ids[np.isin(slot.ids, self.units)] for slot in self.slots)
        return min(int(np.unique(ids, return_counts=True)[1].min()) for ids in occurring if ids.size)


@dataclasses.dataclass(frozen=True)
class Groups:
    """The coupling of a whole graph."""

    prunable: tuple[Group, ...]
    frozen: tuple[FrozenGroup, ...]
    slots: tuple[Slot, ...]
    """Every slot, with canonical unit ids."""
    value_ids: Mapping[str, Ids]
    """Unit ids of every activation, canonical, batch 1."""
    shapes: Mapping[str, tuple[int, ...]]
    static: Mapping[str, Array]
    sizes: tuple[Size, ...] = ()
    """Constants within computed sizes that name the extent of a value."""

    def removed(self, keep: Keep) -> Array:
        """Boolean table over unit ids: True where a unit is cut. Entry 0 (no unit) is never cut.

        A choice that would leave a value without any channel (one side of a Split, say) keeps that value's first unit.
        """
        size = 1 + max((int(group.units[-1]) for group in self.prunable), default=0)
        table = np.zeros(max(size, 1 + max((int(s.ids.max(initial=0)) for s in self.slots), default=0)), bool)
        for group in self.prunable:
            if group.id in keep:
                table[group.units[~keep[group.id]]] = True
        for units in self.spans:
            if table[units].all():
                table[units[0]] = False
        return table

    @functools.cached_property
    def spans(self) -> tuple[Array, ...]:
        """The different sets of units that values consist of, where every element belongs to a unit."""
        found = {}
        for ids in self.value_ids.values():
            if ids.size and (ids > 0).all():
                units = np.unique(ids)
                found[units.tobytes()] = units
        return tuple(found.values())

    @functools.cached_property
    def owners(self) -> Array:
        """Position of the prunable group of every unit; -1 for others, and at the end."""
        size = 2 + max((int(group.units[-1]) for group in self.prunable), default=0)
        table = np.full(size, -1)
        for position, group in enumerate(self.prunable):
            table[group.units] = position
        return table

    def dense(self) -> dict[str, Array]:
        """Keep everything."""
        return {group.id: np.ones(len(group), bool) for group in self.prunable}


def find_groups(
    graph: Graph,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    exclude: Sequence[str] = (),
    stays: Mapping[str, str] | None = None,
) -> Groups:
    """Couple the channels of a graph.

    Args:
        graph: a normalised graph.
        shapes: input name to shape, batch 1.
        exclude: shell patterns of node or weight names that stay as they are.
        stays: ids of groups that stay, and why.
    """
    found, static = execute.shapes(graph, shapes)
    entries = {node.name: entry for node in graph.nodes if (entry := of(node)) is not None}
    at = Coupling(
        graph.initializers,
        found,
        static,
        lambda node, values: entries[node.name].lowering(graph.opset)(node, values),
        graph.producers(),
        graph.consumers(),
    )
    at.ids = ids = {info.name: at.none(info.name) for info in graph.inputs}
    for node in graph.nodes:
        inputs = [None if not name or name in static else ids[name] for name in node.inputs]
        if all(name in static for name in node.outputs if name):
            continue
        rule = entries[node.name].flow if node.name in entries else flow.unknown
        outputs = (
            rule(node, inputs, at)
            if any(value is not None for value in inputs)
            else [at.none(name) for name in node.outputs]
        )
        ids.update({name: value for name, value in zip(node.outputs, outputs, strict=False) if name})
    _tie(graph, at)
    sizes = computed_sizes(graph.nodes, at, _canonical(at))
    for info in graph.outputs:
        if info.name in ids:
            units = np.unique(ids[info.name][ids[info.name] > 0])
            before, reason = at.frozen.get(
                info.name, (units, _why_output(graph, info.name))
            )  # a node may have that name
            at.frozen[info.name] = (np.union1d(before, units), reason)
    return dataclasses.replace(_assemble(graph, at, ids, exclude, stays or {}), sizes=sizes)


def _tie(graph: Graph, at: Coupling) -> None:
    """Units of a weight that several nodes read are cut for all of them at once; what callers may override stays."""
    shared: dict[tuple[str, int], list[Slot]] = {}
    for slot in at.slots:
        shared.setdefault((slot.weight, slot.axis), []).append(slot)
        if slot.weight in graph.fixed:
            at.frozen[f"{slot.node}:{slot.weight}"] = (slot.ids[slot.ids > 0], "callers may override its weight")
    nodes = {node.name: node for node in graph.nodes}
    readers = graph.consumers()
    for (weight, _), (first, *others) in shared.items():
        for slot in others:
            at.unite(nodes[slot.node], *(np.where(s.ids == 0, np.int32(FIXED), s.ids) for s in (first, slot)))
        known = {first.node, *(slot.node for slot in others)}
        whole = next((node for node in readers.get(weight, []) if node.name not in known), None)
        if whole is not None:
            at.keep(nodes[first.node], first.ids, f"`{whole.name}` reads the same weight whole")


def _why_output(graph: Graph, name: str) -> str:
    tail = None if graph.frame is None else graph.frame.tail
    if tail is not None and name in tail.inputs:
        return f"{tail.op} behind it is run by ONNX Runtime as it is"
    return "it is an output of the model"


def _assemble(
    graph: Graph, at: Coupling, ids: Mapping[str, Ids], exclude: Sequence[str], stays: Mapping[str, str]
) -> Groups:
    canonical = _canonical(at)
    slots = tuple(dataclasses.replace(slot, ids=canonical[np.maximum(slot.ids, 0)]) for slot in at.slots)
    reasons = _reasons(at, canonical, slots, exclude)
    order = {node.name: position for position, node in enumerate(graph.nodes)}
    prunable, frozen = [], []
    for units in _components(slots, len(canonical)):
        member = np.zeros(len(canonical), bool)
        member[units] = True
        mine = tuple(slot for slot in slots if member[slot.ids].any())
        nodes = tuple(sorted({slot.node for slot in mine}, key=order.__getitem__))
        producer = next(
            (slot.node for slot in sorted(mine, key=lambda s: order[s.node]) if slot.role == "produces"), ""
        )
        reason = stays.get(producer) or next((why for unit in units if (why := reasons.get(int(unit)))), None)
        if reason is None and not any(slot.role == "consumes" for slot in mine):
            reason = f"nothing reads `{producer}` through weights"
        if reason is not None or len(units) < 2:
            frozen.append(FrozenGroup(producer, reason or "it has a single channel"))
        else:
            prunable.append(Group(producer, units, nodes, mine))
    value_ids = {name: _canonical_of(value, canonical) for name, value in ids.items()}
    if len({group.id for group in prunable}) != len(prunable):
        raise InvalidModel("two groups of channels have the same producer; node names must be unique")
    return Groups(
        tuple(sorted(prunable, key=lambda g: order[g.id])), tuple(frozen), slots, value_ids, at.shapes, at.static
    )


def _canonical(at: Coupling) -> Ids:
    """Smallest id of every unit's equivalence class; index 0 is "no unit"."""
    pairs = np.concatenate(at.unions) if at.unions else np.zeros((0, 2), np.int32)
    return smallest(pairs[:, 0], pairs[:, 1], at.count + 1)


def smallest(a: Ids, b: Ids, size: int) -> Ids:
    """For each of ``size`` numbers the smallest one that it is tied to, where a[i] is tied to b[i].

    Example:
        >>> smallest(np.array([3, 1]), np.array([1, 2]), 5).tolist()
        [0, 1, 1, 1, 4]
    """
    found, before = np.arange(size, dtype=np.int32), None
    while before is None or (found != before).any():
        before, least = found.copy(), np.minimum(found[a], found[b])
        for side in (a, b):
            np.minimum.at(found, found[side], least)
        found = found[found]
    return found


def _canonical_of(ids: Ids, canonical: Ids) -> Ids:
    """Ids of a value, each the smallest of its class."""
    (seen,) = flow.thin(ids)
    return np.broadcast_to(canonical[np.maximum(seen, 0)], ids.shape)


def _components(slots: Sequence[Slot], size: int) -> list[Array]:
    """Units that share a producing slot, as ascending arrays."""
    produced = [np.unique(slot.ids[slot.ids > 0]) for slot in slots if slot.role == "produces"]
    produced = [units for units in produced if len(units)]
    if not produced:
        return []
    used = np.concatenate(produced)
    first = np.repeat([units[0] for units in produced], [len(units) for units in produced])
    label, used = smallest(first, used, size), np.unique(used)
    return [used[label[used] == part] for part in dict.fromkeys(label[used].tolist())]


def _reasons(at: Coupling, canonical: Ids, slots: Sequence[Slot], exclude: Sequence[str]) -> dict[int, str]:
    """Unit to the reason why it stays."""
    reasons: dict[int, str] = {}
    for name, (units, reason) in at.frozen.items():
        reasons.update(
            {int(unit): f"`{name}`: {reason}" for unit in np.unique(canonical[units]) if int(unit) not in reasons}
        )
    for slot in slots:
        names = (slot.node, slot.weight)
        hit = next((p for p in exclude if any(fnmatch.fnmatchcase(name, p) for name in names)), None)
        if hit is not None and slot.role != "consumes":
            reasons.update(
                {
                    int(unit): f"`{slot.node}`: excluded by the pattern {hit!r}"
                    for unit in np.unique(slot.ids[slot.ids > 0])
                }
            )
    return reasons


def removable_parameters(group: Group, initializers: Mapping[str, Array]) -> int:
    """Weights that would go if all units but one went; a weight that several nodes read counts once."""
    share = 1 - 1 / len(group)
    left: dict[int, dict[int, float]] = {}
    sizes: dict[int, int] = {}
    for slot in group.slots:
        weight = initializers[slot.weight]
        sizes[id(weight)] = weight.size
        gone = share * float(np.isin(slot.ids, group.units).mean())
        left.setdefault(id(weight), {})[slot.axis] = 1 - gone
    return round(sum(size * (1 - math.prod(left[weight].values())) for weight, size in sizes.items()))
