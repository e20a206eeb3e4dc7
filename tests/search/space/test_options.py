"""Options of a network: on the grid, within the request's bounds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hwprofiles.registry import load_profile
from search.allocate.price import Pricer
from search.graph.onnx.read import load
from search.space.options import options_for, states_for
from search.space.plan import Knobs, widths_of
from search.wire.request import MinWidth
from tests.search.graph.nets import Net, resnet

PHONE = dataclasses.replace(load_profile("pixel4-1large-tflite-fp32"), channel_grid=1, minimum_channels=1)


def narrowest(knobs: Knobs, bounds: tuple[MinWidth, ...]) -> dict[str, float]:
    """Group to the least share of its units in any option."""
    options = options_for(knobs, PHONE, ("channel",), bounds)
    found = {group.id: 1.0 for group in knobs.groups.prunable}
    for plan in (plan for plans in options.values() for plan in plans):
        for group in knobs.groups.prunable:
            found[group.id] = min(found[group.id], widths_of(plan).get(group.id, len(group)) / len(group))
    return found


@pytest.mark.parametrize("share", [0.3, 0.5, 1.0])
def test_a_bound_holds_where_its_pattern_fits_and_only_there(share: float) -> None:
    """One node's group keeps its share, the others go as far as without; the largest of several shares counts."""
    knobs = Knobs(load(resnet().bytes()), {"x": (1, 3, 8, 8)})
    free, bound = narrowest(knobs, ()), knobs.groups.prunable[0]
    assert free[bound.id] < share
    held = narrowest(knobs, (MinWidth(bound.nodes[0], share), MinWidth(bound.nodes[0], share / 2)))
    assert held[bound.id] >= share
    assert {g: s for g, s in held.items() if g != bound.id} == {g: s for g, s in free.items() if g != bound.id}
    assert all(least >= share for least in narrowest(knobs, (MinWidth("*", share),)).values())


def test_blocks_may_go_whatever_their_widths() -> None:
    """With every width bound the options that remain are dense and those of blocks."""
    knobs = Knobs(load(resnet().bytes()), {"x": (1, 3, 8, 8)})
    [state] = states_for(knobs, PHONE, ("channel", "depth"), (MinWidth("*", 1.0),))
    settings = {element.id: 1 + len(element.block.settings) if element.block else 1 for element in knobs.elements}
    assert {element: len(plans) for element, plans in state.items()} == settings


@pytest.mark.parametrize(
    ("groups", "width", "units", "widths"),
    [
        (38, 8, 38, [38, 36, 34]),  # RegNet: whole groups of 8, two of them a step of the grid
        (32, 4, 32, [32, 28, 24]),  # ResNeXt
        (3, 8, 8, [8]),  # few wide groups: every group gets narrower, and 8 is less than a step
        (3, 40, 40, [40, 32, 16]),
    ],
)
def test_convolutions_in_groups_keep_their_groups_whole(groups: int, width: int, units: int, widths: list[int]) -> None:
    """Units are groups or places within one; every option has a price."""
    net, channels = Net(("N", 3, 6, 6)), groups * width
    x = net.op("Relu", net.conv("x", 3, channels, 1))
    net.classifier(
        net.op("Relu", net.conv(net.op("Relu", net.conv(x, channels, channels, groups=groups)), channels, 5, 1)), 5
    )
    knobs = Knobs(load(net.bytes()), {"x": (1, 3, 6, 6)})
    profile = dataclasses.replace(load_profile("host-cpu-onnxruntime"), channel_grid=16, minimum_channels=None)
    options = options_for(knobs, profile, ("channel",))
    first = next(group for group in knobs.groups.prunable if len(group) == units)
    found = [widths_of(plan).get(first.id, units) for plan in options[first.id]]
    assert found[: len(widths)] == widths
    pricer = Pricer(knobs, profile)
    seconds = [pricer.latency_s(plan) for plan in options[first.id]]
    assert seconds == sorted(seconds, reverse=True)
    assert np.isfinite(pricer.tables(options).alone(first.id)).all()
