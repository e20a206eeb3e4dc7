"""The price of widths is the price of the network that is cut to them."""

from __future__ import annotations

import numpy as np
import pytest

from hwprofiles.latency import network_latency_s
from hwprofiles.registry import load_profile
from search.allocate.price import Pricer
from search.graph import execute, fuse
from search.graph.onnx_import import load
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


def test_change_is_the_difference_of_prices_without_reorders() -> None:
    """On a target without layout reorders the change of one group is the difference of whole-network prices."""
    graph = load(resnet().bytes())
    knobs = Knobs(graph, {"x": (1, 3, 8, 8)})
    pricer = Pricer(knobs, load_profile("tpu-v5e"))
    for group in knobs.groups.prunable:
        options = [{group.id: k} for k in range(len(group), 0, -1)]
        expected = [pricer.latency_s(option) - pricer.latency_s({}) for option in options]
        assert np.allclose(pricer.change_s(options, {}), expected, atol=1e-12)
