"""How far rounding alone may carry a file from its twin."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from search.graph.onnx.read import load
from search.judge.proof import TOLERANCE, TOLERANCES, tolerance
from tests.search.graph.nets import Net


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
