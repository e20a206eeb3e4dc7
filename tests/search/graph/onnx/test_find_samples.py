"""Where samples stand is seen by running the file, not taken from what it declares."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from search.graph.onnx.find_samples import Found, find_samples
from search.graph.onnx.read import load, read
from search.graph.run.execute import forward
from search.graph.sampling import Sampling
from search.wire.errors import InvalidModel, InvalidRequest
from tests.search.graph.nets import Array, Net, images, relative_error, run_ort
from tests.search.graph.test_sampling import CASES


def found(model: bytes, count: int | None = None, **arrays: Array) -> Found:
    """What running a file shows, with the client's arrays."""
    return find_samples(model, read(model), arrays=arrays, count=count)


@pytest.mark.parametrize("case", CASES)
def test_axes_and_batch_are_found(case: Callable[[], tuple[Net, Sampling]]) -> None:
    """Every file whose samples stand as its builder says."""
    net, expected = case()
    assert found(net.proto(*expected.outputs).SerializeToString()).sampling == expected


def lstm(*shape: int | str, layout: str = "reverse") -> Net:
    """Scores of the last step of a recurrence over axis 0."""
    net = Net(shape)
    y = net.op("LSTM", "x", net.weight(1, 16, 6), net.weight(1, 16, 4), hidden_size=4, direction=layout)
    steps = net.op("Reshape", net.op("Transpose", y, perm=[0, 2, 1, 3]), net.constant([0, 0, 4]))
    net.gemm(net.op("Gather", steps, net.constant(-1), axis=0), 4, 3)
    return net


def test_a_length_that_is_fixed_is_no_batch() -> None:
    """(20, 1, F): freed in a copy, the second axis is followed by the scores, the first is not."""
    assert found(lstm(20, 1, 6).bytes()).sampling == Sampling({"x": 1}, {"gemm4": 0}, 1)


def test_what_mixes_along_an_axis_is_no_sample() -> None:
    """Answers for every step, (T, N, C): the steps follow axis 0 too, but a step is seen in those before it."""
    net = Net(("a", "b", 6))
    y = net.op("LSTM", "x", net.weight(1, 16, 6), net.weight(1, 16, 4), hidden_size=4, direction="reverse")
    net.op("Reshape", y, net.constant([0, -1, 4]))
    model = net.bytes()
    assert found(model).sampling.inputs == {"x": 1}


def test_a_free_batch_that_refuses_two_is_fixed() -> None:
    """Declared N, but a Reshape wants one row."""
    net = Net(("N", 3, 8, 8))
    net.gemm(net.op("Reshape", net.op("GlobalAveragePool", net.conv("x", 3, 8)), net.constant([1, 8])), 8, 5)
    assert found(net.bytes()).sampling == Sampling({"x": 0}, {"gemm3": 0}, 1)


@pytest.mark.parametrize("names", [("?", "?"), ("", ""), (-1, -1), (-1, -4)])
def test_sizes_without_a_name_are_their_own(names: tuple[str | int, str | int]) -> None:
    """Two free sizes of one spelling need not be equal; those of the data are taken."""
    net = Net(("N", 3, 8, 8))
    net.classifier(net.conv("x", 3, 4), 4)
    model = net.proto()
    for dim, name in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], names, strict=True):
        dim.Clear()
        if isinstance(name, int):
            dim.dim_value = name
        else:
            dim.dim_param = name
    del model.graph.value_info[:]
    result = found(model.SerializeToString(), x=images(9, 3, 12, 20))
    assert result.samples == {"x": (3, 12, 20)}
    assert not result.guessed
    first, second = (run["x"] for run in result.runs)
    assert len({*first[2:], *second[2:]}) == 4


def test_a_size_that_the_graph_needs_is_found() -> None:
    """A kernel as high as the image: rows of text of any width, of one height."""
    net = Net(("N", 1, "height", "width"))
    x = net.op("Conv", "x", net.weight(4, 1, 48, 3), kernel_shape=[48, 3])
    net.op("Squeeze", x, net.constant([2]))
    result = found(net.bytes())
    assert result.samples["x"][1] == 48
    assert result.samples["x"][2] != 48
    assert result.guessed == {"x": (1, *result.samples["x"])}


def test_a_rank_that_is_not_declared_comes_from_the_data() -> None:
    """An input of no declared shape at all is run as the data have it, and may be written again."""
    net = Net(("N", 6))
    net.gemm("x", 6, 3)
    model = net.proto()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    data, x = model.SerializeToString(), images(9, 6)
    graph = load(data, found(data, x=x))
    assert graph.inputs[0].shape == (None, None)
    assert graph.sampling.native


@pytest.mark.parametrize(
    ("x", "count", "axis"),
    [((30, 20, 6), 30, 1), ((20, 30, 6), 30, 1), ((9, 3, 8), None, None)],
    ids=["first", "as taken", "whole"],
)
def test_the_data_decide_where_several_readings_fit(x: tuple[int, ...], count: int | None, axis: int | None) -> None:
    """Labels tell which axis is the samples'; an array of one axis more says that the whole input is a sample."""
    net = lstm("T", "N", 6)
    if axis is None:
        net = Net((3, 8))
        net.op("ReduceMean", net.op("MatMul", "x", net.weight(8, 5)), axes=[0], keepdims=1)
    assert found(net.bytes(), count, x=images(*x)).sampling.inputs == {"x": axis}


def test_shapes_that_were_asked_for_are_taken() -> None:
    """Sizes by name, whatever else would run."""
    net = Net(("N", 3, "H", "W"))
    net.classifier(net.conv("x", 3, 4), 4)
    model = net.bytes()
    result = find_samples(model, read(model), asked={"x": (1, 3, 10, 14)})
    assert result.samples == {"x": (3, 10, 14)}
    assert not result.guessed


@pytest.mark.parametrize(
    ("asked", "words"),
    [({"z": (1,)}, "inputs are x"), ({"x": (1, 3, 8)}, "x:1,3,1,1"), ({"x": (1, 4, 8, 8)}, r"1,4,8,8")],
)
def test_shapes_that_do_not_fit_are_refused(asked: dict[str, tuple[int, ...]], words: str) -> None:
    """An unknown name, another rank, a fixed size."""
    net = Net(("N", 3, "H", "W"))
    net.classifier(net.conv("x", 3, 4), 4)
    model = net.bytes()
    with pytest.raises(InvalidRequest, match=words):
        find_samples(model, read(model), asked=asked)


def test_a_file_that_runs_at_no_size_says_how_to_name_one() -> None:
    """What the runtime said last, and what to write."""
    net = Net(("N", 3, "H", "W"))
    net.gemm(net.op("Flatten", "x"), 3 * 33 * 35, 2)
    with pytest.raises(InvalidModel, match="--input-shape x:"):
        found(net.bytes())


def test_rows_of_a_free_height_are_computed_rightly() -> None:
    """A target (N H, W, C) computed from shapes is no constant, though it looks like one where H is W."""
    net = Net(("N", 3, "H", "W"))
    t = net.op("Transpose", net.conv("x", 3, 4), perm=[0, 2, 3, 1])
    shape = net.op("Shape", t)
    n, h, w = (net.op("Gather", shape, net.constant([i])) for i in range(3))
    rows = net.op("Reshape", t, net.op("Concat", net.op("Mul", n, h), w, net.constant([4]), axis=0))
    net.op("Reshape", net.op("Softmax", rows, axis=1), shape)
    model = net.bytes()
    for graph in (load(model), load(model, found(model, x=images(9, 3, 8, 16)))):
        for size in ((2, 3, 8, 8), (3, 3, 6, 10)):
            x = images(*size)
            assert (
                relative_error([np.asarray(v) for v in forward(graph)({}, {"x": x})], run_ort(model, {"x": x})) < 1e-5
            )


def test_a_state_without_a_name_for_its_batch_goes_with_the_samples() -> None:
    """An input (-1, 6) and a state (2, -1, 6): both batches are one."""
    net = Net(("", 6))
    net.inputs.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, [2, None, 6]))
    w = [net.weight(1, 24, 6), net.weight(1, 24, 6)]
    h = net.op("Split", "h", outputs=2, axis=0)
    y = net.op("LSTM", net.op("Unsqueeze", "x", net.constant([0])), *w, "", "", h, f"{h}_1", outputs=3, hidden_size=6)
    hidden = net.op("Concat", f"{y}_1", f"{y}_2", axis=0)
    scores = net.gemm(net.op("Squeeze", f"{y}_1", net.constant([0])), 6, 3)
    model = net.proto(scores, hidden)
    onnx.checker.check_model(model)
    assert found(model.SerializeToString()).sampling == Sampling({"x": 0, "h": 1}, {scores: 0, hidden: 1})
