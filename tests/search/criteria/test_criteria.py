"""Importance criteria: one test each, against brute force or a hand formula."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
from scipy import special

from search.criteria import CRITERIA
from search.criteria.base import Evidence
from search.graph.ir import Array
from search.graph.onnx.read import load
from search.graph.run.execute import Engine, trainable
from search.input.task import Task
from search.judge.accuracy import divergence
from search.repair.least_squares import DAMPING, Repairer
from search.space.groups import Group, find_groups
from search.wire.request import CriterionName
from tests.search.graph.nets import Net, images, resnet, run_ort
from tests.search.repair.test_least_squares import unrolled

SAMPLES = 32


def evidence_of(net: Net, *, labels: Array | None = None) -> Evidence:
    """Evidence on random images."""
    graph, feeds = load(net.bytes()), {"x": images(SAMPLES, 3, 8, 8)}
    groups = find_groups(graph, {"x": (1, 3, 8, 8)})
    repairer = Repairer(graph, groups, feeds, rng=np.random.default_rng(0))
    return Evidence(graph, groups, repairer.targets, feeds, labels)


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    """Two convolutions and a classifier, with labels."""
    net = Net(seed=3)
    hidden = net.op("Relu", net.conv("x", 3, 6))
    net.classifier(net.op("Relu", net.conv(hidden, 6, 4)), 4)
    return evidence_of(net, labels=np.random.default_rng(2).integers(0, 5, SAMPLES))


@pytest.fixture(scope="module")
def residual() -> Evidence:
    """Two residual stages with batch norms, without labels."""
    return evidence_of(resnet())


def produced(group: Group, evidence: Evidence) -> Array:
    """Filters of the one node that makes the group, (units, weights)."""
    weight = next(evidence.graph.initializers[s.weight] for s in group.slots if s.role == "produces")
    return weight.reshape(len(group), -1).astype(float)


@pytest.mark.parametrize("name", sorted(CRITERIA))
def test_every_criterion_gives_a_permutation(evidence: Evidence, name: str) -> None:
    """Each unit stands in the order exactly once."""
    for group in evidence.groups.prunable:
        assert sorted(CRITERIA[name](group, evidence).tolist()) == list(range(len(group)))


@pytest.mark.parametrize("name", sorted(CRITERIA))
def test_every_criterion_ranks_residual_groups_and_norms(residual: Evidence, name: str) -> None:
    """Groups of several producers, with batch norms, are ranked too."""
    for group in residual.groups.prunable:
        assert sorted(CRITERIA[name](group, residual).tolist()) == list(range(len(group)))


def test_the_request_offers_every_criterion() -> None:
    """The table and the request's names are the same, `auto` apart."""
    assert set(get_args(CriterionName)) == {*CRITERIA, "auto"}


@pytest.mark.parametrize(("name", "power"), [("l1", 1), ("l2", 2)])
def test_norms_order_by_filter_norm(evidence: Evidence, name: str, power: int) -> None:
    """The order is that of the filters' own norms where one node produces the group."""
    group = evidence.groups.prunable[0]
    norms = (np.abs(produced(group, evidence)) ** power).sum(1)
    assert CRITERIA[name](group, evidence).tolist() == np.argsort(norms).tolist()


def test_obs_removes_what_a_refit_misses_least(evidence: Evidence) -> None:
    """The whole greedy order equals trying every unit, refitting by ridge regression, and taking the least loss."""
    group = evidence.groups.prunable[0]
    slot = next(s for s in group.slots if s.role == "consumes")
    moments = evidence.targets[slot.node].moments
    gram, cross = moments.gram[0].astype(float), moments.cross[0].astype(float)
    hessian = gram + (DAMPING * np.trace(gram) / len(gram) + 1e-12) * np.eye(len(gram))
    taps = len(gram) // 6

    def fit_value(units: list[int]) -> float:
        """Explained sum of squares C' H^-1 C of the best weights on these units: loss is a constant minus this."""
        columns = np.concatenate([np.arange(u * taps, (u + 1) * taps) for u in units]) if units else np.zeros(0, int)
        c = cross[columns]
        return float((c * np.linalg.solve(hessian[np.ix_(columns, columns)], c)).sum()) if units else 0.0

    left, expected = list(range(6)), []
    while left:
        best = max(left, key=lambda u: fit_value([v for v in left if v != u]))
        expected.append(best)
        left.remove(best)
    assert CRITERIA["obs"](group, evidence).tolist() == expected


def linear_tail(last: str = "Identity", domain: str = "") -> tuple[Net, Evidence]:
    """Two convolutions, the second without activation, a mean over 64 positions, a product with weights (5, 4)."""
    net = Net(seed=3)
    net.classifier(net.conv(net.op("Relu", net.conv("x", 3, 6)), 6, 4), 4, 5)
    net.op(last, net.nodes[-1].output[0], domain=domain)
    return net, evidence_of(net)


def test_curvature_is_what_a_linear_tail_says() -> None:
    """Directions V, centred, are gradients by the scores; V W / positions those by the convolution."""
    net, found = linear_tail()
    found = dataclasses.replace(found, task=Task("classes"))
    answers = run_ort(net.bytes(), {"x": images(SAMPLES, 3, 8, 8)})[0].astype(float)
    drawn = np.random.default_rng((found.seed, 5)).standard_normal(answers.shape)
    directions = (drawn - drawn.mean(1, keepdims=True)) / np.sqrt((answers**2).mean())
    weight = next(value for value in found.graph.initializers.values() if value.shape == (5, 4))
    expected = [((directions @ weight) ** 2).mean() / 64, (directions**2).mean()]
    assert list(found.curvature.values()) == pytest.approx(expected, rel=1e-4)


def test_nothing_is_known_of_answers_without_a_gradient() -> None:
    """Behind a step function every gradient is zero."""
    assert not any(linear_tail("Floor")[1].curvature.values())


def test_answers_are_what_a_tail_reads() -> None:
    """An operator at the end that only ONNX Runtime knows is cut off: the curvature is that of the network in front of it."""
    found, plain = linear_tail("Gelu", "com.microsoft")[1].curvature, linear_tail()[1].curvature
    assert list(found.values()) == pytest.approx(list(plain.values()), rel=1e-5)


@pytest.mark.parametrize("known", [True, False])
def test_obs_sums_over_readers_by_what_their_errors_cost(residual: Evidence, known: bool) -> None:
    """The first unit to go leaves the least summed error of its readers' refits, times their curvature or over their energy."""
    evidence = dataclasses.replace(residual)
    if not known:
        vars(evidence)["curvature"] = {}
    shared = 0
    for group in evidence.groups.prunable:
        slots = [s for s in group.slots if s.role == "consumes" and s.node in evidence.targets]
        shared += len(slots) > 1
        costs = np.zeros(len(group))
        for slot in slots:
            target = evidence.targets[slot.node]
            gram, cross = target.moments.gram[0].astype(float), target.moments.cross[0].astype(float)
            gram = gram + (DAMPING * np.trace(gram) / len(gram) + 1e-12) * np.eye(len(gram))
            dense = np.linalg.solve(gram, cross)
            price = evidence.curvature[target.linear.output] if known else 1 / (dense * cross).sum()
            for i, unit in enumerate(group.units):
                left = np.repeat(slot.ids != unit, len(gram) // len(slot.ids))
                missed = dense.copy()
                missed[left] -= np.linalg.solve(gram[np.ix_(left, left)], gram[left] @ dense)
                costs[i] += price * (missed * (gram @ missed)).sum()
        assert CRITERIA["obs"](group, evidence)[0] == np.argmin(costs)
    assert shared


def test_obs_takes_a_weight_of_two_maps_once() -> None:
    """The first unit to go is the one whose absence costs least, w_u^2 / (H^-1)_uu, over the rows of both maps together."""
    net = unrolled()
    graph, feeds = load(net.bytes()), {"x": images(64, 2, 16)}
    groups = find_groups(graph, {"x": (1, 2, 16)})
    repairer = Repairer(graph, groups, feeds, rng=np.random.default_rng(0))
    (group,) = groups.prunable
    maps = [target for target in repairer.targets.values() if target.uses == 2]
    hidden = np.maximum(feeds["x"].reshape(-1, 16) @ graph.initializers[net.nodes[0].input[1]], 0).astype(float)
    hidden -= hidden.mean(0)
    gram = hidden.T @ hidden / len(hidden)
    damped = gram + DAMPING * np.trace(gram) / 80 * np.eye(80)
    weight = np.linalg.solve(damped, gram @ graph.initializers[maps[0].linear.weight])
    costs = (weight**2).sum(1) / np.diag(np.linalg.inv(damped))
    assert CRITERIA["obs"](group, Evidence(graph, groups, repairer.targets, feeds))[0] == np.argmin(costs)


def test_obs_without_equations_orders_by_magnitude(evidence: Evidence) -> None:
    """Where no reader can be refitted, the weakest filters go first."""
    group = evidence.groups.prunable[0]
    blind = dataclasses.replace(evidence, targets={})
    assert CRITERIA["obs"](group, blind).tolist() == CRITERIA["l2"](group, blind).tolist()


def test_random_follows_the_seed(evidence: Evidence) -> None:
    """The same seed gives the same order, another seed another one."""
    group = evidence.groups.prunable[0]
    orders = [CRITERIA["random"](group, dataclasses.replace(evidence, seed=seed)).tolist() for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_geometric_median_orders_by_summed_distance(evidence: Evidence) -> None:
    """Filters are ordered by the sum of distances to all others, computed pair by pair."""
    group = evidence.groups.prunable[0]
    filters = produced(group, evidence)
    distances = [sum(np.sqrt(((a - b) ** 2).sum()) for b in filters) for a in filters]
    assert CRITERIA["geometric_median"](group, evidence).tolist() == np.argsort(distances).tolist()


def normalised(gamma: Array, *, fold: bool) -> Evidence:
    """A convolution behind which a norm has exactly the statistics of the data, or the same with the norm folded in."""
    net = Net(seed=1)
    net.conv("x", 3, len(gamma))
    weight, bias = net.nodes[0].input[1:]
    y = run_ort(net.bytes(), {"x": images(SAMPLES, 3, 8, 8)})[0]
    mean, deviation = y.mean((0, 2, 3)), y.std((0, 2, 3))
    if fold:
        net.initializers[weight] *= (gamma / deviation)[:, None, None, None].astype(np.float32)
        net.initializers[bias] = ((net.initializers[bias] - mean) * gamma / deviation).astype(np.float32)
        x = net.nodes[0].output[0]
    else:
        values = (gamma, np.zeros(len(gamma)), mean, deviation**2)
        constants = [net.constant(value, np.float32) for value in values]
        x = net.op("BatchNormalization", net.nodes[0].output[0], *constants)
    net.classifier(net.op("Relu", x), len(gamma))
    return evidence_of(net)


@pytest.mark.parametrize("fold", [False, True], ids=["norm", "folded"])
def test_bn_scale_orders_by_gamma_even_when_folded(fold: bool) -> None:
    """The order is that of |gamma|, whether the norm is there or only the deviation that it leaves."""
    gamma = np.array([0.9, -0.2, 0.5, -1.4, 0.3, 1.1])
    evidence = normalised(gamma, fold=fold)
    assert CRITERIA["bn_scale"](evidence.groups.prunable[0], evidence).tolist() == np.argsort(np.abs(gamma)).tolist()


def gated_outputs(evidence: Evidence, group: Group) -> Callable[[int, float], Array]:
    """(unit, gate) to the outputs with that unit read through that gate."""
    slot = next(s for s in group.slots if s.role == "consumes")
    params = {name: evidence.graph.initializers[name] for name in trainable(evidence.graph)}
    weight, engine = params[slot.weight], Engine(evidence.graph, batch=SAMPLES)

    def outputs(unit: int, gate: float) -> Array:
        scale = np.where(slot.ids == group.units[unit], gate, 1.0).astype(np.float32)
        gated = weight * scale.reshape([-1 if i == slot.axis else 1 for i in range(weight.ndim)])
        return engine({**params, slot.weight: gated}, evidence.feeds)[0].astype(np.float64)

    return outputs


def differences(evidence: Evidence, group: Group, step: float = 0.005) -> Array:
    """(N, units): central differences of every sample's cross-entropy by each gate."""
    outputs = gated_outputs(evidence, group)

    def losses(unit: int, gate: float) -> Array:
        logits = outputs(unit, gate)
        return -special.log_softmax(logits, 1)[np.arange(len(logits)), evidence.labels]

    return np.stack([(losses(u, 1 + step) - losses(u, 1 - step)) / (2 * step) for u in range(len(group))], 1)


def test_gate_gradients_are_the_differences_of_the_loss(evidence: Evidence) -> None:
    """Every sample's derivative by every gate agrees with central differences; float32 and kinks leave about 1e-3."""
    for group in evidence.groups.prunable:
        expected = differences(evidence, group)
        assert np.abs(evidence.gate_gradients[group.id] - expected).max() < 2e-3 * max(1.0, np.abs(expected).max())


def test_taylor_and_fisher_order_by_differences(evidence: Evidence) -> None:
    """Taylor: mean magnitude of the differences; Fisher: mean square."""
    for group in evidence.groups.prunable:
        expected = differences(evidence, group)
        assert CRITERIA["taylor"](group, evidence).tolist() == np.argsort(np.abs(expected).mean(0)).tolist()
        assert CRITERIA["fisher"](group, evidence).tolist() == np.argsort((expected**2).mean(0)).tolist()


def test_without_labels_squared_gradients_are_the_curvature_of_the_divergence(evidence: Evidence) -> None:
    """KL(dense || gate at 1 - h) is h^2/2 times the mean squared gradient, up to the noise of one draw a sample."""
    repeated = {"x": np.tile(evidence.feeds["x"][:8], (16, 1, 1, 1))}
    task = Task("classes")
    unlabelled = [dataclasses.replace(evidence, feeds=repeated, labels=None, seed=s, task=task) for s in range(3)]
    for group in evidence.groups.prunable:
        found = np.mean([(e.gate_gradients[group.id] ** 2).mean(0) for e in unlabelled], 0)
        outputs = gated_outputs(unlabelled[0], group)
        moved = [divergence([outputs(unit, 0.95)], [outputs(unit, 1.0)], task) for unit in range(len(group))]
        assert np.allclose(found, np.array(moved) * 2 / 0.05**2, rtol=0.35)


def test_activation_rank_is_the_mean_rank_of_what_readers_see(evidence: Evidence) -> None:
    """Units are ordered by numpy's rank of their maps in ONNX Runtime, equal ranks by energy."""
    net = Net(seed=3)
    hidden = net.op("Relu", net.conv("x", 3, 6))
    weight, bias = net.nodes[0].input[1:]
    net.initializers[weight][1] = 0  # a constant map has rank 1
    net.initializers[bias][:2] = [-3, 0.5]  # a map that is almost always zero has rank 0 or little more
    net.classifier(net.op("Relu", net.conv(hidden, 6, 4)), 4)
    found = evidence_of(net)
    maps = run_ort(net.bytes(hidden), {"x": images(SAMPLES, 3, 8, 8)})[0]
    ranks = [np.mean([np.linalg.matrix_rank(image[u]) for image in maps]) for u in range(6)]
    energy = (maps.astype(float) ** 2).sum((0, 2, 3))
    expected = sorted(range(6), key=lambda u: (ranks[u], energy[u]))
    assert set(expected[:2]) == {0, 1}
    assert CRITERIA["activation_rank"](found.groups.prunable[0], found).tolist() == expected


def test_redundancy_removes_the_weaker_of_the_most_similar_pair() -> None:
    """A scaled copy goes first, then greedily by cosine similarity, searched pair by pair."""
    net = Net(seed=3)
    net.classifier(net.op("Relu", net.conv("x", 3, 6)), 6)
    weight = net.initializers[net.nodes[0].input[1]]
    weight[4] = 2 * weight[1]
    evidence = evidence_of(net)
    group = evidence.groups.prunable[0]
    filters = produced(group, evidence)
    cosine = lambda a, b: a @ b / np.sqrt((a @ a) * (b @ b))  # noqa: E731
    left, expected = list(range(6)), []
    while len(left) > 1:
        a, b = max(((a, b) for a in left for b in left if a < b), key=lambda p: cosine(filters[p[0]], filters[p[1]]))
        expected.append(min((a, b), key=lambda u: filters[u] @ filters[u]))
        left.remove(expected[-1])
    assert expected[0] == 1
    assert CRITERIA["redundancy"](group, evidence).tolist() == expected + left


@pytest.mark.parametrize("form", ["logits", "probabilities"])
def test_gradients_of_one_column_follow_binary_cross_entropy(form: str) -> None:
    """(p - y) times what the unit adds to the logit, by hand; the same for a network that ends in a sigmoid."""
    net = Net(("N", 3, 8, 8), seed=3)
    x = net.op("Relu", net.conv("x", 3, 4))
    net.classifier(x, 4, 1)
    if form == "probabilities":
        net.op("Sigmoid", net.nodes[-1].output[0])
    y = np.random.default_rng(2).integers(0, 2, SAMPLES)
    found = evidence_of(net, labels=y).gate_gradients
    weight, bias = list(net.initializers.values())[2:4]
    hidden = run_ort(net.bytes(x), {"x": images(SAMPLES, 3, 8, 8)})[0].mean((2, 3))
    logits = hidden @ weight.T + bias
    slope = special.expit(logits) - y[:, None]  # of -y log p - (1 - y) log(1 - p), by the logit
    assert next(iter(found.values())) == pytest.approx(slope * hidden * weight, rel=1e-3, abs=1e-5)


def test_gradients_of_tokens_follow_the_cross_entropy_along_the_last_axis() -> None:
    """Scores (N, T, C): sum over classes of (p - y) times what the unit adds to the score, averaged over tokens."""
    net = Net(("N", 5, 3), seed=3)
    hidden = net.op("Relu", net.op("MatMul", "x", net.weight(3, 4)))
    net.op("MatMul", hidden, net.weight(4, 6))
    graph, feeds = load(net.bytes()), {"x": images(SAMPLES, 5, 3)}
    groups = find_groups(graph, {"x": (1, 5, 3)})
    y = np.random.default_rng(2).integers(0, 6, (SAMPLES, 5))
    found = Evidence(graph, groups, {}, feeds, y).gate_gradients
    first, second = net.initializers.values()
    units = np.maximum(feeds["x"] @ first, 0)
    slope = special.softmax(units @ second, -1) - np.eye(6)[y]
    expected = ((slope @ second.T) * units).mean(1)
    assert next(iter(found.values())) == pytest.approx(expected, rel=1e-3, abs=1e-5)
