"""The options of every element of a network on one target: widths on its grid, and what may stand in for a block."""

from __future__ import annotations

import fnmatch
import itertools
import math
from collections.abc import Sequence

import numpy as np

from hwprofiles.device import DeviceProfile
from hwprofiles.rules import channel_options, sparsity_rule
from search.graph.ir import Node
from search.space.blocks import DROPPED
from search.space.groups import Group
from search.space.linear import linear_of
from search.space.plan import Element, Knobs, Plan, blocks_of, zeros_knob
from search.space.structures.cluster import LEVELS, runs_zeros
from search.space.structures.pattern import SHARES
from search.wire.request import MinWidth, StructureName

MOST_COMBINATIONS = 64
"""Widths of the groups inside one block are combined; each is thinned so that about this many combinations remain."""

WIDE = 256
"""Input and output channels from which 2:4 pays, by the condition in the profiles; narrower layers keep their weights."""
Options = dict[str, list[Plan]]


def options_for(
    knobs: Knobs, profile: DeviceProfile, structures: Sequence[StructureName], bounds: Sequence[MinWidth] = ()
) -> Options:
    """Element id to its options, each the part of a plan that it sets; the first of each is dense, the empty plan."""
    return {element.id: _options(element, profile, structures, bounds) for element in knobs.elements}


def states_for(
    knobs: Knobs, profile: DeviceProfile, structures: Sequence[StructureName], bounds: Sequence[MinWidth] = ()
) -> list[Options]:
    """The options with dense kernels, and those with zeros where the target skips them: a switch of a whole cluster.

    In the sparse state every 1x1 convolution of the cluster has one of the levels, and no block is replaced by an operator
    that the cluster does not take.
    """
    dense = options_for(knobs, profile, structures, bounds)
    patterned = _patterned(knobs, profile, structures)
    nodes = runs_zeros(profile, knobs.graph, knobs.groups.shapes) if "unstructured" in structures else ""
    if isinstance(nodes, str):
        return [{**dense, **patterned}]
    whole = {
        element: [plan for plan in plans if all(setting == DROPPED for setting in blocks_of(plan).values())]
        for element, plans in dense.items()
    }
    zeros: Options = {zeros_knob(node): [{zeros_knob(node): level} for level in LEVELS] for node in nodes}
    return [{**dense, **patterned}, {**whole, **zeros}]


def _patterned(knobs: Knobs, profile: DeviceProfile, structures: Sequence[StructureName]) -> Options:
    """N:M and blocks for every layer on its own, where the target executes them; none of their prices is validated."""
    plans = [
        (pattern, share)
        for pattern, shares in SHARES.items()
        if pattern in structures and (rule := sparsity_rule(pattern, profile)).executed
        for share in shares
        if share >= rule.min_level
    ]
    nodes = [node for node in knobs.graph.nodes if _takes_patterns(node, knobs)] if plans else []
    return {
        f"{node.name}/patterns": [{}, *({zeros_knob(node.name, pattern): share} for pattern, share in plans)]
        for node in nodes
    }


def _takes_patterns(node: Node, knobs: Knobs) -> bool:
    """Whether a node makes units of a group from input channels that come in fours, and is wide enough to gain."""
    linear = linear_of(node, knobs.graph)
    if linear is None or linear.groups != 1 or node.name not in knobs.makers:
        return False
    taps = math.prod(knobs.graph.initializers[linear.weight].shape[2:])
    _, columns, outputs = linear.matrix(knobs.graph.initializers).shape
    return bool(columns // taps % 4 == 0 and min(columns // taps, outputs) >= WIDE)


def _options(
    element: Element, profile: DeviceProfile, structures: Sequence[StructureName], bounds: Sequence[MinWidth]
) -> list[Plan]:
    widths = [_widths(group, profile, bounds) if "channel" in structures else [len(group)] for group in element.groups]
    each = max(2, round(MOST_COMBINATIONS ** (1 / max(1, len(widths)))))
    thinned = [thin(choices, each) if len(widths) > 1 else choices for choices in widths]
    plans: list[Plan] = [
        {group.id: width for group, width in zip(element.groups, chosen, strict=True) if width < len(group)}
        for chosen in itertools.product(*thinned)
    ]
    if element.block is not None and "depth" in structures:
        plans += [{element.id: setting} for setting in element.block.settings]
    return plans


def _widths(group: Group, profile: DeviceProfile, bounds: Sequence[MinWidth]) -> list[int]:
    """Widths on the target's grid that keep the bounds on the group's nodes, widest first."""
    shares = [bound.share for bound in bounds if any(fnmatch.fnmatchcase(node, bound.pattern) for node in group.nodes)]
    least = max(shares, default=0.0) * len(group)
    widths = channel_options(len(group), profile, channels_per_unit=group.channels_per_unit)
    return [width for width in widths if width >= least]


def thin(choices: Sequence[int], most: int) -> list[int]:
    """At most so many of the choices, evenly spread, both ends included."""
    index = np.unique(np.round(np.linspace(0, len(choices) - 1, most)).astype(int))
    return [choices[i] for i in index]
