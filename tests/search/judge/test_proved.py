"""Groups that cannot be cut in the file stay, and the reason is told."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from search.graph.edit.patch import file_of
from search.graph.onnx import read
from search.judge.proof import Proof
from search.judge.proved import unproved
from search.space.plan import Knobs
from tests.search.graph.nets import Net, images

WIDTH = 64


def _layer(net: Net, x: str, c_in: int, c_out: int, *, packed: bool) -> str:
    """A layer whose weight is 8-bit integers times a scale, by plain arithmetic, or is as it is."""
    if not packed:
        return net.op("MatMul", x, net.weight(c_in, c_out))
    integers = net.constant(net.random.integers(-99, 99, (c_in, c_out)), np.int8)
    wide = net.op("Cast", integers, to=TensorProto.FLOAT)
    return net.op("MatMul", x, net.op("Mul", wide, net.constant(0.01, np.float32)))


def test_channels_stay_where_the_file_would_grow() -> None:
    """Half of a weight in floats is twice the whole of it in 8 bits; the channels between plain weights are cut all the same."""
    net = Net(("N", 8))
    x = net.op("Relu", _layer(net, "x", 8, 8, packed=False))
    x = net.op("Relu", _layer(net, x, 8, 9, packed=False))
    x = net.op("Relu", _layer(net, x, 9, WIDTH, packed=True))
    _layer(net, x, WIDTH, WIDTH, packed=True)
    graph = read.load(net.bytes())
    knobs = Knobs(graph, {"x": (1, 8)})
    plain, _, packed = (group.id for group in knobs.groups.prunable)
    failing = unproved(knobs, Proof(file_of(graph), graph, {"x": images(4, 8)}))
    assert packed in failing
    assert "bytes" in failing[packed]
    assert plain not in failing
