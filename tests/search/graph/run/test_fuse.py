"""Kernels and their cost, against closed forms."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hwprofiles.kernels import Tiles
from hwprofiles.latency import workload_latency_s
from hwprofiles.layout import kernel_path
from hwprofiles.registry import list_profiles
from hwprofiles.workload import GRAPH_INPUT, Workload
from search.graph.onnx import read
from search.graph.run import execute, fuse
from tests.search.graph.nets import Net, resnet


def _kernels(net: Net) -> list[Workload]:
    graph = read.load(net.bytes())
    shape = tuple(size if isinstance(size, int) else 1 for size in graph.inputs[0].shape)
    shapes, static = execute.shapes(graph, {"x": tuple(int(size or 1) for size in shape)})
    return fuse.workloads(graph, shapes, static)


def test_macs_of_a_residual_network() -> None:
    """Sum over layers of H_out W_out c_out (c_in / groups) k k, by hand."""
    kernels = _kernels(resnet())
    by_hand = 64 * 9 * (8 * 3 + 6 * 8 + 8 * 6) + 16 * 9 * (12 * 8 + 12 * 12) + 16 * 12 * 8 + 12 * 5
    assert sum(kernel.macs for kernel in kernels) == by_hand


def test_activations_and_one_addition_are_fused() -> None:
    """Add and ReLU run inside the convolution before them; nothing but kernels with work of their own is left."""
    kernels = _kernels(resnet())
    assert [kernel.kind for kernel in kernels] == ["conv"] * 6 + ["global_pool", "dense"]
    assert sum(kernel.fused == ("Add", "Relu") for kernel in kernels) == 2


def test_a_depthwise_convolution() -> None:
    """H W c k k multiplications."""
    net = Net(("N", 6, 10, 10))
    net.conv("x", 6, 6, 5, groups=6)
    (kernel,) = _kernels(net)
    assert kernel.macs == 100 * 6 * 25
    assert kernel.sources == (GRAPH_INPUT,)


def test_a_product_of_activations() -> None:
    """Attention scores: heads x tokens x tokens x width multiplications."""
    net = Net((2, 4, 7, 16))
    net.op("MatMul", "x", net.op("Transpose", "x", perm=[0, 1, 3, 2]))
    kernels = _kernels(net)
    assert kernels[-1].kind == "matmul"
    assert kernels[-1].macs == 2 * 4 * 7 * 7 * 16


def test_a_gelu_is_one_kernel() -> None:
    """Arithmetic on one tensor and on what was made of it alone is one pass."""
    net = Net(("N", 7, 16))
    inner = net.op("Erf", net.op("Div", "x", net.weight(1)))
    net.op("Mul", "x", net.op("Add", inner, net.weight(1)))
    (kernel,) = _kernels(net)
    assert (kernel.kind, kernel.fused, kernel.sources) == ("elementwise", ("Erf", "Add", "Mul"), (GRAPH_INPUT,))


def test_a_scale_of_channels_is_a_broadcast() -> None:
    """Squeeze-and-excite reads one large tensor and one small one."""
    net = Net(("N", 6, 8, 8))
    gate = net.op("Sigmoid", net.op("GlobalAveragePool", "x"))
    net.op("Mul", "x", gate)
    scale = _kernels(net)[-1]
    assert (scale.operands, len(scale.sources), scale.broadcasts) == (1, 2, True)


@pytest.mark.parametrize(("op", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
@pytest.mark.parametrize("directions", [1, 2])
def test_a_recurrence_multiplies_in_every_time_step(op: str, gates: int, directions: int) -> None:
    """Steps x directions x gates x hidden x (inputs + hidden) multiplications, none of them free on any target."""
    net = Net((20, 1, 12))
    weights = (net.weight(directions, gates * 16, 12), net.weight(directions, gates * 16, 16))
    direction = "bidirectional" if directions == 2 else "forward"
    net.op(op, "x", *weights, outputs=2, hidden_size=16, direction=direction)
    (kernel,) = _kernels(net)
    assert kernel.macs == 20 * directions * gates * 16 * (12 + 16)
    assert kernel.weights == directions * gates * 16 * (12 + 16)
    half = dataclasses.replace(kernel, rows=10)
    for profile in list_profiles():
        seconds = float(workload_latency_s(kernel, profile))
        assert 0 < float(workload_latency_s(half, profile)) < seconds < 1


def test_windows_over_one_and_three_axes() -> None:
    """A signal has height 1, a volume's depth and height are merged; neither goes the way that is for images alone."""
    for axes, hw, kernel in ((1, (1, 8), (1, 3)), (3, (64, 8), (9, 3))):
        net = Net(("N", 16, *[8] * axes))
        net.conv("x", 16, 32, 3, axes=axes)
        (found,) = _kernels(net)
        assert (found.out_hw, found.kernel, found.spatial_axes) == (hw, kernel, axes)
        assert found.macs == 8**axes * 16 * 32 * 3**axes
        assert kernel_path(found, Tiles(block=16)) == "fallback"


def test_the_channels_of_a_signal_are_on_its_second_axis() -> None:
    """Pool, norm and mean over what a convolution gives, in front of tokens with their features last."""
    net = Net(("N", 3, 16))
    x = net.op("MaxPool", net.conv("x", 3, 6, axes=1), kernel_shape=[2], strides=[2])
    x = net.op("Transpose", net.op("Sigmoid", net.op("Mul", x, x)), perm=[0, 2, 1])
    net.op("ReduceMean", net.op("Tanh", net.op("MatMul", x, net.weight(6, 5))), axes=[1], keepdims=0)
    kernels = {kernel.name.rstrip("0123456789"): kernel for kernel in _kernels(net)}
    assert (kernels["n_maxpool"].c_in, kernels["n_maxpool"].out_hw, kernels["n_maxpool"].kernel) == (6, (1, 8), (1, 2))
    assert (kernels["n_mul"].c_out, kernels["n_mul"].out_hw) == (6, (1, 8))
    assert (kernels["n_matmul"].c_in, kernels["n_matmul"].rows) == (6, 8)
    assert (kernels["n_reducemean"].c_in, kernels["n_reducemean"].input_elements) == (5, 40)


def test_products_that_are_no_matmul_are_priced_as_products() -> None:
    """Einsum by its indices, attention by its heads, an 8-bit convolution as a convolution."""
    net = Net((2, 5, 7))
    net.op("Einsum", "x", net.weight(7, 3), equation="bij,jk->bik")
    assert _kernels(net)[0].macs == 2 * 5 * 7 * 3
    net = Net((1, 6, 32), opset=23)
    net.op("Attention", "x", "x", "x", q_num_heads=4, kv_num_heads=4)
    assert _kernels(net)[0].macs == 2 * 6 * 6 * 32
    net = Net(("N", 2, 4, 4))
    quantised = net.op("QuantizeLinear", "x", net.constant(0.1, np.float32), net.constant(0, np.uint8))
    net.op("ConvInteger", quantised, net.constant(np.ones((3, 2, 1, 1)), np.uint8))
    assert _kernels(net)[-1].macs == 16 * 2 * 3
