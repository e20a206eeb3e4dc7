"""How far rounding alone may carry a file from its twin."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from search.graph.edit.patch import file_of
from search.graph.onnx.read import load
from search.judge.proof import MOST_ROUNDING, TOLERANCE, TOLERANCES, Proof, tolerance
from tests.search.graph.nets import Net, images


@pytest.mark.parametrize(
    ("stored", "used", "expected"),
    [
        (np.float32, None, TOLERANCE),
        (np.float64, TensorProto.FLOAT, TOLERANCE),
        (np.float64, TensorProto.FLOAT16, TOLERANCES["float16"]),
        (np.float32, TensorProto.BFLOAT16, TOLERANCES["bfloat16"]),
    ],
)
def test_what_counts_is_the_type_that_is_computed_in(stored: type, used: int | None, expected: float) -> None:
    """A weight may be stored wider than it is used."""
    net = Net(("N", 8))
    weight = net.constant(np.eye(8), stored)
    if used is not None:
        weight = net.op("Cast", weight, to=used)
        weight = net.op("Cast", weight, to=TensorProto.FLOAT)
    net.op("MatMul", "x", weight)
    assert tolerance(load(net.bytes())) == expected


def steep(share: float) -> bytes:
    """What many sums come to, less a share of the same: the last digits are left."""
    net = Net(("N", 16, 12, 12))
    weight, scale = net.weight(32, 16, 3, 3), net.constant(share, np.float32)
    x, y = (net.op("Conv", "x", w, kernel_shape=[3, 3]) for w in (weight, net.op("Mul", weight, scale)))
    net.op("GlobalAveragePool", net.op("Relu", net.op("Sub", x, y)))
    return net.bytes()


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, TOLERANCE, TOLERANCE), (0.9995, 2e-4, MOST_ROUNDING)])
def test_a_network_that_rounds_more_is_allowed_more(share: float, low: float, high: float) -> None:
    """By as much as the runtime itself differs from its own rewrites; never beyond a thousandth."""
    graph = load(steep(share))
    proof = Proof(file_of(graph), graph, {"x": images(8, 16, 12, 12)})
    assert low <= proof.allowed(file_of(graph)) <= high
