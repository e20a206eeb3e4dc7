"""The price of widths is the price of the network that is cut to them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hwprofiles.latency import network_latency_s
from hwprofiles.registry import load_profile
from search.allocate.price import Pricer
from search.graph import execute, fuse
from search.graph.onnx_import import load
from search.options import options_for
from search.plan import Knobs
from search.prune.surgery import cut
from search.structures.channel import keep_mask
from tests.search.graph.nets import Net, resnet


def mobile() -> Net:
    """Pointwise, depthwise, pointwise with a residual, flatten into a classifier."""
    net = Net(("N", 8, 4, 4))
    y = net.op("Relu", net.conv("x", 8, 12, 1))
    y = net.op("Relu", net.conv(y, 12, 12, 3, groups=12))
    y = net.op("Add", net.conv(y, 12, 8, 1), "x")
    net.gemm(net.op("Flatten", net.op("Relu", net.conv(y, 8, 10))), 160, 5)
    return net


@pytest.mark.parametrize("profile_id", ["host-cpu-onnxruntime", "tpu-v5e"])
@pytest.mark.parametrize("net", [resnet(), mobile()], ids=["resnet", "mobile"])
def test_price_equals_price_of_the_cut_graph(net: Net, profile_id: str) -> None:
    """Latency and MACs from channel counts equal those of the physically smaller graph, lowered again."""
    graph = load(net.bytes())
    shapes = {info.name: (1, *info.shape[1:]) for info in graph.inputs}
    knobs = Knobs(graph, shapes)  # type: ignore[arg-type]
    groups = knobs.groups
    profile = load_profile(profile_id)
    pricer = Pricer(knobs, profile)
    rng = np.random.default_rng(0)
    for _ in range(5):
        widths = {g.id: int(rng.integers(1, len(g) + 1)) for g in groups.prunable}
        keep = {g.id: keep_mask(rng.permutation(len(g)), widths[g.id]) for g in groups.prunable}
        smaller = fuse.workloads(cut(graph, groups, keep), *execute.shapes(cut(graph, groups, keep), shapes))  # type: ignore[arg-type]
        assert pricer.latency_s(widths) == pytest.approx(network_latency_s(smaller, profile))
        assert sum(w.macs for w in pricer.workloads(widths)) == sum(w.macs for w in smaller)


@pytest.mark.parametrize("net", [resnet(), mobile()], ids=["resnet", "mobile"])
def test_tables_are_the_prices_of_whole_networks(net: Net) -> None:
    """On a target without layout reorders, looked-up seconds and changes of random choices are those of whole networks."""
    graph = load(net.bytes())
    knobs = Knobs(graph, {info.name: (1, *info.shape[1:]) for info in graph.inputs})  # type: ignore[misc]
    pricer = Pricer(knobs, load_profile("tpu-v5e"))
    options = options_for(knobs, dataclasses.replace(pricer.profile, channel_grid=1), ("channel", "depth"))
    tables = pricer.tables(options)
    rng = np.random.default_rng(0)
    choices = {element: rng.integers(0, len(plans), 5) for element, plans in options.items()}

    def seconds(i: int, **put: int) -> float:
        taken = {element: put.get(element, int(chosen[i])) for element, chosen in choices.items()}
        return pricer.latency_s({knob: s for e, k in taken.items() for knob, s in options[e][k].items()})

    assert tables.seconds(choices) == pytest.approx([seconds(i) for i in range(5)])
    for element, plans in options.items():
        changes = tables.changes(element, choices)
        expected = [[seconds(i, **{element: k}) - seconds(i) for k in range(len(plans))] for i in range(5)]
        assert np.allclose(changes, expected, rtol=1e-9, atol=1e-15)
    kept = {element: np.arange(0, len(plans), 2) for element, plans in options.items()}
    halved = {element: chosen // 2 for element, chosen in choices.items()}
    whole = {element: kept[element][chosen] for element, chosen in halved.items()}
    assert tables.at(kept).seconds(halved) == pytest.approx(tables.seconds(whole))
