"""An operator outside the table that ONNX Runtime knows: run there, its neighbours frozen, the rest pruned."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from search.errors import UnsupportedOperator
from search.graph import execute, onnx_import
from tests.search.graph.nets import Net, images, relative_error, run_ort
from tests.search.prune.laws import couple, cut_against_masked


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
    outputs = execute.Engine(onnx_import.load(data), batch=2)({}, {"x": x})
    assert relative_error(outputs, run_ort(data, {"x": x})) < 1e-5


def test_gradients_stop_at_it() -> None:
    """Weights behind the operator learn, weights before it have a gradient of zero."""
    graph = onnx_import.load(_net().bytes())
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
        couple(onnx_import.load(net.bytes()))
    assert caught.value.fields["operator"] == "com.microsoft::NoSuchThing"
