"""A network over one axis is cut and mended as the same network over two, the height of which is 1."""

from __future__ import annotations

import numpy as np

from search.graph.onnx import write
from search.graph.onnx.read import load
from search.repair.least_squares import Repairer
from search.space.blocks import DROPPED
from search.space.plan import Knobs
from search.space.surgery import cut
from tests.search.graph.nets import Net, images, relative_error, run_ort

LENGTH, SAMPLES = 24, 48


def network(axes: int) -> Net:
    """A stem, a residual block, a part in groups, a depthwise kernel and a transposed one; (1, k) windows over two axes."""
    net = Net(("N", 3, *[1] * (axes - 1), LENGTH), seed=3)

    def conv(x: str, c_in: int, c_out: int, k: int = 3, *, groups: int = 1, stride: int = 1) -> str:
        weight = net.weight(c_out, c_in // groups, k)
        net.initializers[weight] = net.initializers[weight].reshape(c_out, -1, *[1] * (axes - 1), k)
        padding = [0] * (axes - 1) + [k // 2]
        return net.op(
            "Conv", x, weight, net.weight(c_out), kernel_shape=[*[1] * (axes - 1), k], pads=padding * 2,
            strides=[*[1] * (axes - 1), stride], group=groups,
        )  # fmt: skip

    x = net.op("Relu", net.batch_norm(conv("x", 3, 8, 5), 8))
    y = conv(net.op("Relu", conv(x, 8, 12)), 12, 8)
    x = net.op("Relu", net.op("Add", y, x))
    x = net.op("Relu", conv(x, 8, 12, stride=2))
    x = net.op("Relu", conv(conv(x, 12, 12, groups=12), 12, 8, 1))
    x = net.op("Relu", conv(x, 8, 10, groups=2))
    up = net.weight(10, 6, 2)
    net.initializers[up] = net.initializers[up].reshape(10, 6, *[1] * (axes - 1), 2)
    window = [*[1] * (axes - 1), 2]
    x = net.op("ConvTranspose", x, up, net.weight(6), kernel_shape=window, strides=window)
    net.classifier(net.op("Relu", x), 6)
    return net


def test_the_same_cut_and_the_same_repair() -> None:
    """Groups and blocks are the same, and the outputs of the mended networks agree to 1e-5."""
    x = images(SAMPLES, 3, LENGTH)
    found = []
    for axes in (1, 2):
        feeds = {"x": x.reshape(SAMPLES, 3, *[1] * (axes - 1), LENGTH)}
        graph = load(network(axes).bytes())
        knobs = Knobs(graph, {"x": (1, *feeds["x"].shape[1:])})
        rng = np.random.default_rng(0)
        repairer = Repairer(graph, knobs.groups, feeds, rng=rng, blocks=knobs.blocks)
        keep = {group.id: np.arange(len(group)) >= len(group) // 3 for group in knobs.groups.prunable}
        repaired = repairer.repair(keep)
        smaller = cut(graph.with_initializers(repaired), knobs.groups, keep)
        outputs = run_ort(write.export(smaller), feeds)
        moved = {name: value for name, value in repaired.items() if not np.array_equal(value, graph.initializers[name])}
        [block] = knobs.blocks
        dropped = knobs.variant({block.id: DROPPED})
        without = repairer.repair({group.id: np.ones(len(group), bool) for group in dropped.groups.prunable}, dropped)
        found.append((knobs, moved, outputs, without))
    (signal, of_signal, signal_out, signal_without), (image, of_image, image_out, image_without) = found
    assert [(g.id, g.units.tolist()) for g in signal.groups.prunable] == [
        (g.id, g.units.tolist()) for g in image.groups.prunable
    ]
    assert of_signal.keys() == of_image.keys()
    assert len(of_signal) >= 12  # every map behind a cut one was refitted, with its bias
    for mine, others in ((of_signal, of_image), (signal_without, image_without)):
        for name, value in mine.items():
            error = np.abs(value - others[name].reshape(value.shape)).max()
            assert error < 1e-3 * np.abs(value).max()  # rounding of the sums, over the damping
    assert relative_error(signal_out, image_out) < 1e-5
    assert signal.blocks[0].settings == ("conv3", "conv1", DROPPED)
    assert image.blocks[0].settings == ("conv3x3", "conv1x1", DROPPED)
