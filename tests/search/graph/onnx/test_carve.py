"""What is understood, what computes sizes, what is carried: counted node by node."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from search.graph.onnx import read
from tests.search.graph.nets import Net


def test_kinds_count_the_nodes_of_the_file() -> None:
    """Two layers are understood; the three nodes that say where to reshape to compute sizes, wherever they stand."""
    net = Net(("N", 3, 8, 8))
    hidden = net.op("Relu", net.conv("x", 3, 4))
    batch = net.op("Gather", net.op("Shape", "x"), net.constant(np.array([0])))
    target = net.op("Concat", batch, net.constant(np.array([256])), axis=0)
    net.op("Reshape", hidden, target)
    kinds = read.load(net.bytes(net.last)).kinds
    assert kinds is not None
    assert (kinds.understood, kinds.shapes, kinds.carried) == (3, 3, ())


@pytest.mark.parametrize("kind", ["sequence", "optional"])
def test_an_input_that_is_no_tensor_is_looked_at(kind: str) -> None:
    """A list of tensors, or one that may be missing, is made up for the look: what reads it is carried."""
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [None, 4])
    if kind == "sequence":
        given = helper.make_sequence_type_proto(tensor)
        reads = helper.make_node("ConcatFromSequence", ["s"], ["y"], axis=0)
    else:
        given = helper.make_optional_type_proto(tensor)
        reads = helper.make_node("OptionalGetElement", ["s"], ["y"])
    graph = helper.make_graph(
        [reads],
        "g",
        [helper.make_value_info("s", given)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    kinds = read.load(data).kinds
    assert kinds is not None
    assert [found.operator for found in kinds.carried] == [reads.op_type]
