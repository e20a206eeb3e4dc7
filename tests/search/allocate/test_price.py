"""The price of widths is the price of the network that is cut to them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hwprofiles.latency import network_latency_s
from hwprofiles.registry import load_profile
from search.allocate.price import Pricer
from search.graph.onnx.read import load
from search.graph.run import execute, fuse
from search.space.options import options_for
from search.space.plan import Knobs
from search.space.structures.channel import keep_mask
from search.space.surgery import cut
from tests.search.graph.nets import Net, resnet


def mobile() -> Net:
    """Pointwise, depthwise, pointwise with a residual, flatten into a classifier."""
    net = Net(("N", 8, 4, 4))
    y = net.op("Relu", net.conv("x", 8, 12, 1))
    y = net.op("Relu", net.conv(y, 12, 12, 3, groups=12))
    y = net.op("Add", net.conv(y, 12, 8, 1), "x")
    net.gemm(net.op("Flatten", net.op("Relu", net.conv(y, 8, 10))), 160, 5)
    return net


def convolutions(axes: int) -> Net:
    """Convolutions over some axes, the last in groups, with a pool and a norm behind the first."""
    net = Net(("N", 3, *[8] * axes))
    x = net.op("Relu", net.batch_norm(net.op("Relu", net.conv("x", 3, 6, axes=axes)), 6))
    x = net.op("MaxPool", x, kernel_shape=[2] * axes, strides=[2] * axes)
    x = net.op("Relu", net.conv(x, 6, 9, axes=axes))
    x = net.op("Relu", net.conv(x, 9, 6, groups=3, axes=axes))
    net.classifier(x, 6)
    return net


def in_groups(groups: int, width: int) -> Net:
    """A bottleneck whose middle goes by groups, as those of RegNet and ResNeXt."""
    net = Net(("N", 3, 6, 6))
    c = groups * width
    x = net.op("Relu", net.conv("x", 3, c, 1))
    net.classifier(net.op("Relu", net.conv(net.op("Relu", net.conv(x, c, c, groups=groups)), c, 7, 1)), 7)
    return net


def recurrent(op: str, gates: int, *, directions: int = 1) -> Net:
    """Two recurrences, one reads the other, and a classifier of the last hidden state."""
    net = Net((5, 1, 6))
    state, features = "x", 6
    for hidden in (9, 7):
        weights = (net.weight(directions, gates * hidden, features), net.weight(directions, gates * hidden, hidden))
        direction = "bidirectional" if directions == 2 else "forward"
        y = net.op(op, state, *weights, outputs=2, hidden_size=hidden, direction=direction)
        features = hidden * directions
        state = net.op("Reshape", net.op("Transpose", y, perm=[0, 2, 1, 3]), net.constant([0, 0, features]))
    last = net.op("Transpose", f"{y}_1", perm=[1, 0, 2])
    net.gemm(net.op("Reshape", last, net.constant([1, features])), features, 4)
    return net


NETS = {
    "resnet": resnet(),
    "mobile": mobile(),
    "signal": convolutions(1),
    "volume": convolutions(3),
    "38 groups of 8": in_groups(38, 8),
    "3 groups of 8": in_groups(3, 8),
    "32 groups of 4": in_groups(32, 4),
    "lstm": recurrent("LSTM", 4),
    "gru": recurrent("GRU", 3),
    "rnn": recurrent("RNN", 1, directions=2),
}


@pytest.mark.parametrize("profile_id", ["host-cpu-onnxruntime", "tpu-v5e"])
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
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
