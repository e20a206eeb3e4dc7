"""What is understood, what computes sizes, what is carried: counted node by node."""

from __future__ import annotations

import numpy as np

from search.graph import onnx_import
from tests.search.graph.nets import Net


def test_kinds_count_the_nodes_of_the_file() -> None:
    """Two layers are understood; the three nodes that say where to reshape to compute sizes, wherever they stand."""
    net = Net(("N", 3, 8, 8))
    hidden = net.op("Relu", net.conv("x", 3, 4))
    batch = net.op("Gather", net.op("Shape", "x"), net.constant(np.array([0])))
    target = net.op("Concat", batch, net.constant(np.array([256])), axis=0)
    net.op("Reshape", hidden, target)
    kinds = onnx_import.load(net.bytes(net.last)).kinds
    assert kinds is not None
    assert (kinds.understood, kinds.shapes, kinds.carried) == (3, 3, ())
