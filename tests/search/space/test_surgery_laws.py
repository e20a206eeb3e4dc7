"""Laws over random small networks: cut equals masked, and import-export changes nothing."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search.graph.onnx import read, write
from search.graph.run import execute
from search.space import surgery
from tests.search.graph.nets import Net, images, relative_error, run_ort
from tests.search.space.laws import couple, cut_against_masked, keep_some

LAYERS = (
    "conv", "residual", "depthwise", "concat", "gate", "batch_norm", "pool", "split", "activation", "grouped",
    "max_pool", "shuffle", "slice", "pad", "transposed", "resize", "many_groups", "prelu", "pick", "last", "sum_parts",
)  # fmt: skip


def _layer(net: Net, kind: str, x: str, *, width: int, new: int, choice: int) -> tuple[str, int]:
    """Append one layer; returns the new value and its width."""
    if kind == "conv":
        return net.conv(x, width, new, (1, 3)[choice % 2]), new
    if kind == "residual":
        y = net.conv(net.op("Relu", net.conv(x, width, new)), new, width)
        return net.op("Add", *((x, y) if choice % 2 else (y, x))), width
    if kind == "depthwise":
        return net.conv(x, width, width, 3, groups=width), width
    if kind == "concat":
        return net.op("Concat", x, net.conv(x, width, new), axis=1), width + new
    if kind == "gate":
        gate = net.conv(net.op("GlobalAveragePool", x), width, width, 1)
        return net.op("Mul", x, net.op("Sigmoid", gate)), width
    if kind == "batch_norm":
        return net.batch_norm(net.op("Relu", x), width), width
    if kind == "pool":
        return net.op("AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4), width
    if kind == "split" and width > 1:
        left = net.op("Split", x, net.constant([width // 2, width - width // 2]), outputs=2, axis=1)
        return net.op("Concat", f"{left}_1", left, axis=1), width
    if kind == "grouped" and width % 2 == 0:
        return net.conv(x, width, 2 * new, 3, groups=2), 2 * new
    if kind == "max_pool":
        return net.op("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4), width
    if kind == "shuffle" and width % 2 == 0:
        y = net.op("Reshape", x, net.constant([0, 2, width // 2, 5, 5]))
        return net.op("Reshape", net.op("Transpose", y, perm=[0, 2, 1, 3, 4]), net.constant([0, width, 5, 5])), width
    if kind == "slice" and width > 2:
        return net.op("Slice", x, net.constant([1]), net.constant([width - choice % 2]), net.constant([1])), (
            width - 1 - choice % 2
        )
    if kind == "pad":
        return net.op("Pad", x, net.constant([0, choice % 2, 0, 0, 0, 1, 0, 0])), width + 1 + choice % 2
    if kind == "transposed":
        weights = (net.weight(width, new, 3, 3), net.weight(new))
        return net.op("ConvTranspose", x, *weights, kernel_shape=[3, 3], pads=[1] * 4), new
    if kind == "resize":
        larger = net.op("Resize", x, "", net.constant([1, 1, 2, 2], np.float32), mode="nearest")
        return net.conv(larger, width, new, 3, stride=2), new
    if kind == "many_groups" and width % 2 == 0 and width > 2:
        return net.conv(x, width, width, 3, groups=width // 2), width
    if kind == "pick":
        one = net.op("Gather", x, net.constant((0, -1, width // 2, -width)[choice]), axis=1)
        return net.op("Mul", net.conv(x, width, new), net.op("Unsqueeze", one, net.constant([1]))), new
    if kind == "last":
        one = net.op("Slice", x, net.constant([-1]), net.constant([2**63 - 1]), net.constant([1]))
        return net.conv(one, 1, new), new
    if kind == "sum_parts" and width % 2 == 0:
        left = net.op("Split", x, net.constant([width // 2] * 2), outputs=2, axis=1)
        return net.op("Add", left, f"{left}_1"), width // 2
    if kind == "prelu":
        return net.op("PRelu", x, net.weight(width, 1, 1)), width
    return net.op(("Relu", "Sigmoid", "HardSwish", "Tanh")[choice % 4], x), width


@st.composite
def networks(draw: st.DrawFn) -> Net:
    """A convolution, up to six random layers, and one of two heads."""
    net = Net(("N", 3, 5, 5), seed=draw(st.integers(0, 99)))
    width = draw(st.integers(2, 6))
    x = net.conv("x", 3, width)
    for kind in draw(st.lists(st.sampled_from(LAYERS), max_size=6)):
        x, width = _layer(net, kind, x, width=width, new=draw(st.integers(1, 5)), choice=draw(st.integers(0, 3)))
    if draw(st.booleans()):
        net.classifier(x, width)
    else:
        net.gemm(net.op("Flatten", x), width * 25, 4)
    return net


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(net=networks(), share=st.floats(0.0, 1.0), seed=st.integers(0, 9))
def test_cut_equals_masked(net: Net, share: float, seed: int) -> None:
    """Whatever is removed from whatever network, ONNX Runtime gives the same outputs for both files."""
    _, error, _ = cut_against_masked(net.bytes(), {"x": images(2, 3, 5, 5)}, share=share, seed=seed)
    assert error < 1e-4  # deep random networks amplify the rounding of sums in another order


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(net=networks(), seed=st.integers(0, 9))
def test_no_layer_is_left_without_channels(net: Net, seed: int) -> None:
    """However much is asked for, no weight of the cut graph is empty: ONNX Runtime and OpenVINO refuse such a layer."""
    graph = read.load(net.bytes())
    found = couple(graph)
    nothing = {group.id: np.zeros(len(group), bool) for group in found.prunable}
    for keep in (keep_some(found, share=0.0, seed=seed), nothing):
        cut = surgery.cut(graph, found, keep)
        assert all(value.size for value in cut.initializers.values())
        shapes, _ = execute.shapes(cut, {"x": (2, 3, 5, 5)})
        assert all(0 not in shape for shape in shapes.values())


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(net=networks())
def test_import_and_export_change_nothing(net: Net) -> None:
    """ONNX Runtime gives the same outputs for the file and for what we write of it."""
    feeds = {"x": images(2, 3, 5, 5)}
    written = write.export(read.load(net.bytes()))
    assert relative_error(run_ort(written, feeds), run_ort(net.bytes(), feeds)) < 1e-4
    assert np.isfinite(run_ort(written, feeds)[0]).all()
