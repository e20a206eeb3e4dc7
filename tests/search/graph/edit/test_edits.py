"""Every kind of edit changes the fields that it names, and no other."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from search.graph.edit import edits as e
from search.graph.edit.liveness import newly_dead
from search.graph.sources import Tensor
from tests.search.graph.edit import message_diff


def _model(ir_version: int = 8) -> onnx.ModelProto:
    """A Conv of x and of what an Identity makes of w, Add of a Constant, Relu, and an If whose bodies read its result."""
    bodies = [
        helper.make_graph([helper.make_node(op, ["r"], [f"{op}.o"])], op, [], [onnx.ValueInfoProto(name=f"{op}.o")])
        for op in ("Relu", "Sigmoid")
    ]
    nodes = [
        helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.ones((1, 4, 1, 1), np.float32))),
        helper.make_node("Identity", ["w"], ["v"]),
        helper.make_node("Conv", ["x", "v"], ["c"], name="conv", group=1),
        helper.make_node("Add", ["c", "k"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=bodies[0], else_branch=bodies[1]),
        helper.make_node("Sigmoid", ["v"], ["dead"]),
    ]
    weights = {"w": np.ones((4, 2, 1, 1), np.float32), "flag": np.array(True)}
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 5, 5])]
    if ir_version < message_diff.INPUTS_UNTIL_IR:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in initializers]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    noted = [helper.make_tensor_value_info("c", TensorProto.FLOAT, ["N", 4, 5, 5])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers, value_info=noted)
    return helper.make_model(graph, ir_version=ir_version, opset_imports=[helper.make_opsetid("", 17)])


ONE_EACH: list[tuple[e.Edit, set[str]]] = [
    (
        e.Put(Tensor("w"), np.zeros((3, 2, 1, 1), np.float32)),
        {"graph.initializer[w].dims", "graph.initializer[w].raw_data"},
    ),
    (e.Put(Tensor("value", 0), np.zeros((1, 4, 1, 1), np.float32)), {"graph.node[0].attribute[value].t.raw_data"}),
    (e.SetAttribute(2, "group", 2), {"graph.node[2].attribute[group].i"}),
    (e.SetAttribute(2, "group", None), {"-graph.node[2].attribute[group]"}),
    (e.SetAttribute(2, "strides", [2, 2]), {"+graph.node[2].attribute[strides]"}),
    (e.SetSize("c", 1, 3), {"graph.value_info[c].type.tensor_type.shape.dim[1].dim_value"}),
    (e.Rewire(2, 1, "w"), {"graph.node[2].input[1]"}),
    (e.Rewire(2, 2, "b"), {"graph.node[2].input[2]"}),
    (
        e.Rename("r", "a"),
        {f"graph.node[5].attribute[{body}].g.node[0].input[0]" for body in ("then_branch", "else_branch")},
    ),
    (e.Insert(4, helper.make_node("Neg", ["a"], ["n"])), {"+graph.node[Neg n]"}),
    (e.Drop(6), {"-graph.node[6]"}),
    (e.Forget("c"), {"-graph.value_info[c]"}),
]


@pytest.mark.parametrize(("edit", "paths"), ONE_EACH)
def test_an_edit_changes_what_it_names(edit: e.Edit, paths: set[str]) -> None:
    """The message differs in these paths; the tool that explains edits says the same."""
    before, after = _model(), _model()
    e.apply(after, [edit])
    assert message_diff.differences(before, after) == paths
    assert message_diff.explained(before, [edit]) == [paths]


def test_a_difference_that_no_edit_names_is_found() -> None:
    """And so is an edit that changed nothing."""
    before, after = _model(), _model()
    after.graph.node[2].doc_string = "seen"
    assert message_diff.unexplained(before, after, []) == [
        "no edit names the difference graph.node[2].doc_string",
    ]
    told = message_diff.unexplained(before, before, [e.Rewire(2, 1, "w")])
    assert told == ["graph.node[2].input[1] is as before, in spite of an edit"]


def test_before_ir_4_a_new_initializer_is_an_input_as_well() -> None:
    """The file stays one that its own version allows; what is forgotten goes from both."""
    before, after = _model(3), _model(3)
    edits = [e.Add("b", np.ones(4, np.float32)), e.Rewire(2, 2, "b"), e.Rewire(2, 1, "b"), e.Forget("w")]
    e.apply(after, edits)
    given = {info.name for info in after.graph.input}
    assert given == {"x", "b", "flag"}
    assert not message_diff.unexplained(before, after, edits)


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float16, np.float64, np.int64, np.int8, np.uint64, ml_dtypes.bfloat16]
)
@pytest.mark.parametrize("raw", [True, False])
def test_numbers_stay_in_their_field(dtype: Any, *, raw: bool) -> None:
    """Raw bytes stay raw bytes, typed lists stay typed lists: sizes in varints would take more room as raw bytes."""
    value, new = np.arange(6).reshape(2, 3).astype(dtype), (np.arange(4).reshape(2, 2) + 1).astype(dtype)
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    model = _model()
    stored = (
        numpy_helper.from_array(value, "t") if raw else helper.make_tensor("t", code, value.shape, value.reshape(-1))
    )
    stored.doc_string = "a table"
    model.graph.initializer.append(stored)
    e.apply(model, [e.Put(Tensor("t"), new)])
    (after,) = (tensor for tensor in model.graph.initializer if tensor.name == "t")
    assert {field.name for field, _ in after.ListFields()} == {field.name for field, _ in stored.ListFields()}
    assert np.array_equal(numpy_helper.to_array(after), new)
    assert (after.doc_string, after.data_type) == ("a table", code)


def test_what_was_dead_stays_and_keeps_what_it_reads() -> None:
    """The Sigmoid that nobody reads is the client's: the Identity that it reads stays too, though the Conv reads another."""
    graph = _model().graph
    found = newly_dead(graph, [e.Rewire(2, 1, "other")])
    assert found == []
    del graph.node[6]
    assert newly_dead(graph, [e.Rewire(2, 1, "other")]) == [e.Drop(1), e.Forget("w")]
