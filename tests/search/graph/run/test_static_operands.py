"""Operands that must be known before a network runs stay known, whatever is traced and whoever shares them."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
import pytest

from search.graph.onnx import read
from search.graph.run.execute import forward, static_operands, trainable
from search.graph.run.parts import values_of
from tests.search.graph.nets import Net, images, relative_error, run_ort


def _resize_by_scales(net: Net, x: str) -> str:
    """The scales are read by a product too, as exporters that share equal constants write it."""
    scales = net.constant([1, 1, 2, 2], np.float32)
    y = net.op(
        "Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )
    return net.op("Mul", y, net.op("Reshape", scales, net.constant([1, 4, 1, 1])))


def _resize_by_computed_scales(net: Net, x: str) -> str:
    """Twice the height and width, by dividing what Shape says."""
    sizes = net.op("Cast", net.op("Shape", x), to=1)
    doubled = net.op("Mul", sizes, net.constant([1, 1, 2, 2], np.float32))
    return net.op("Resize", x, "", net.op("Div", doubled, sizes), mode="linear")


def _resize_to_computed_sizes(net: Net, x: str) -> str:
    shape = net.op("Shape", x)
    start = net.op("Slice", shape, net.constant([0]), net.constant([1]))
    sizes = net.op("Concat", start, net.constant([4, 10, 12]), axis=0)
    return net.op("Resize", x, "", "", sizes, mode="nearest", nearest_mode="floor")


def _pad_with_a_value(net: Net, x: str) -> str:
    return net.op("Pad", x, net.constant([0, 0, 1, 0, 0, 0, 0, 2]), net.constant(0.5, np.float32))


def _expand_to_computed_sizes(net: Net, x: str) -> str:
    return net.op("Expand", net.op("GlobalAveragePool", x), net.op("Shape", x))


def _scalar_gather(net: Net, x: str) -> str:
    picked = net.op("Gather", x, net.constant(-2), axis=1)
    return net.op("Mul", x, net.op("Unsqueeze", picked, net.constant([1])))


def _range_over_the_width(net: Net, x: str) -> str:
    width = net.op("Cast", net.op("Gather", net.op("Shape", x), net.constant(3)), to=1)
    ramp = net.op("Range", net.constant(0.0, np.float32), width, net.constant(1.0, np.float32))
    return net.op("Add", x, ramp)


def _clip_reduce_top_k(net: Net, x: str) -> str:
    x = net.op("Clip", x, net.constant(-0.5, np.float32), net.constant(0.5, np.float32))
    x = net.op("ReduceSum", x, net.constant([3]), keepdims=1)
    return net.op("TopK", x, net.constant([3]), outputs=2, axis=2)


KINDS = (
    _resize_by_scales, _resize_by_computed_scales, _resize_to_computed_sizes, _pad_with_a_value,
    _expand_to_computed_sizes, _scalar_gather, _range_over_the_width, _clip_reduce_top_k,
)  # fmt: skip


@pytest.mark.parametrize("build", KINDS, ids=lambda build: build.__name__[1:])
def test_every_path_gives_what_onnx_runtime_gives(build: Callable[[Net, str], str]) -> None:
    """Compiled with every float as a parameter, and in ONNX Runtime as our view of it, free height and width."""
    net = Net(("N", 3, "H", "W"))
    y = build(net, net.op("Relu", net.conv("x", 3, 4)))
    net.conv(y, 4, 5)
    graph, feeds = read.load(net.bytes()), {"x": images(2, 3, 6, 7)}
    floats = {name: graph.initializers[name] for name in graph.float_initializers()}
    wanted = run_ort(net.bytes(), feeds)
    compiled = [np.asarray(value) for value in jax.jit(forward(graph))(floats, feeds)]
    assert relative_error(compiled, wanted) < 1e-5
    [values] = values_of(graph, [feeds], [info.name for info in graph.outputs])
    assert relative_error([values[info.name] for info in graph.outputs], wanted) < 1e-5


def test_what_decides_sizes_is_no_parameter() -> None:
    """Scales that a product shares are not trained; the convolutions' weights are."""
    net = Net(("N", 3, 8, 8))
    net.conv(_resize_by_computed_scales(net, net.conv("x", 3, 4)), 4, 5)
    graph = read.load(net.bytes())
    assert len(trainable(graph)) == 4
    assert not static_operands(graph) & set(trainable(graph))
