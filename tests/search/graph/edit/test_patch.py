"""Files whose patches once went wrong, by the laws of `patch_laws`; and tensors whose readers disagree."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from search.graph.edit import edits as e
from search.graph.edit.patch import patch
from search.graph.onnx import read
from search.graph.upload import Upload
from tests.search.graph import habits
from tests.search.graph.edit.patch_laws import Case, Laws
from tests.search.graph.nets import Net, images, relative_error, run_ort


def _shortcut() -> Net:
    """A padded, strided shortcut, which is written as a convolution, behind a ReLU."""
    net = Net(("N", 3, 8, 6))
    x = net.op("Relu", net.batch_norm(net.conv("x", 3, 4), 4))
    y = net.op("Relu", net.batch_norm(net.conv(x, 4, 6, stride=2), 6))
    ends = (net.constant([0, 0]), net.constant([2**63 - 1] * 2), net.constant([2, 3]), net.constant([2, 2]))
    short = net.op("Pad", net.op("Slice", x, *ends), net.constant([0, 1, 0, 0, 0, 1, 0, 0]))
    net.classifier(net.op("Relu", net.op("Add", net.batch_norm(net.conv(y, 6, 6), 6), short)), 6)
    return net


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "chosen",
    [
        (habits.functions,),  # a new node reads what only a function's body names
        (habits.casts,),  # the weights have another type than the new node's input
        (habits.splits,),  # sizes of the parts name the dense sizes
        (habits.slices, habits.concats),  # so do bounds; and one part may go wholly
        (habits.arithmetic,),  # no tensor of the file holds the weight
        (habits.arithmetic, habits.reshapes),
        (habits.branches, habits.old_inputs),
        (habits.half, habits.branches),
        (habits.notes, habits.old_inputs),  # a dead node reads a weight
    ],
)
def test_the_laws_hold(chosen: tuple[Callable[[habits.File], None], ...], seed: int) -> None:
    """Cut to less than half, with new numbers: exactly the recorded edits, and the numbers of the masked file."""
    file = habits.File(_shortcut().proto(), seed)
    for habit in chosen:
        habit(file)
    laws = Laws()
    laws.check(Case(file.upload(), tuple(habit.__name__ for habit in chosen), 0.4, 0.5, 0.0, seed))
    assert (laws.files, laws.refused) == (1, 0)


def test_readers_that_disagree_share_what_they_can() -> None:
    """Of three readers of one large tensor the one that did not change keeps it; the others share nothing, and get their own."""
    random = np.random.default_rng(0)
    value = (random.standard_normal((70, 70)) / 8).astype(np.float32)
    nodes = [
        *(helper.make_node("Transpose", ["w"], [f"w{i}"], perm=[1, 0]) for i in range(3)),
        helper.make_node("MatMul", ["x", "w0"], ["a"]),
        helper.make_node("MatMul", ["a", "w1"], ["b"]),
        helper.make_node("MatMul", ["b", "w2"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 70]) for name in ("x", "y")]
    graph_proto = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(value, "w")])
    model = helper.make_model(graph_proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    graph = read.load(Upload(model.SerializeToString()))
    feeds = {"x": images(2, 70)}
    new = {"w0": graph.initializers["w0"] * np.float32(1.5), "w2": graph.initializers["w2"] * np.float32(0.5)}
    patched = patch(graph, graph.with_initializers(new), {})
    added = [edit for edit in patched.edits if isinstance(edit, e.Add)]
    assert len(added) == 2
    assert not [edit for edit in patched.edits if isinstance(edit, e.Put)]
    expected = feeds["x"] @ (value.T * 1.5) @ value.T @ (value.T * 0.5)
    assert relative_error(run_ort(patched.model, feeds), [expected]) < 1e-5
    both = patch(graph, graph.with_initializers({**new, "w1": graph.initializers["w1"] * np.float32(2)}), {})
    assert len([edit for edit in both.edits if isinstance(edit, e.Put)]) == 1
    assert len([edit for edit in both.edits if isinstance(edit, e.Add)]) == 2
    assert len(onnx.ModelProto.FromString(both.model).graph.initializer) == 3


def test_a_constant_that_stays_as_it_is_is_no_edit() -> None:
    """A slice whose end moves with the cut and whose begin does not: the laws ask that every edit names a difference."""
    net = Net(("N", 3, 4, 4))
    padded = net.op("Pad", net.conv("x", 3, 2), net.constant([0, 0, 0, 0, 0, 1, 0, 0]))
    ends = (net.constant([1]), net.constant([3]), net.constant([1]))
    net.gemm(net.op("Flatten", net.op("Slice", padded, *ends)), 32, 4)
    laws = Laws()
    laws.check(Case(Upload(net.bytes()), (), share=0.0, moved=0.0, blocks=0.0, seed=0))
    assert laws.cut


def test_a_declared_size_that_inference_cannot_tell_is_forgotten() -> None:
    """Scales that are computed hide what stands behind a Resize: what is declared there would contradict the cut."""
    net = Net(("N", 3, 4, 4))
    grown = net.op("Resize", net.conv("x", 3, 2), "", net.constant([1, 1, 2, 2], np.float32), mode="nearest")
    net.gemm(net.op("Flatten", net.conv(grown, 2, 2, stride=2)), 32, 4)
    file = habits.File(net.proto(), 0)
    (scales,) = [tensor for tensor in file.graph.initializer if tensor.name == net.nodes[1].input[2]]
    factors = [file.add(value, "raw") for value in (numpy_helper.to_array(scales), np.ones((), np.float32))]
    file.graph.initializer.remove(scales)
    file.first(helper.make_node("Mul", factors, [net.nodes[1].input[2]]))
    laws = Laws()
    laws.check(Case(file.upload(), (), share=0.0, moved=0.0, blocks=0.0, seed=0))
    assert laws.edits["Forget"]
