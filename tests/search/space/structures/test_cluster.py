"""The cluster rule of sparse phone kernels, and plans with zeros: priced, repaired, cut, counted in the file."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from hwprofiles.latency import workload_latency_s
from hwprofiles.registry import load_profile
from hwprofiles.rules import sparsity_rule
from search.allocate.base import Problem
from search.allocate.chain import BUCKETS, chain_order
from search.allocate.knapsack import knapsack
from search.allocate.price import Pricer
from search.graph.ir import Array, Graph
from search.graph.onnx.read import load
from search.graph.onnx.write import export
from search.graph.upload import Upload
from search.pipeline import compress
from search.repair.least_squares import DAMPING, Repairer
from search.space.options import states_for
from search.space.plan import Knobs, Plan, zeros_knob, zeros_of
from search.space.structures.cluster import LEVELS, find_cluster, runs_zeros, time_factor
from search.space.structures.pattern import Zeros
from search.space.surgery import cut
from search.wire.progress import Progress
from search.wire.request import Constraints, JobSpec, SearchOptions
from tests.search.graph.nets import Net, images, relative_error, run_ort

PHONE = "pixel4-1large-tflite-fp32"
INPUT = {"x": (1, 3, 16, 16)}


def inverted_residuals(*, stem_stride: int = 2, body_kernel: int = 1, tail: bool = True, body_stride: int = 1) -> Net:
    """A stem, an inverted residual and a head; each argument breaks one condition of the rule."""
    net = Net(("N", 3, 16, 16), seed=4)
    x = net.op("Relu", net.conv("x", 3, 16, stride=stem_stride))
    y = net.op("Relu", net.conv(x, 16, 32, body_kernel))
    y = net.op("Relu", net.conv(y, 32, 32, groups=32))
    x = net.op("Add", net.conv(y, 32, 16, 1), x)
    x = net.op("Relu", net.conv(x, 16, 24, 1, stride=body_stride))
    if tail:
        net.classifier(x, 24)
    else:
        net.gemm(net.op("Flatten", net.op("MaxPool", x, kernel_shape=[8, 8])), 24, 5)
    return net


def knobs_of(net: Net) -> Knobs:
    """Everything that can be turned."""
    return Knobs(load(net.bytes()), INPUT)


def pointwise(graph: Graph) -> list[str]:
    """Names of the 1x1 convolutions."""
    return [n.name for n in graph.nodes if n.op == "Conv" and graph.initializers[n.inputs[1]].shape[1:][1:] == (1, 1)]


def test_a_whole_cluster_is_its_pointwise_convolutions() -> None:
    """All 1x1 convolutions between stem and mean, and nothing else."""
    knobs = knobs_of(inverted_residuals())
    assert find_cluster(knobs.graph, knobs.groups.shapes) == tuple(pointwise(knobs.graph))


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: inverted_residuals(stem_stride=1), "stride 2"),
        (lambda: inverted_residuals(body_kernel=3), "neither 1x1"),
        (lambda: inverted_residuals(body_stride=2), "neither 1x1"),
        (lambda: inverted_residuals(tail=False), "MaxPool"),
    ],
    ids=["stem", "dense 3x3", "strided 1x1", "no mean"],
)
def test_each_broken_condition_is_named(build: Callable[[], Net], reason: str) -> None:
    """One condition less, and the cluster is refused in words."""
    knobs = knobs_of(build())
    found = find_cluster(knobs.graph, knobs.groups.shapes)
    assert isinstance(found, str)
    assert reason in found


def test_only_targets_that_skip_zeros_get_a_sparse_state() -> None:
    """A phone's CPU in fp32 has two states, its GPU and the host one each, with the reason."""
    knobs = knobs_of(inverted_residuals())
    every = ("channel", "depth", "unstructured")
    assert len(states_for(knobs, load_profile(PHONE), every)) == 2
    assert len(states_for(knobs, load_profile(PHONE), ("channel", "depth"))) == 1
    for name in ("pixel4-gpu-tflite-fp32", "host-cpu-onnxruntime"):
        assert len(states_for(knobs, load_profile(name), every)) == 1
        assert isinstance(runs_zeros(load_profile(name), knobs.graph, knobs.groups.shapes), str)


def test_the_sparse_state_is_above_the_switch_at_any_choice() -> None:
    """Every level is above the share at which the runtime switches, so no mixture of them falls below it."""
    assert min(LEVELS) > sparsity_rule("unstructured", load_profile(PHONE)).min_level
    sparse = states_for(knobs_of(inverted_residuals()), load_profile(PHONE), ("unstructured",))[1]
    for element, plans in sparse.items():
        if element.endswith("/zeros"):
            node = element.removesuffix("/zeros")
            assert [zeros_of(plan) for plan in plans] == [{node: Zeros("unstructured", level)} for level in LEVELS]


def test_zeros_begin_to_pay_at_the_switch() -> None:
    """No gain up to the profile's level; half of what is left there takes half the time."""
    profile = load_profile(PHONE)
    least = sparsity_rule("unstructured", profile).min_level
    assert np.allclose(time_factor(np.array([0.0, least, 1 - (1 - least) / 2]), profile), [1.0, 1.0, 0.5])
    for name in ("host-cpu-onnxruntime", "pixel4-gpu-tflite-fp32"):
        assert float(time_factor(0.9, load_profile(name))) == 1.0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.98))
def test_the_switch_and_what_follows_are_brute_forces(seed: int, share: float) -> None:
    """The better of both states' answers has the least error of all plans of both that keep the budget, tried one by one."""
    pricer, problems, tried = two_states()
    rng = np.random.default_rng(seed)
    errors = [{e: np.sort(rng.random(len(p))) for e, p in problem.options.items()} for problem in problems]
    posed = [dataclasses.replace(p, errors=e) for p, e in zip(problems, errors, strict=True)]
    every = [(p, choice, seconds) for p, of_state in zip(posed, tried, strict=True) for choice, seconds in of_state]
    least = min(seconds for *_, seconds in every)
    budget = least + share * (pricer.latency_s({}) - least)
    answers = [(p, knapsack(p, [budget])[0]) for p in posed]
    found = min(p.error(choice) for p, choice in answers if p.seconds(choice) <= budget)
    # times are rounded up to a bucket once an element: the tables may miss what fits by less than that
    rounding = len(posed[1].options) * (pricer.latency_s({}) - least) / BUCKETS
    assert found <= min((p.error(choice) for p, choice, s in every if s <= budget - rounding), default=np.inf) + 1e-12
    assert found >= min(p.error(choice) for p, choice, s in every if s <= budget) - 1e-12


@functools.cache
def two_states() -> tuple[Pricer, list[Problem], list[list[tuple[dict[str, int], float]]]]:
    """Both states of a small network with three widths a group and three levels of zeros, and every choice with its price."""
    knobs = knobs_of(inverted_residuals())
    pricer = Pricer(knobs, load_profile(PHONE))
    problems, tried = [], []
    for state in states_for(knobs, pricer.profile, ("channel", "unstructured")):
        options = {e: plans[:: max(1, len(plans) // 2)][:3] for e, plans in state.items()}
        options |= {e: plans[:1] for e, plans in options.items() if "n_conv0" in e}  # else not a chain
        nothing = {e: np.zeros(len(plans)) for e, plans in options.items()}
        problem = Problem(options, nothing, pricer.latency_s, pricer.tables(options))
        assert chain_order(problem.tables.neighbours) is not None
        combinations = itertools.product(*(range(len(plans)) for plans in options.values()))
        choices = [dict(zip(options, combination, strict=True)) for combination in combinations]
        problems.append(problem)
        tried.append([(choice, problem.seconds(choice)) for choice in choices])
    return pricer, problems, tried


def test_a_plan_with_zeros_costs_kernel_by_kernel() -> None:
    """Latency is the dense one minus what each sparse kernel saves at its widths; the tables agree."""
    knobs, profile = knobs_of(inverted_residuals()), load_profile(PHONE)
    pricer, first, second = Pricer(knobs, profile), *pointwise(knobs.graph)[:2]
    widths: Plan = {first: 16}
    plan = {**widths, zeros_knob(first): 0.8, zeros_knob(second): 0.9}
    saved = sum(
        float(workload_latency_s(kernel, profile))
        * (1 - float(time_factor(zeros_of(plan)[kernel.name].share, profile)))
        for kernel in pricer.workloads(plan)
        if kernel.name in (first, second)
    )
    assert saved > 0
    assert np.isclose(pricer.latency_s(plan), pricer.latency_s(widths) - saved)
    zeros: dict[str, list[Plan]] = {n: [{}, *({zeros_knob(n): level} for level in LEVELS)] for n in (first, second)}
    options = {"width": [{}, {first: 24}, widths], **zeros}
    chosen = [{}, {"width": 2, first: 2, second: 3}, {"width": 1, second: 1}]
    looked_up = pricer.tables(options).seconds({e: np.array([c.get(e, 0) for c in chosen]) for e in options})
    whole = [pricer.latency_s({k: s for e, i in c.items() for k, s in options[e][i].items()}) for c in chosen]
    assert np.allclose(looked_up, whole, rtol=1e-9)
    assert np.isclose(whole[1], pricer.latency_s(plan))


def sparse_repair(plan: Plan, removed: int) -> tuple[Knobs, Repairer, dict[str, Array], Graph]:
    """Repair with zeros and, in the widest group, some units cut; the cut graph."""
    knobs = knobs_of(inverted_residuals())
    repairer = Repairer(knobs.graph, knobs.groups, {"x": images(32, 3, 16, 16)}, rng=np.random.default_rng(0))
    keep = {g.id: np.arange(len(g)) >= (removed if len(g) == 32 else 0) for g in knobs.groups.prunable}
    params = repairer.repair(keep, None, zeros_of(plan))
    masked = knobs.graph.with_initializers(params)
    return knobs, repairer, params, cut(masked, knobs.groups, keep)


def test_the_file_has_the_zeros_asked_for() -> None:
    """After cutting, every 1x1 weight in the ONNX file has its share of zeros, and it computes what the masked one does."""
    levels = dict(zip(pointwise(knobs_of(inverted_residuals()).graph), (0.7, 0.8, 0.9), strict=True))
    plan = {zeros_knob(node): level for node, level in levels.items()}
    knobs, _, params, smaller = sparse_repair(plan, removed=8)
    model = export(smaller)
    weights = {t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(model).graph.initializer}
    for node, level in levels.items():
        weight = weights[next(n for n in smaller.nodes if n.name == node).inputs[1]]
        assert (weight == 0).sum() == round(level * weight.size)
    x = {"x": images(4, 3, 16, 16, seed=9)}
    assert relative_error(run_ort(model, x), run_ort(export(knobs.graph.with_initializers(params)), x)) < 1e-5


def test_sparse_weights_are_the_best_on_their_mask() -> None:
    """One layer alone: its weights and bias are ridge regression on the kept inputs of every output."""
    node = pointwise(knobs_of(inverted_residuals()).graph)[1]
    knobs, repairer, _, _ = sparse_repair({}, removed=0)
    params = repairer.sparsified({node: Zeros("unstructured", 0.7)})
    linear, moments = repairer.targets[node].linear, repairer.targets[node].moments
    full = {**knobs.graph.initializers, **params}
    found, dense = linear.matrix(full)[0], linear.matrix(knobs.graph.initializers)[0].astype(float)
    gram, cross = moments.gram[0].astype(float), moments.cross[0].astype(float)
    ridge = (DAMPING * np.trace(gram) / len(gram) + 1e-12) * np.eye(len(gram))
    wanted = np.linalg.solve(gram + ridge, cross + ridge @ dense)
    for output in range(found.shape[1]):
        kept = np.flatnonzero(found[:, output])
        inside = (gram + ridge)[np.ix_(kept, kept)]
        expected = np.linalg.solve(inside, ((gram + ridge) @ wanted)[kept, output])
        assert np.allclose(found[kept, output], expected, rtol=1e-3, atol=1e-4)
    offset = moments.mean_y[0] - moments.mean_x[0] @ found
    assert np.allclose(full[linear.bias], offset, atol=1e-4)


def test_a_job_may_return_sparse_points(tmp_path: Path) -> None:
    """With channels and zeros allowed, every point of a phone's front is dense or above the switch in all its 1x1 weights."""
    spec = JobSpec(
        (PHONE,), constraints=Constraints(structures=("channel", "unstructured")), search=SearchOptions(points=2)
    )
    x = images(120, 3, 16, 16)
    np.savez(tmp_path / "data.npz", x=x, y=np.zeros(120, np.int64))
    model = inverted_residuals().bytes()
    report = compress(spec, Upload(model), tmp_path / "data.npz", tmp_path, tmp_path / "cache", Progress(None))
    zeros = {
        point.id: {layer.node: layer.zeros for layer in point.layers if layer.node in pointwise(load(model))}
        for point in report.fronts[PHONE].points
    }
    assert any(all(share > 2 / 3 for share in shares.values()) for shares in zeros.values())
    for shares in zeros.values():
        assert len({share > 2 / 3 for share in shares.values()}) == 1
