"""The cluster rule of sparse phone kernels, and plans with zeros: priced, repaired, cut, counted in the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from hwprofiles.latency import workload_latency_s
from hwprofiles.registry import load_profile
from hwprofiles.rules import sparsity_rule
from search.allocate.price import Pricer
from search.graph.ir import Array, Graph
from search.graph.onnx_export import export
from search.graph.onnx_import import load
from search.options import states_for
from search.pipeline import compress
from search.plan import Knobs, Plan, zeros_knob, zeros_of
from search.progress import Progress
from search.prune.surgery import cut
from search.recover.least_squares import DAMPING, Repairer
from search.request import Constraints, JobSpec, SearchOptions
from search.structures.cluster import LEVELS, find_cluster, runs_zeros, time_factor
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
            assert [zeros_of(plan) for plan in plans] == [{element.removesuffix("/zeros"): level} for level in LEVELS]


def test_zeros_begin_to_pay_at_the_switch() -> None:
    """No gain up to the profile's level; half of what is left there takes half the time."""
    profile = load_profile(PHONE)
    least = sparsity_rule("unstructured", profile).min_level
    assert np.allclose(time_factor(np.array([0.0, least, 1 - (1 - least) / 2]), profile), [1.0, 1.0, 0.5])
    for name in ("host-cpu-onnxruntime", "pixel4-gpu-tflite-fp32"):
        assert float(time_factor(0.9, load_profile(name))) == 1.0


def test_a_plan_with_zeros_costs_kernel_by_kernel() -> None:
    """Latency is the dense one minus what each sparse kernel saves at its widths; change_s agrees with latency_s."""
    knobs, profile = knobs_of(inverted_residuals()), load_profile(PHONE)
    pricer, first, second = Pricer(knobs, profile), *pointwise(knobs.graph)[:2]
    widths: Plan = {first: 16}
    plan = {**widths, zeros_knob(first): 0.8, zeros_knob(second): 0.9}
    saved = sum(
        float(workload_latency_s(kernel, profile)) * (1 - float(time_factor(zeros_of(plan)[kernel.name], profile)))
        for kernel in pricer.workloads(plan)
        if kernel.name in (first, second)
    )
    assert saved > 0
    assert np.isclose(pricer.latency_s(plan), pricer.latency_s(widths) - saved)
    for options in ([{zeros_knob(first): level} for level in LEVELS], [{}, {first: 24}, {first: 8}]):
        rest = {knob: s for knob, s in plan.items() if not any(knob in option for option in options)}
        expected = [pricer.latency_s({**rest, **option}) - pricer.latency_s(rest) for option in options]
        assert np.allclose(pricer.change_s(options, rest), expected, rtol=1e-6, atol=1e-12)


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
    params = repairer.sparsified({node: 0.7})
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
    report = compress(spec, model, tmp_path / "data.npz", tmp_path, tmp_path / "cache", Progress(None))
    zeros = {
        point.id: {layer.node: layer.zeros for layer in point.layers if layer.node in pointwise(load(model))}
        for point in report.fronts[PHONE].points
    }
    assert any(all(share > 2 / 3 for share in shares.values()) for shares in zeros.values())
    for shares in zeros.values():
        assert len({share > 2 / 3 for share in shares.values()}) == 1
