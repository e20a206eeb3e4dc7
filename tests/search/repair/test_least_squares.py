"""Linear views, least squares and sequential repair, against the operators themselves and against numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from search.graph.onnx.read import load
from search.graph.onnx.write import export
from search.graph.run.execute import Engine, trainable
from search.repair import targets
from search.repair.least_squares import DAMPING, Repairer
from search.repair.moments import Moments, ridge
from search.repair.targets import rows_for
from search.space.groups import find_groups
from search.space.linear import linear_of
from search.space.structures.channel import keep_mask
from search.space.surgery import mask
from tests.search.graph.nets import Net, images, relative_error, run_ort


def transposed(net: Net, axes: int, **attributes: Any) -> None:
    """A transposed convolution that skips positions, widened kernel and all."""
    weights = (net.weight(3, 5, *[3] * axes), net.weight(5))
    net.op("ConvTranspose", "x", *weights, kernel_shape=[3] * axes, strides=[2] * axes, **attributes)


BUILD: dict[str, tuple[tuple[int, ...], Callable[[Net], object]]] = {
    "conv": ((3, 8, 8), lambda net: net.conv("x", 3, 7, 3, stride=2)),
    "signal": ((3, 9), lambda net: net.conv("x", 3, 7, 3, stride=2, axes=1)),
    "volume": ((3, 4, 5, 6), lambda net: net.conv("x", 3, 7, 3, stride=2, axes=3)),
    "depthwise": ((3, 8, 8), lambda net: net.conv("x", 3, 3, 3, groups=3)),
    "grouped": ((6, 8, 8), lambda net: net.conv("x", 6, 9, 3, groups=3)),
    "grouped signal": ((6, 8), lambda net: net.conv("x", 6, 4, 5, groups=2, axes=1)),
    "transposed": ((3, 5, 6), lambda net: transposed(net, 2, pads=[1, 0, 0, 1], output_padding=[1, 0])),
    "transposed signal": ((3, 7), lambda net: transposed(net, 1, dilations=[2])),
    "batch_norm": ((3, 8, 8), lambda net: net.batch_norm("x", 3)),
    "gemm": ((6,), lambda net: net.gemm("x", 6, 4)),
    "matmul": ((3, 8, 8), lambda net: net.op("MatMul", "x", net.weight(8, 6))),
}
"""One weighted operator of a kind, and the shape of a sample."""


@pytest.mark.parametrize("kind", BUILD)
def test_linear_view_computes_the_operator(kind: str) -> None:
    """Rows in times matrix plus bias are rows out, as ONNX Runtime computes them."""
    shape, build = BUILD[kind]
    net = Net(("N", *shape))
    build(net)
    model = net.bytes()
    graph = load(model)
    node = graph.nodes[-1]
    linear = linear_of(node, graph)
    assert linear is not None
    x = images(2, *shape)
    y = run_ort(model, {"x": x})[0]
    positions = linear.positions(y.shape, 2, 1000, np.random.default_rng(0))
    rows = linear.input_rows(x, graph.initializers, positions, y.shape[2:])
    product = rows @ linear.matrix(graph.initializers)
    offset = (linear.output_rows(y, positions) - product).reshape(linear.groups, -1, product.shape[2])
    assert np.abs(offset - offset[:, :1]).max() < 1e-4  # what remains is the bias, the same in every row
    params = dict(graph.initializers)
    linear.write(linear.matrix(params) * 2.0, 2.0 * offset[:, 0], params)
    scaled = Engine(graph, batch=2)({name: params[name] for name in trainable(graph)}, {"x": x})[0]
    assert np.allclose(scaled, 2 * y, rtol=1e-4, atol=1e-4)


def test_ridge_without_damping_is_lstsq() -> None:
    """With vanishing damping the answer is numpy's least squares with an intercept column."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 6)), rng.normal(size=(200, 3))
    weight, bias = ridge(Moments.of(x[None], y[None]), np.zeros((1, 6, 3)), damping=1e-10, intercept=True)
    expected = np.linalg.lstsq(np.column_stack([x, np.ones(200)]), y, rcond=None)[0]
    assert np.allclose(weight[0], expected[:6], atol=1e-6)
    assert np.allclose(bias[0], expected[6], atol=1e-6)


def test_ridge_with_much_damping_is_the_prior() -> None:
    """With overwhelming damping the weights stay where they were."""
    rng = np.random.default_rng(0)
    prior = rng.normal(size=(1, 6, 3))
    moments = Moments.of(rng.normal(size=(1, 50, 6)), rng.normal(size=(1, 50, 3)))
    assert np.allclose(ridge(moments, prior, damping=1e9, intercept=True)[0], prior, atol=1e-6)


def test_redundant_channels_cost_nothing() -> None:
    """A network whose channels come in equal pairs loses one of each pair without any loss."""
    net = Net()
    hidden = net.op("Relu", net.conv("x", 3, 8))
    net.classifier(net.op("Relu", net.conv(hidden, 8, 6)), 6)
    first = net.nodes[0]
    for name in first.input[1:]:
        net.initializers[name][4:] = net.initializers[name][:4]
    graph = load(net.bytes())
    groups = find_groups(graph, {"x": (1, 3, 8, 8)})
    x = images(64, 3, 8, 8)
    repairer = Repairer(graph, groups, {"x": x}, rng=np.random.default_rng(0))
    keep = {g.id: np.ones(len(g), bool) for g in groups.prunable}
    keep[first.name] = np.arange(8) < 4
    dense = run_ort(net.bytes(), {"x": x})[0]
    for repaired in (repairer.repair(keep), repairer.compensated(keep)):
        full = {**graph.initializers, **repaired}
        output = Engine(graph, batch=64)({name: full[name] for name in trainable(graph)}, {"x": x})[0]
        assert np.abs(output - dense).max() < 0.02 * np.abs(dense).max()  # the ridge keeps it from being exact
    blind = dict(graph.initializers)
    blind[net.nodes[2].input[1]] = np.where(np.arange(8)[None, :, None, None] < 4, blind[net.nodes[2].input[1]], 0)
    masked = Engine(graph, batch=64)({name: blind[name] for name in trainable(graph)}, {"x": x})[0]
    assert np.abs(masked - dense).max() > 0.1 * np.abs(dense).max()  # without repair it would cost a lot


def test_keep_mask_cuts_the_first_of_the_order() -> None:
    """Units go in the order given."""
    assert keep_mask(np.array([2, 0, 1]), 1).tolist() == [False, True, False]


def test_a_bias_behind_a_matrix_product_is_refitted() -> None:
    """A product and the Add behind it are one map: cutting inputs with a mean is made up for in the bias."""
    net = Net(("N", 5, 6))
    product = net.op("MatMul", "x", net.weight(6, 8))
    hidden = net.op("Relu", net.op("Add", net.weight(8), product))
    net.op("Add", net.op("MatMul", hidden, net.weight(8, 4)), net.constant(np.arange(4), np.float32))
    graph = load(net.bytes())
    groups = find_groups(graph, {"x": (1, 5, 6)})
    x = images(64, 5, 6)
    repairer = Repairer(graph, groups, {"x": x}, rng=np.random.default_rng(0))
    last = next(target for target in repairer.targets.values() if target.value == graph.outputs[0].name)
    assert np.array_equal(graph.initializers[last.linear.bias], np.arange(4))
    keep = {group.id: np.arange(len(group)) < len(group) // 2 for group in groups.prunable}
    repaired = repairer.repair(keep)
    dense = run_ort(net.bytes(), {"x": x})[0].reshape(-1, 4)
    pruned = run_ort(export(graph.with_initializers(repaired)), {"x": x})[0].reshape(-1, 4)
    assert np.allclose(pruned.mean(0), dense.mean(0), atol=1e-3)  # least squares with an intercept keeps the mean


def test_wide_layers_are_fitted_on_two_rows_an_input() -> None:
    """As many as ever up to a 3x3 kernel over 128 channels; then two an input, between the fewest and the most."""
    assert [rows_for(inputs) for inputs in (9, 1152, 1153, 3000, 20_000)] == [16_384, 16_384, 4_096, 6_000, 16_384]


def unrolled() -> Net:
    """One weight that two products have, as a recurrence of two steps written out has it; their inputs share channels."""
    net = Net(("N", 2, 16))
    hidden = net.op("Relu", net.op("MatMul", "x", net.weight(16, 80)))
    shared = net.weight(80, 64)
    steps = [net.op("Gather", hidden, net.constant(i), axis=1) for i in range(2)]
    net.op("Sub", *(net.op("Tanh", net.op("MatMul", step, shared)) for step in steps))
    return net


def test_a_bias_stays_with_a_weight_that_is_shared() -> None:
    """Steps of a recurrence that was written out have both in common, and so one set of equations and one refit."""
    net = Net(("N", 2, 16))
    hidden = net.op("Relu", net.op("MatMul", "x", net.weight(16, 80)))
    shared, bias = net.weight(80, 64), net.weight(64)
    steps = [net.op("Gather", hidden, net.constant(i), axis=1) for i in range(2)]
    net.op("Sub", *(net.op("Tanh", net.op("Gemm", step, shared, bias)) for step in steps))
    graph = load(net.bytes())
    repairer = Repairer(
        graph, find_groups(graph, {"x": (1, 2, 16)}), {"x": images(32, 2, 16)}, rng=np.random.default_rng(0)
    )
    assert [(t.linear.weight, t.linear.bias) for t in repairer.targets.values() if t.uses == 2] == [(shared, bias)] * 2


def test_a_map_of_a_constant_is_repaired_with_the_others() -> None:
    """The first step of a recurrence reads zeros that are made from a shape: no channel of what it gives belongs to anything."""
    net = Net(("N", 2, 16))
    hidden = net.op("Relu", net.op("MatMul", "x", net.weight(16, 40)))
    hidden = net.op("Relu", net.op("MatMul", hidden, net.weight(40, 80)))
    count = net.op("Gather", net.op("Shape", hidden), net.constant([0]), axis=0)
    nothing = net.op("ConstantOfShape", net.op("Concat", count, net.constant([64]), axis=0))
    step = net.op("Gather", hidden, net.constant(1), axis=1)
    products = (net.gemm(nothing, 64, 64), net.gemm(step, 80, 64))
    net.gemm(net.op("Tanh", net.op("Add", *products)), 64, 3)
    graph = load(net.bytes())
    groups = find_groups(graph, {"x": (1, 2, 16)})
    feeds = {"x": images(200, 2, 16)}
    repairer = Repairer(graph, groups, feeds, rng=np.random.default_rng(0))
    keep = {group.id: np.arange(len(group)) % 2 == 0 for group in groups.prunable}
    assert keep
    wanted = run_ort(net.bytes(), feeds)
    errors = [
        relative_error(run_ort(export(graph.with_initializers(params)), feeds), wanted)
        for params in (repairer.repair(keep), mask(graph.initializers, groups, keep))
    ]
    assert errors[0] < errors[1]


def test_a_weight_of_two_maps_is_refitted_to_both() -> None:
    """Its equations are those of the rows of both maps, numpy's normal equations solved once."""
    net = unrolled()
    graph = load(net.bytes())
    groups = find_groups(graph, {"x": (1, 2, 16)})
    x = images(300, 2, 16) * np.array([1.0, 3.0], np.float32)[:, None]
    repairer = Repairer(graph, groups, {"x": x}, rng=np.random.default_rng(0))
    first, second = (target for target in repairer.targets.values() if target.uses == 2)
    assert first.moments is second.moments
    assert first.moments.rows == 600
    (group,) = groups.prunable
    keep = {group.id: np.arange(80) % 2 == 0}
    weights = graph.initializers
    hidden = np.maximum(x @ weights[net.nodes[0].input[1]], 0).reshape(600, 80).astype(np.float64)
    shared = weights[first.linear.weight]
    stays = hidden[:, keep[group.id]]
    gram = stays.T @ stays / 600
    centred = (stays - stays.mean(0)).T @ (stays - stays.mean(0)) / 600
    damping = DAMPING * np.trace(gram) / 40 * np.eye(40)
    wanted = np.linalg.solve(gram + damping, stays.T @ (hidden @ shared) / 600 + damping @ shared[keep[group.id]])
    assert not np.allclose(gram, centred)
    for found in (repairer.repair(keep), repairer.compensated(keep)):
        assert np.allclose(found[first.linear.weight][keep[group.id]], wanted, atol=2e-3)
        assert not found[first.linear.weight][~keep[group.id]].any()


@pytest.mark.parametrize("groups", [1, 3])
def test_moments_of_parts_are_those_of_all_rows(groups: int) -> None:
    """However the rows are divided, and with means that are far from those of the whole."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(groups, 90, 4)) + np.linspace(0, 50, 90)[:, None]
    y = x @ rng.normal(size=(groups, 4, 2)) + rng.normal(size=(groups, 90, 2))
    whole = Moments.of(x, y)
    parts = [Moments.of(x[:, part], y[:, part]) for part in (slice(7), slice(7, 40), slice(40, None))]
    for joined in (Moments.joined(parts), Moments.joined([Moments.joined(parts[:2]), parts[2]])):
        for name in ("gram", "cross", "mean_x", "mean_y"):
            assert np.allclose(getattr(joined, name), getattr(whole, name), rtol=1e-9), name
        assert joined.rows == 90


def test_a_map_with_too_many_inputs_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no equations; what makes its inputs still has."""
    monkeypatch.setattr(targets, "MOST_INPUTS", 79)
    net = unrolled()
    graph = load(net.bytes())
    repairer = Repairer(
        graph, find_groups(graph, {"x": (1, 2, 16)}), {"x": images(32, 2, 16)}, rng=np.random.default_rng(0)
    )
    assert [target.linear.weight for target in repairer.targets.values()] == [net.nodes[0].input[1]]
