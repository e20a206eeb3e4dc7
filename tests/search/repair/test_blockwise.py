"""Blocks refitted as a whole: the step against dense linear algebra, the stretches against the whole network, a job's points."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from search.graph.ir import Array, Graph
from search.graph.onnx.read import load
from search.graph.onnx.write import export
from search.graph.run.execute import forward
from search.graph.run.execute import shapes as shapes_of
from search.graph.upload import Upload
from search.pipeline import compress
from search.repair import blockwise
from search.repair.blockwise import BlockRepairer, Step, Stretch, stretches
from search.space.blocks import DROPPED, Variant
from search.space.groups import find_groups
from search.space.plan import Candidate, Knobs
from search.space.surgery import cut, mask
from search.train.deployed import cut_graph
from search.wire.progress import Item, Progress
from search.wire.request import JobSpec, SearchOptions
from tests.search.graph.nets import Net, images, relative_error, run_ort
from tests.search.train import students

TARGET = "pixel4-1large-tflite-fp32"
FEEDS = {"x": images(96, 3, 8, 8)}


def narrowed() -> tuple[Graph, Candidate]:
    """The dense network, and a copy without a third of its channels, unrepaired."""
    graph, groups = students.network()
    _, keep = students.narrowed(graph, groups)
    return graph, Candidate({}, Variant(graph, groups), keep, mask(graph.initializers, groups, keep), 0.0, "l2")


def parts_of(graph: Graph, values: list[str]) -> list[Stretch]:
    """Stretches of a network that takes images of 8x8."""
    return stretches(graph, values, shapes_of(graph, {"x": (1, 3, 8, 8)})[1])


def reshaping() -> bytes:
    """A network whose two halves both ask for a size, a scalar, of a value of the first, and leave out operands and results."""
    net = Net()
    inner = net.op("Relu", net.conv("x", 3, 4))
    batch = net.op("Unsqueeze", net.op("Gather", net.op("Shape", inner), net.constant(0)), net.constant([0]))
    shape = net.op("Concat", batch, net.constant([4, 8, 8]), axis=0)
    inner = net.op(
        "Relu", net.op("Reshape", net.op("Clip", net.conv(inner, 4, 4), "", net.constant(9, np.float32)), shape)
    )
    flat = net.op("Concat", batch, net.constant([-1]), axis=0)
    net.gemm(net.op("Reshape", net.op("Clip", inner, "", net.constant(8, np.float32)), flat), 256, 3)
    return net.bytes()


@pytest.mark.parametrize("name", ["residual", "reshaping"])
def test_stretches_one_after_another_are_the_whole_network(name: str) -> None:
    """Also where a later one reads an inner value of an earlier one, or only its shape."""
    graph = students.network()[0] if name == "residual" else load(reshaping())
    relus = [node.outputs[0] for node in graph.nodes if node.op == "Relu"]
    output = graph.outputs[0].name
    alive: dict[str, Array] = dict(FEEDS)
    for part in parts_of(graph, [*relus, output]):
        found = forward(part.graph)({}, {name: alive[name] for name in part.inputs})
        alive.update({info.name: np.asarray(x) for info, x in zip(part.graph.outputs, found, strict=True)})
    assert relative_error([alive[output]], run_ort(export(graph), FEEDS)) < 1e-5


def test_a_step_is_the_least_squares_of_the_jacobian(monkeypatch: pytest.MonkeyPatch) -> None:
    """Iterated to the end, conjugate gradients solve ((J s)' J s + lambda |Y|^2) d = (J s)' (Y - f), as numpy does."""
    monkeypatch.setattr(blockwise, "ITERATIONS", 500)
    monkeypatch.setattr(blockwise, "TOLERANCE", 1e-7)
    monkeypatch.setattr(blockwise, "DAMPING", 1e-3)
    net = Net(seed=3)
    net.op("Relu", net.conv(net.op("Relu", net.conv("x", 3, 2)), 2, 3))
    graph = load(net.bytes())
    [part] = parts_of(graph, [graph.outputs[0].name])
    x = images(8, 3, 8, 8)
    start = {name: graph.initializers[name] for name in part.weights}
    found = run_ort(export(graph), {"x": x})[0]
    wanted = (found + 0.1 * np.random.default_rng(0).normal(size=found.shape)).astype(np.float32)

    flat, unravel = ravel_pytree(start)
    sizes, _ = ravel_pytree({n: np.full(v.shape, np.sqrt(np.square(v).mean())) for n, v in start.items()})
    run = forward(part.graph)
    jacobian = jax.jacrev(lambda w: run(unravel(w), {"x": x})[0].reshape(-1))(flat)
    matrix = np.asarray(jacobian, np.float64) * np.asarray(sizes, np.float64)
    damped = matrix.T @ matrix + 1e-3 * np.square(wanted).sum() * np.eye(matrix.shape[1])
    step = np.linalg.solve(damped, matrix.T @ (wanted - found).reshape(-1).astype(np.float64))
    expected = unravel(jax.numpy.asarray(flat + sizes * step, np.float32))
    moved = Step(part, start, {}, batch=4).weights({"x": x}, wanted)
    for name, value in expected.items():
        assert np.abs(moved[name] - value).max() < 1e-3 * np.abs(value - start[name]).max(), name


def test_what_a_mask_keeps_does_not_move() -> None:
    """Neither zeros nor anything else outside of it."""
    net = Net()
    net.conv("x", 3, 4)
    graph = load(net.bytes())
    [part] = parts_of(graph, [graph.outputs[0].name])
    start = {name: graph.initializers[name] for name in part.weights}
    masks = {"w0": np.random.default_rng(0).random(start["w0"].shape) < 0.5}
    wanted = 2 * run_ort(export(graph), FEEDS)[0]
    moved = Step(part, start, masks).weights(FEEDS, wanted)
    assert (moved["w0"] == start["w0"])[~masks["w0"]].all()
    assert (moved["w0"] != start["w0"])[masks["w0"]].all()


def test_weights_stay_where_the_value_has_no_gradient() -> None:
    """The positions of the largest elements are no floats."""
    net = Net()
    net.op("ArgMax", net.conv("x", 3, 4), axis=1)
    graph = load(net.bytes())
    [part] = parts_of(graph, [graph.outputs[0].name])
    start = {name: graph.initializers[name] for name in part.weights}
    moved = Step(part, start, {}).weights(FEEDS, run_ort(export(graph), FEEDS)[0] + 1)
    assert start
    assert all(np.array_equal(moved[name], value) for name, value in start.items())


def test_a_repaired_network_comes_closer_and_keeps_its_shape() -> None:
    """What leaves the block is closer to the dense block's; the cut network still computes what the masked one does."""
    graph, candidate = narrowed()
    repairer = BlockRepairer(graph, candidate.variant.groups, FEEDS)
    better = dataclasses.replace(candidate, params=repairer.repair(candidate))
    dense = run_ort(export(graph), FEEDS)

    def missed(c: Candidate) -> float:
        return relative_error(run_ort(export(cut_graph(c)), FEEDS), dense)

    assert missed(better) < 0.5 * missed(candidate)
    masked = candidate.variant.graph.with_initializers(better.params)
    small = cut(masked, candidate.variant.groups, candidate.keep)
    assert relative_error(run_ort(export(small), FEEDS), run_ort(export(masked), FEEDS)) < 1e-5
    assert {n: v.shape for n, v in small.initializers.items()} == {
        n: v.shape for n, v in cut_graph(candidate).initializers.items()
    }


def test_a_network_without_its_first_block_is_refitted_too() -> None:
    """A block that was dropped ends nowhere; what comes after it makes up for it."""
    net = Net()
    x = net.op("Relu", net.conv("x", 3, 8))
    for _ in range(2):
        x = net.op("Relu", net.op("Add", net.conv(net.op("Relu", net.conv(x, 8, 8)), 8, 8), x))
    net.classifier(x, 8)
    knobs = Knobs(load(net.bytes()), {"x": (1, 3, 8, 8)})
    plan = {knobs.blocks[0].id: DROPPED}
    variant = knobs.variant(plan)
    candidate = Candidate(plan, variant, variant.groups.dense(), {}, 0.0, "l2")
    params = BlockRepairer(knobs.graph, knobs.groups, FEEDS).repair(candidate)
    better = dataclasses.replace(candidate, params=params)
    before, after, dense = (export(g) for g in (cut_graph(candidate), cut_graph(better), knobs.graph))
    wanted = run_ort(dense, FEEDS)
    assert relative_error(run_ort(after, FEEDS), wanted) < 0.5 * relative_error(run_ort(before, FEEDS), wanted)


def frames() -> bytes:
    """Two frames a sample, which a residual block takes as samples of their own."""
    net = Net(("N", 2, 3, 8, 8))
    x = net.op("Relu", net.conv(net.op("Reshape", "x", net.constant([-1, 3, 8, 8])), 3, 8))
    x = net.op("Relu", net.op("Add", net.conv(x, 8, 8), x))
    pooled = net.op("Reshape", net.op("GlobalAveragePool", x), net.constant([-1, 2, 8]))
    net.gemm(net.op("ReduceMean", pooled, axes=[1], keepdims=0), 8, 5)
    return net.bytes()


def test_frames_that_are_folded_into_samples_are_refitted_between_places_where_samples_are_apart() -> None:
    """Here these are the input and the output of the whole network."""
    graph, feeds = load(frames()), {"x": images(96, 2, 3, 8, 8)}
    groups = find_groups(graph, {"x": (1, 2, 3, 8, 8)})
    keep = {group.id: np.arange(len(group)) < len(group) // 2 for group in groups.prunable}
    candidate = Candidate({}, Variant(graph, groups), keep, mask(graph.initializers, groups, keep), 0.0, "l2")
    better = dataclasses.replace(candidate, params=BlockRepairer(graph, groups, feeds).repair(candidate))
    before, after, dense = (run_ort(export(g), feeds) for g in (cut_graph(candidate), cut_graph(better), graph))
    assert relative_error(after, dense) < 0.5 * relative_error(before, dense)


@pytest.mark.parametrize("why", ["large", "half precision"])
def test_a_network_that_cannot_be_refitted_stays_as_it_is(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its least squares would take longer than training it; where sums of squares do not fit its numbers."""
    graph, candidate = narrowed()
    feeds = FEEDS
    if why == "large":
        monkeypatch.setattr(blockwise, "MOST_MACS", 1e6)
    else:
        half = {
            name: value.astype(np.float16) for name, value in graph.initializers.items() if value.dtype == np.float32
        }
        inputs = (dataclasses.replace(graph.inputs[0], dtype=np.dtype(np.float16)),)
        graph, feeds = graph.with_initializers(half).replace(inputs=inputs), {"x": FEEDS["x"].astype(np.float16)}
        groups = candidate.variant.groups
        params = mask(graph.initializers, groups, candidate.keep)
        candidate = dataclasses.replace(candidate, variant=Variant(graph, groups), params=params)
    params = BlockRepairer(graph, candidate.variant.groups, feeds).repair(candidate)
    assert candidate.params
    assert params.keys() == candidate.params.keys()
    assert all(value is candidate.params[name] for name, value in params.items())


@pytest.mark.parametrize("named", [(), (1.5,)])
def test_a_job_refits_blocks_of_the_points_that_its_client_names(named: tuple[float, ...], tmp_path: Path) -> None:
    """One or two a named speed-up; the front has it, and the job's second run gives the same bits."""
    graph, _ = students.network()
    np.savez(tmp_path / "data.npz", x=images(160, 3, 8, 8))
    spec = JobSpec((TARGET,), search=SearchOptions(points=2, at_speedups=named))
    files = []
    for attempt in ("one", "two"):
        report = compress(
            spec, Upload(export(graph)), tmp_path / "data.npz", tmp_path / attempt, tmp_path / "cache", Progress(None)
        )
        refitted = len(list((tmp_path / attempt / "units").glob("blocks-*")))
        assert len(named) <= refitted <= 2 * len(named)
        points = report.fronts[TARGET].points
        assert all(any(point.speedup >= speedup for point in points) for speedup in named)
        files.append([point.sha256 for point in points])
    assert files[0] == files[1]


def test_a_job_without_data_refits_no_blocks(tmp_path: Path) -> None:
    """Whether that helps on real samples, synthetic ones cannot tell."""
    spec = JobSpec((TARGET,), search=SearchOptions(points=2, at_speedups=(1.5,)))
    report = compress(
        spec, Upload(export(students.network()[0])), None, tmp_path / "a", tmp_path / "cache", Progress(None)
    )
    assert report.fronts[TARGET].points
    assert not list((tmp_path / "a" / "units").glob("blocks-*"))


class AfterSearch(Progress):
    """Has no time left once blocks are to be refitted, or is told to stop then."""

    def __init__(self, reason: str) -> None:
        super().__init__(None)
        self.reason, self.blocks = reason, False

    def each(self, items: Iterable[Item], unit: str, **options: Any) -> Iterator[Item]:
        """Notes what is done."""
        self.blocks = unit == "blocks"
        return super().each(items, unit, **options)

    def late(self, reserve: float) -> bool:
        """Not before."""
        return self.blocks and self.reason == "late" and reserve > 0

    def check(self, *, reserve: float = 0.0) -> None:
        """Cancelled at the first look."""
        if self.blocks and self.reason == "cancelled":
            self.cancel()
        super().check(reserve=reserve)


@pytest.mark.parametrize("reason", ["late", "cancelled"])
def test_a_job_that_has_no_time_for_blocks_keeps_its_points(reason: str, tmp_path: Path) -> None:
    """With a warning; where only time is short, the rest of the job is as ever."""
    graph, _ = students.network()
    np.savez(tmp_path / "data.npz", x=images(160, 3, 8, 8))
    spec = JobSpec((TARGET,), search=SearchOptions(points=2, at_speedups=(1.5,)))
    progress = AfterSearch(reason)
    report = compress(spec, Upload(export(graph)), tmp_path / "data.npz", tmp_path / "a", tmp_path / "cache", progress)
    assert report.fronts[TARGET].points
    assert any("repair ended early" in warning for warning in report.warnings)
    assert report.complete == (reason == "late")
    assert not list((tmp_path / "a" / "units").glob("blocks-*"))
