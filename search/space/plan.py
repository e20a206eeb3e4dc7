"""What a candidate is: a plan names the knobs of the dense network that are turned, and how.

A knob is a group of channels, set to the number of units that stay, a residual block, set to what stands in for it, or the
zeros of a node's weight, set to their share. A knob that is not named stays dense, so the empty plan is the dense network.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np

from search.graph.ir import Array, Graph
from search.graph.run.fuse import workloads
from search.space.blocks import DROPPED, Block, Variant, find_blocks, replace_blocks
from search.space.groups import Group, Groups, Keep, find_groups
from search.space.structures.channel import keep_units
from search.space.structures.pattern import Pattern, Zeros

Setting = int | str | float
MOST_LOOKED_AT, FEWEST_LOOKED_AT = 512, 16
"""Samples of the search split that a candidate's divergence is taken on: 512 of 32 pixels; of an EfficientNet at 224 pixels 48
rank its options as well as all (Spearman 0.98), and 16 nearly so (0.97)."""
LOOK_MACS = MOST_LOOKED_AT * 70_000_000
"""Multiplications of one look: 512 images through a ResNet-32. A larger network is looked at with fewer samples, as many."""
_SUFFIXES: Mapping[Pattern, str] = {"unstructured": "/zeros", "nm": "/nm", "block": "/block"}
Plan = Mapping[str, Setting]
PlanKey = tuple[tuple[str, str], ...]


def plan_key(plan: Plan) -> PlanKey:
    """A hashable name of a plan."""
    return tuple(sorted((knob, str(setting)) for knob, setting in plan.items()))


def named(plan: Plan, most: int = 4) -> str:
    """A plan in words: its knobs, all but the first ``most`` by their number.

    Example:
        >>> named({"conv1": 8, "add2": "dropped"}, most=1)
        'add2 = dropped, 1 more'
    """
    words = [f"{knob} = {setting}" for knob, setting in sorted(plan.items())]
    return ", ".join(words[:most] + ([f"{len(words) - most} more"] if len(words) > most else []))


def widths_of(plan: Plan) -> dict[str, int]:
    """The channel part of a plan."""
    return {knob: setting for knob, setting in plan.items() if isinstance(setting, int)}


def blocks_of(plan: Plan) -> dict[str, str]:
    """The depth part of a plan."""
    return {knob: setting for knob, setting in plan.items() if isinstance(setting, str)}


def zeros_knob(node: str, pattern: Pattern = "unstructured") -> str:
    """The knob of a node's zeros; its setting is their share."""
    return node + _SUFFIXES[pattern]


def zeros_of(plan: Plan) -> dict[str, Zeros]:
    """The sparse part of a plan: node to the zeros of its weight."""
    shares = {knob: setting for knob, setting in plan.items() if isinstance(setting, float)}
    return {
        knob.removesuffix(suffix): Zeros(pattern, share)
        for knob, share in shares.items()
        for pattern, suffix in _SUFFIXES.items()
        if knob.endswith(suffix)
    }


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A pruned and repaired network: its plan, its full-sized weights, and how far it moved on the search split."""

    plan: Plan
    variant: Variant
    keep: Keep
    """Units of the variant's groups that stay."""
    params: Mapping[str, Array]
    """Initializers that differ from the variant's graph."""
    divergence: float
    criterion: str


@dataclasses.dataclass(frozen=True)
class Element:
    """What an allocator decides at once: a residual block with the groups inside it, or one group elsewhere."""

    id: str
    groups: tuple[Group, ...]
    block: Block | None = None


class Knobs:
    """Everything that can be turned in one dense network, and the networks that result."""

    def __init__(
        self,
        graph: Graph,
        shapes: Mapping[str, tuple[int, ...]],
        *,
        exclude: Sequence[str] = (),
        stays: Mapping[str, str] | None = None,
    ) -> None:
        """Couple channels and find blocks.

        Args:
            graph: a normalised graph.
            shapes: shapes of its inputs at batch 1.
            exclude: shell patterns of nodes or weights that stay.
            stays: groups that are known to stay, and why.

        Raises:
            SecateurError: the graph cannot be run.
        """
        self.graph, self.exclude, self._stays = graph, exclude, dict(stays or {})
        self.input_shapes = dict(shapes)
        self.groups: Groups = find_groups(graph, shapes, exclude=exclude, stays=self._stays)
        self.blocks = find_blocks(graph, self.groups.shapes, exclude=exclude)
        self.elements = _elements(self.groups, self.blocks)
        self.makers = frozenset(
            slot.node for group in self.groups.prunable for slot in group.slots if slot.role == "produces"
        )
        """Nodes that make the units of a group."""
        self.stand_ins: Mapping[str, Array] = {}
        """Fitted initializers of stand-ins, by name; zeros until they are fitted."""

    @functools.cached_property
    def macs(self) -> int:
        """Multiplications of one run of the dense network, at the batch that its shapes have."""
        kernels = workloads(self.graph, self.groups.shapes, self.groups.static)
        return sum(kernel.macs for kernel in kernels)

    def looked_at(self, most: int) -> int:
        """Samples that a candidate is looked at with: ``most``, or as many as `LOOK_MACS` pay for, but for `FEWEST_LOOKED_AT`."""
        affordable = LOOK_MACS * most // MOST_LOOKED_AT // max(1, self.macs)
        return max(min(most, FEWEST_LOOKED_AT), min(most, affordable))

    def network(self, plan: Plan) -> Graph:
        """The dense graph with the plan's blocks dropped or replaced, at full width."""
        settings = blocks_of(plan)
        return replace_blocks(self.graph, self.blocks, settings, self.stand_ins) if settings else self.graph

    def variant(self, plan: Plan) -> Variant:
        """The same with its own coupling."""
        settings = blocks_of(plan)
        if not settings:
            return Variant(self.graph, self.groups)
        graph = self.network(plan)
        before = {node.name: node.inputs for node in self.graph.nodes}
        rewired = {node.name for node in graph.nodes if before.get(node.name) != node.inputs}
        makers = self.graph.producers()
        alone = {b.shortcut for b in self.blocks if settings.get(b.id) == DROPPED}
        rewired |= {makers[value].name for value in alone if value in makers}
        groups = find_groups(graph, self.input_shapes, exclude=self.exclude, stays=self._stays)
        return Variant(graph, groups, frozenset(rewired))

    def keep(self, plan: Plan, orders: Mapping[str, Array], variant: Variant) -> Keep:
        """Units of the variant's groups that stay when the dense groups are cut to the plan's widths."""
        keep = keep_units(self.groups.prunable, dict(orders), widths_of(plan))
        return keep if variant.groups is self.groups else _carried(keep, self.groups, variant.groups)


def _elements(groups: Groups, blocks: Sequence[Block]) -> tuple[Element, ...]:
    """Every group once, with its block where it lies wholly inside one."""
    elements: list[Element] = []
    inside: set[str] = set()
    for block in blocks:
        mine = tuple(group for group in groups.prunable if block.nodes.issuperset(group.nodes))
        inside.update(group.id for group in mine)
        elements.append(Element(block.id, mine, block))
    others = [Element(group.id, (group,)) for group in groups.prunable if group.id not in inside]
    return (*others, *elements)


def _carried(keep: Keep, dense: Groups, variant: Groups) -> Keep:
    """A choice of units carried over to another coupling of the same values."""
    removed = dense.removed(keep)
    size = 1 + max((int(ids.max(initial=0)) for ids in variant.value_ids.values()), default=0)
    gone = np.zeros(size, bool)
    for name, ids in variant.value_ids.items():
        there = dense.value_ids.get(name)
        if there is not None and there.shape == ids.shape:
            gone[ids[(ids > 0) & removed[there]]] = True
    return {group.id: ~gone[group.units] for group in variant.prunable}
