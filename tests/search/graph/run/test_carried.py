"""An operator outside the table that ONNX Runtime knows: run there, its neighbours frozen, the rest pruned."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
import pytest

from search.graph.onnx import head, read
from search.graph.onnx.write import export
from search.graph.run import carried, execute, runtime
from search.judge.sessions import showing
from search.wire.errors import ResourceLimit, UnsupportedOperator
from tests.search.graph import parts
from tests.search.graph.hostile import HOSTILE
from tests.search.graph.nets import Net, images, relative_error, run_ort
from tests.search.space.laws import couple, cut_against_masked


def _net() -> Net:
    """Two convolutions, a contrib operator, two convolutions."""
    net = Net()
    x = net.op("Relu", net.conv(net.op("Relu", net.conv("x", 3, 8)), 8, 6))
    x = net.op("QuickGelu", x, domain="com.microsoft", alpha=1.5)
    net.classifier(net.op("Relu", net.conv(net.op("Relu", net.conv(x, 6, 8)), 8, 6)), 6)
    return net


def test_it_runs_in_the_engine() -> None:
    """Under jit, the outputs equal ONNX Runtime's of the whole file."""
    data, x = _net().bytes(), images(3, 3, 8, 8)
    outputs = execute.Engine(read.load(data), batch=2)({}, {"x": x})
    assert relative_error(outputs, run_ort(data, {"x": x})) < 1e-5


def test_gradients_stop_at_it() -> None:
    """Weights behind the operator learn, weights before it have a gradient of zero."""
    graph = read.load(_net().bytes())
    weights = {name: graph.initializers[name] for name in execute.trainable(graph)}
    run, x = execute.forward(graph), images(2, 3, 8, 8)
    gradients = jax.grad(lambda p: (run(p, {"x": x})[0] ** 2).sum())(weights)
    assert not np.any(gradients["w0"])
    assert np.any(gradients["w4"])


def test_its_neighbours_are_frozen_and_the_rest_is_cut() -> None:
    """Three layers of four can be cut; the report names the operator."""
    _, error, found = cut_against_masked(_net().bytes())
    assert error < 1e-5
    assert [len(group) for group in found.prunable] == [8, 8, 6]
    assert any("QuickGelu" in group.reason for group in found.frozen)


def test_one_that_nobody_knows_is_refused() -> None:
    """The refusal names node and operator."""
    net = Net()
    net.op("NoSuchThing", net.conv("x", 3, 4), domain="com.microsoft")
    with pytest.raises(UnsupportedOperator) as caught:
        couple(read.load(net.bytes()))
    assert caught.value.fields["operator"] == "com.microsoft::NoSuchThing"


@pytest.mark.parametrize("name", parts.MIDDLE)
def test_a_part_in_the_middle_computes_what_the_file_does(name: str) -> None:
    """Under jit, and written as a working copy, with what bodies read from outside."""
    data, feeds = parts.MIDDLE[name]()
    graph = read.load(data)
    assert graph.kinds is not None
    assert graph.kinds.carried
    wanted = run_ort(data, feeds)
    assert relative_error(execute.Engine(graph, batch=3)({}, feeds), wanted) < 1e-5
    assert relative_error(run_ort(export(graph), feeds), wanted) < 1e-6


@pytest.mark.parametrize("name", ["branch_of_weights", "loop", "contrib"])
def test_channels_beside_a_part_are_cut(name: str) -> None:
    """Something can go, the cut file equals the masked one, and what stays says why."""
    _, error, found = cut_against_masked(parts.MIDDLE[name]()[0])
    assert error < 1e-5
    assert found.prunable
    assert any("run by ONNX Runtime as it is" in group.reason for group in found.frozen)


@pytest.mark.parametrize(("file", "made"), [(parts.words, "i"), (parts.hashed, "i")])
def test_a_head_is_no_part_of_the_graph(file: Callable[[], parts.File], made: str) -> None:
    """Its outputs are inputs of the graph; integers of more than 32 bits are exact there."""
    data, feeds = file()
    graph = read.load(data)
    assert made in [info.name for info in graph.inputs]
    assert not any(node.is_carried for node in graph.nodes)
    outputs = execute.Engine(graph, batch=2)({}, head.enter(graph, feeds))
    assert relative_error(outputs, run_ort(data, feeds)) < 1e-5


@pytest.mark.parametrize(
    ("file", "borders"), [(parts.labels, ["p"]), (parts.boxes, ["scores", "boxes"]), (parts.classical, [])]
)
def test_a_tail_is_no_part_of_the_graph(file: Callable[[], parts.File], borders: list[str]) -> None:
    """The graph ends with what the tail reads; of a file without a network nothing is left."""
    data, feeds = file()
    graph = read.load(data)
    assert [info.name for info in graph.outputs] == borders
    assert not any(node.is_carried for node in graph.nodes)
    assert graph.kinds is not None
    assert len(graph.kinds.carried) == (1 if borders else 2)
    if borders:
        outputs = execute.Engine(graph, batch=3)({}, feeds)
        assert relative_error(outputs, run_ort(showing(data, borders), feeds)[-len(borders) :]) < 1e-5


def test_a_run_ends_after_its_time() -> None:
    """The error names the node, and the next run works."""
    runner = runtime.Runner(HOSTILE["endless_loop"]())
    with pytest.raises(ResourceLimit, match=r"Loop.*more than 0.2 s"):
        runner({"x": np.ones(1, np.float32)}, longest_s=0.2)
    data, feeds = parts.loop()
    assert runtime.Runner(data)(feeds)[0].shape == (3, 5)


def test_an_error_survives_compiled_code() -> None:
    """A size that turns out to depend on the data is refused by name."""
    net = Net()
    net.classifier(net.op("QuickGelu", net.conv("x", 3, 4), domain="com.microsoft"), 4)
    graph = read.load(net.bytes())
    (node,) = [node for node in graph.nodes if node.is_carried]
    with pytest.raises(NotImplementedError, match="on other data"):
        carried._of_shapes([(1, 4, 8, 8)], [np.zeros((2, 4, 8, 8))])
    with pytest.raises(RuntimeError, match=node.name):
        carried._host(node, lambda *_: [np.zeros(2)], [jax.ShapeDtypeStruct((1,), np.float32)])
    kept = runtime.kept()
    assert isinstance(kept, UnsupportedOperator)
    assert kept.fields["node"] == node.name
    assert runtime.kept() is None
