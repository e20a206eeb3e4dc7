"""Sparse training: sparsity as asked, zeros exact, patterns kept, schedules as published."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from search.graph.ir import Array, Graph
from search.graph.onnx.read import load
from search.space.groups import find_groups
from search.train.descent import Course
from search.train.schedules import SCHEDULES, Stage
from search.train.trainer import DISTIL, Trainer
from search.train.zeros import erdos_renyi, regrown, sparsify, two_of_four, unstructured
from search.wire.errors import InvalidRequest
from search.wire.request import ScheduleName
from tests.search.graph.nets import Net, images
from tests.search.train.students import trainer

COURSE = Course(20, 3e-3, DISTIL, checks=2)


def mlp() -> tuple[Graph, list[str]]:
    """Three linear layers behind a Flatten, and their weights."""
    net = Net()
    x = net.op("Relu", net.gemm(net.op("Flatten", "x"), 192, 16))
    net.gemm(net.op("Relu", net.gemm(x, 16, 12)), 12, 5)
    return load(net.bytes()), ["w0", "w2", "w4"]


def mobile() -> tuple[Graph, list[str]]:
    """Pointwise, depthwise, pointwise; and the pointwise weights."""
    net = Net()
    x = net.op("Relu", net.conv(net.conv("x", 3, 8), 8, 16, 1))
    net.classifier(net.conv(net.op("Relu", net.conv(x, 16, 16, groups=16)), 16, 8, 1), 8)
    return load(net.bytes()), ["w2", "w6"]


def teacher_of(graph: Graph) -> Trainer:
    """Of random images."""
    return trainer(graph, find_groups(graph, {"x": (1, 3, 8, 8)}))


@pytest.mark.parametrize("build", [mlp, mobile])
def test_unstructured_zeros_are_exact_after_training(build: object) -> None:
    """Every weight has just the zeros that were asked for, and the rest was trained."""
    graph, names = mlp() if build is mlp else mobile()
    trained, _ = sparsify(teacher_of(graph), graph, dict.fromkeys(names, 0.75), SCHEDULES["gradual"](), COURSE)
    for name in names:
        weight = trained.initializers[name]
        assert (weight == 0).sum() == round(0.75 * weight.size), name
        kept = weight != 0
        assert (weight[kept] != graph.initializers[name][kept]).any()


@pytest.mark.parametrize("build", [mlp, mobile])
def test_two_of_every_four_inputs_are_zero_after_training(build: object) -> None:
    """2:4 along the inputs of every output, exactly, in linear layers and pointwise convolutions."""
    graph, names = mlp() if build is mlp else mobile()
    share = dict.fromkeys(names, 0.5)
    trained, _ = sparsify(teacher_of(graph), graph, share, SCHEDULES["one-shot"](), COURSE, pattern=two_of_four)
    for name in names:
        fours = trained.initializers[name].reshape(len(trained.initializers[name]), -1, 4)
        assert ((fours == 0).sum(2) == 2).all(), name


def best_pairs(scores: Array) -> Array:
    """The brute-force twin: of every four the pair with the largest sum."""
    mask = np.zeros(scores.shape, bool)
    for row, column in np.ndindex(scores.shape[0], scores.shape[1] // 4):
        four = scores[row, 4 * column : 4 * column + 4]
        pair = max(itertools.combinations(range(4), 2), key=lambda pair: four[list(pair)].sum())
        mask[row, [4 * column + i for i in pair]] = True
    return mask


def test_two_of_four_keeps_the_best_pair() -> None:
    """As trying all pairs does."""
    scores = np.abs(images(5, 12))
    assert np.array_equal(two_of_four(scores, 0.5), best_pairs(scores))


def test_two_of_four_on_the_way_cuts_whole_fours() -> None:
    """At a quarter, half of the fours are 2:4, those that lose least, and the others are whole."""
    scores = np.abs(images(4, 16))
    mask = two_of_four(scores, 0.25).reshape(-1, 4)
    lost = np.sort(scores.reshape(-1, 4), 1)[:, :2].sum(1)
    cut = mask.sum(1) == 2
    assert cut.sum() == 8
    assert (mask[~cut]).all()
    assert lost[cut].max() <= lost[~cut].min()


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_ends_at_what_was_asked_for(name: ScheduleName) -> None:
    """Shares of the steps sum to one, levels never fall, the last one is everything."""
    stages = SCHEDULES[name]()
    assert sum(stage.share for stage in stages) == pytest.approx(1)
    levels = [stage.level for stage in stages]
    assert levels == sorted(levels)
    assert levels[-1] == 1


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_gives_the_sparsity(name: ScheduleName) -> None:
    """On one linear layer, whatever the way there."""
    net = Net()
    net.gemm(net.op("Flatten", "x"), 192, 4)
    graph = load(net.bytes())
    trained, _ = sparsify(teacher_of(graph), graph, {"w0": 0.9}, SCHEDULES[name](), COURSE)
    assert (trained.initializers["w0"] == 0).sum() == round(0.9 * 4 * 192)


def test_small_layers_keep_more() -> None:
    """Densities are as the sums of sizes over their products, the sparsity of all is as asked, none keeps more than all."""
    shapes = {"a": (100, 100), "b": (50, 20), "c": (4, 5)}
    shares = erdos_renyi(shapes, 0.8)
    entries = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    assert sum(shares[name] * entries[name] for name in shapes) == pytest.approx(0.8 * sum(entries.values()))
    assert shares["c"] == 0
    assert (1 - shares["a"]) / (1 - shares["b"]) == pytest.approx((200 / 10_000) / (70 / 1_000))
    assert min(shares.values()) >= 0


def test_regrowth_exchanges_the_smallest_for_the_steepest() -> None:
    """By hand: of two kept weights the smaller goes, of two cut ones that with the larger gradient comes."""
    masks = {"w": np.array([True, True, False, False])}
    new = regrown(masks, {"w": np.array([3.0, 1.0, 0, 0])}, {"w": np.array([9.0, 9.0, 1.0, 2.0])}, 0.5)
    assert new["w"].tolist() == [True, False, False, True]


def test_regrowth_of_patterns_is_refused() -> None:
    """Single weights cannot be exchanged within 2:4."""
    graph, names = mlp()
    with pytest.raises(InvalidRequest, match="unstructured"):
        sparsify(teacher_of(graph), graph, {names[0]: 0.5}, SCHEDULES["regrowth"](), COURSE, pattern=two_of_four)


def test_rewinding_starts_every_stage_from_the_first_weights() -> None:
    """With a learning rate of zero in between, the kept weights are the very first ones."""
    graph, _ = mlp()
    stages = (Stage(0.5, 0.5, restart=True), Stage(0.5, 1.0, rewind=True, restart=True))
    still = Course(4, 0.0, DISTIL, checks=1)
    trained, _ = sparsify(teacher_of(graph), graph, {"w0": 0.8}, stages, still)
    kept = trained.initializers["w0"] != 0
    assert np.array_equal(trained.initializers["w0"][kept], graph.initializers["w0"][kept])
    assert np.array_equal(kept, unstructured(np.abs(graph.initializers["w0"]), 0.8))
