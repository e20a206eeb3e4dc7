"""Rewrites leave the function of a graph as it is, judged by ONNX Runtime, and do what they are for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from search.graph.ir import Graph
from search.graph.onnx import read, write
from search.graph.proto import to_graph
from search.graph.rewrite import normalise
from tests.search.graph.nets import Net, images, relative_error, resnet, run_ort


def _constants() -> Net:
    net = Net()
    value = net.op("Mul", net.op("Constant", value_float=2.0), net.weight(3, 1, 1))
    net.op("Relu", net.op("Identity", net.op("Dropout", net.op("Add", "x", value))))
    return net


def _shape_chain() -> Net:
    net = Net()
    size = net.op("Gather", net.op("Shape", "x"), net.constant(0), axis=0)
    axes, rest = net.constant([0]), net.constant([-1])
    target = net.op("Concat", net.op("Unsqueeze", size, axes), rest, axis=0)
    net.gemm(net.op("Reshape", net.op("Relu", "x"), target), 192, 4)
    return net


def _shared() -> Net:
    net = Net((2, 4, 8, 8))
    weight = net.weight(4, 4, 1, 1)
    net.op("Conv", net.op("Conv", "x", weight), weight)
    return net


def _shortcut() -> Net:
    net = Net()
    x = net.op("Relu", net.conv("x", 3, 8))
    starts, ends = net.constant([0, 0]), net.constant([2**31 - 1] * 2)
    part = net.op("Slice", x, starts, ends, net.constant([2, 3]), net.constant([2, 2]))
    short = net.op("Pad", part, net.constant([0, 4, 0, 0, 0, 4, 0, 0]), net.constant(0.0, np.float32))
    y = net.conv(net.op("Relu", net.conv(x, 8, 16, stride=2)), 16, 16)
    net.classifier(net.op("Relu", net.op("Add", y, short)), 16)
    return net


NETS: dict[str, Callable[[], Net]] = {
    "constants": _constants,
    "shape chain": _shape_chain,
    "shared": _shared,
    "shortcut": _shortcut,
    "batch norm": resnet,
}
PASSES = (
    normalise.fold_constants,
    normalise.drop_identities,
    normalise.fold_batch_norms,
    normalise.pad_slice_to_conv,
    normalise.unshare,
    normalise.drop_dead,
    normalise.normalise,
)


@pytest.mark.parametrize("rewrite", PASSES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", NETS)
def test_every_pass_keeps_the_function(name: str, rewrite: Callable[[Graph], Graph]) -> None:
    """ONNX Runtime gives the same outputs before and after, at another batch size than declared where it is free."""
    data = NETS[name]().bytes()
    graph = read.read(data)
    if rewrite is not normalise.fold_constants:
        graph = normalise.fold_constants(graph)
    batch, *rest = graph.inputs[0].shape
    feeds = {"x": images(batch if isinstance(batch, int) else 3, *(int(size or 1) for size in rest))}
    rewritten = run_ort(write.export(rewrite(graph)), feeds)
    assert relative_error(rewritten, run_ort(data, feeds)) < 1e-5


def test_batch_norms_are_folded() -> None:
    """No normalisation is left behind a convolution."""
    assert not [node for node in read.load(resnet().bytes()).nodes if node.op == "BatchNormalization"]


def test_constants_become_initializers() -> None:
    """Only what depends on the input stays a node."""
    assert [node.op for node in read.load(_constants().bytes()).nodes] == ["Add", "Relu"]


def test_the_shortcut_becomes_a_convolution() -> None:
    """Slice and Pad are gone, a strided 1x1 convolution stands in their place."""
    ops = [node.op for node in read.load(_shortcut().bytes()).nodes]
    assert not {"Slice", "Pad"} & set(ops)
    assert ops.count("Conv") == 4


def test_shared_weights_become_two() -> None:
    """Two convolutions over one initializer get one each."""
    graph = read.load(_shared().bytes())
    assert len({node.inputs[1] for node in graph.nodes}) == 2


def test_a_constant_bomb_is_left_alone() -> None:
    """A few bytes that ask for terabytes are not folded, where nothing has refused the file before."""
    net = Net(("N", 1, 1))
    net.op("Add", "x", net.op("ConstantOfShape", net.constant([1 << 20, 1 << 20])))
    graph = normalise.fold_constants(to_graph(net.proto(), {"": net.opset}))
    assert [node.op for node in graph.nodes] == ["ConstantOfShape", "Add"]


def test_export_is_deterministic() -> None:
    """The same file gives the same bytes, twice."""
    data = resnet().bytes()
    assert write.export(read.load(data)) == write.export(read.load(data))


def test_export_and_import_again_is_the_identity() -> None:
    """Normalising is idempotent: the bytes of a normalised graph come back unchanged."""
    once = write.export(read.load(resnet().bytes()))
    assert write.export(read.load(once)) == once


def test_the_batch_stays_dynamic() -> None:
    """The exported file declares the batch by name and runs at any size."""
    data = write.export(read.load(_shape_chain().bytes()))
    assert onnx.load_from_string(data).graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    for batch in (1, 2, 7):
        assert run_ort(data, {"x": images(batch, 3, 8, 8)})[0].shape == (batch, 4)
