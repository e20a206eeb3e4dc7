"""What a file makes out of nothing is known before any runtime runs it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from search.graph.limits import MAX_CONSTANT_ELEMENTS, MAX_CONSTANTS_ELEMENTS
from search.graph.onnx.read import load, read
from search.wire.errors import InvalidModel, ResourceLimit
from tests.search.graph.nets import Net


def filled(net: Net, *sizes: int) -> str:
    """Zeros of sizes that stand in the file."""
    return net.op("ConstantOfShape", net.constant(np.array(sizes)))


def multiplied(net: Net, *sizes: int) -> str:
    """The same where the file only has factors of the sizes, which arithmetic puts together."""
    halves = net.op("Mul", net.constant(np.array(sizes) // 2), net.constant(np.array(2)))
    return net.op("ConstantOfShape", net.op("Concat", halves, axis=0))


def expanded(net: Net, *sizes: int) -> str:
    """One row, as often as sizes in the file say."""
    return net.op("Expand", net.weight(1, sizes[-1]), net.constant(np.array(sizes)))


@pytest.mark.parametrize("make", [filled, multiplied, expanded])
def test_gigabytes_out_of_nothing_are_refused_by_name(make: object) -> None:
    """Four gigabytes of a file of some hundred bytes; a tenth of what is allowed passes."""
    assert callable(make)
    for rows, refused in ((1 << 27, True), (MAX_CONSTANT_ELEMENTS // 80, False)):
        net = Net(("N", 8))
        zeros = make(net, rows, 8)
        maker = net.nodes[-1].name
        net.op("Add", "x", net.op("ReduceSum", zeros, net.constant(np.array([0]))))
        if refused:
            with pytest.raises(ResourceLimit, match=f"node `{maker}` .* makes") as found:
                read(net.bytes())
            assert found.value.fields["found"] > 1 << 29
        else:
            read(net.bytes())


def test_many_constants_count_together() -> None:
    """Each is allowed, all of them are not."""
    net = Net(("N", 8))
    side = MAX_CONSTANT_ELEMENTS // 8
    for _ in range(MAX_CONSTANTS_ELEMENTS // MAX_CONSTANT_ELEMENTS + 1):
        net.op("Add", "x", net.op("ReduceMax", filled(net, side, 8), axes=[0]))
    with pytest.raises(ResourceLimit, match=f"{MAX_CONSTANTS_ELEMENTS} in all"):
        read(net.bytes())


def test_a_model_without_outputs_is_refused_at_once() -> None:
    """Nothing tells what it is for."""
    net = Net(("N", 8))
    net.gemm("x", 8, 3)
    proto = net.proto()
    del proto.graph.output[:]
    with pytest.raises(InvalidModel, match="no output"):
        read(proto.SerializeToString())


def test_what_nothing_reads_is_not_converted() -> None:
    """Of many initializers those that a node reads, a body of control flow among them, or that are outputs."""
    net = Net(("N", 8))
    net.op("Add", "x", net.weight(8))
    unused = net.weight(8)
    graph = read(net.bytes())
    assert unused not in graph.initializers
    assert len(graph.initializers) == 1


def test_onnx_runtime_decides_what_is_a_model() -> None:
    """It runs ThresholdedRelu in a file of operator set 9, where the checker knows none before 10."""
    net = Net(("N", 8))
    net.op("ThresholdedRelu", net.gemm("x", 8, 3))
    proto = net.proto()
    proto.opset_import[0].version = 9
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(proto)
    assert len(load(proto.SerializeToString()).outputs) == 1
