"""Kernels and their cost, against closed forms."""

from __future__ import annotations

from hwprofiles.workload import GRAPH_INPUT, Workload
from search.graph import execute, fuse, onnx_import
from tests.search.graph.nets import Net, resnet


def _kernels(net: Net) -> list[Workload]:
    graph = onnx_import.load(net.bytes())
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
