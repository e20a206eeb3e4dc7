"""N:M and blocks as options of a layer: offered where the target executes them, priced, repaired, kept by the cut file."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hwprofiles.device import DeviceProfile, SparsityRule
from hwprofiles.registry import load_profile
from search.allocate.price import Pricer
from search.graph.ir import Array
from search.graph.onnx.read import load
from search.repair.least_squares import Repairer
from search.space.options import states_for
from search.space.plan import Knobs, Plan, zeros_knob, zeros_of
from search.space.structures.pattern import Pattern, Zeros, zeros_among
from search.space.surgery import cut
from tests.search.graph.nets import Net, images

INPUT = {"x": (1, 3, 8, 8)}


def wide() -> Net:
    """Two 1x1 convolutions between 256 channels, and one that is too narrow for patterns."""
    net = Net(("N", 3, 8, 8), seed=1)
    x = net.op("Relu", net.conv("x", 3, 256, 1))
    x = net.op("Relu", net.conv(x, 256, 256, 1))
    x = net.op("Relu", net.conv(x, 256, 256, 1))
    net.classifier(net.op("Relu", net.conv(x, 256, 8, 1)), 8)
    return net


def executing(*patterns: Pattern) -> DeviceProfile:
    """A target that executes these patterns of zeros."""
    rules = tuple(SparsityRule(pattern, executed=True, reason="it does", source="test") for pattern in patterns)
    return dataclasses.replace(load_profile("tpu-v5e"), sparsity=rules, channel_grid=64, minimum_channels=64)


def inside_a_group(knobs: Knobs) -> str:
    """The first convolution from 256 to 256 channels."""
    weights = {node.name: knobs.graph.initializers.get(node.input(1)) for node in knobs.graph.nodes}
    return next(
        n for n, w in weights.items() if n in knobs.makers and w is not None and w.ndim == 4 and w.shape[1] % 4 == 0
    )


def test_only_a_target_that_executes_a_pattern_offers_it() -> None:
    """One that executes 2:4 has it, one with both has both, one with neither and a request without them have none."""
    knobs = Knobs(load(wide().bytes()), INPUT)

    def offered(profile: DeviceProfile, *structures: Pattern) -> set[Zeros]:
        [state] = states_for(knobs, profile, ("channel", *structures))
        return {z for plans in state.values() for plan in plans for z in zeros_of(plan).values()}

    blocks = {Zeros("block", 0.5), Zeros("block", 0.75)}
    assert offered(executing("nm"), "nm", "block") == {Zeros("nm", 0.5)}
    assert offered(executing("nm", "block"), "nm", "block") == {Zeros("nm", 0.5), *blocks}
    assert offered(executing("nm", "block"), "block") == blocks
    assert offered(executing(), "nm", "block") == offered(executing("nm")) == set()


def test_a_pattern_costs_its_share_of_a_kernel() -> None:
    """2:4 saves 15 % of the layer at any width, by the tables as for the whole network."""
    knobs = Knobs(load(wide().bytes()), INPUT)
    pricer, node = Pricer(knobs, executing("nm")), inside_a_group(knobs)
    [state] = states_for(knobs, pricer.profile, ("channel", "nm"))
    pattern = next(e for e, plans in state.items() if {zeros_knob(node, "nm"): 0.5} in plans)
    for name, plans in state.items():
        choice = {e: np.array([int(e == name) * (len(plans) - 1) if e != pattern else 1]) for e in state}
        plan = {k: s for e, chosen in choice.items() for k, s in state[e][int(chosen[0])].items()}
        without = {k: s for k, s in plan.items() if k != zeros_knob(node, "nm")}
        kernel = next(kernel for kernel in pricer.workloads(plan) if kernel.name == node)
        assert pricer.latency_s(without) - pricer.latency_s(plan) == pytest.approx(0.15 * pricer._kernel_s(kernel))
        assert float(pricer.tables(state).seconds(choice)[0]) == pytest.approx(pricer.latency_s(plan))


def test_two_of_four_input_channels_of_every_tap_stay_in_the_cut_file() -> None:
    """Beside narrower inputs and outputs too, and nowhere else."""
    knobs = Knobs(load(wide().bytes()), INPUT)
    repairer = Repairer(knobs.graph, knobs.groups, {"x": images(32, 3, 8, 8)}, rng=np.random.default_rng(0))
    node = inside_a_group(knobs)
    plan: Plan = {zeros_knob(node, "nm"): 0.5, **{g.id: len(g) // 2 for g in knobs.groups.prunable}}
    orders: dict[str, Array] = {group.id: np.arange(len(group)) for group in knobs.groups.prunable}
    keep = knobs.keep(plan, orders, repairer.dense)
    smaller = cut(knobs.graph.with_initializers(repairer.repair(keep, None, zeros_of(plan))), knobs.groups, keep)
    weight = smaller.initializers[next(n for n in smaller.nodes if n.name == node).input(1)]
    outputs, inputs = weight.shape[:2]
    assert inputs % 4 == 0
    fours = (weight != 0).reshape(outputs, inputs // 4, 4, -1).sum(2)
    assert (fours == 2).all()
    others = [n.input(1) for n in smaller.nodes if n.op == "Conv" and n.name != node]
    assert all((smaller.initializers[name] != 0).all() for name in others)


def test_blocks_are_runs_of_four_input_channels() -> None:
    """Half of the runs are zero as a whole, the others are not."""
    knobs = Knobs(load(wide().bytes()), INPUT)
    repairer = Repairer(knobs.graph, knobs.groups, {"x": images(32, 3, 8, 8)}, rng=np.random.default_rng(0))
    node = inside_a_group(knobs)
    weight_name = next(n for n in knobs.graph.nodes if n.name == node).input(1)
    weight = repairer.sparsified({node: Zeros("block", 0.5)})[weight_name]
    outputs, inputs = weight.shape[:2]
    runs = (weight != 0).reshape(outputs, inputs // 4, 4, -1).sum(2)
    assert set(np.unique(runs)) == {0, 4}
    assert np.isclose((runs == 0).mean(), 0.5, atol=0.05)


def test_neighbours_of_a_pattern_are_channels_of_one_tap() -> None:
    """With four taps, among columns some channels of which are gone: two of every four channels of each tap stay."""
    rng = np.random.default_rng(0)
    channels, taps = np.array([0, 1, 3, 4, 6, 7, 8, 9]), 4
    columns = (channels[:, None] * taps + np.arange(taps)).reshape(-1)
    x = rng.normal(size=(200, len(columns)))
    outputs = np.array([True, True, False])
    found = zeros_among(rng.normal(size=(3, len(columns))), x.T @ x, Zeros("nm", 0.5), outputs, columns, taps)
    by_tap = (found[:2] != 0).reshape(2, 2, 4, taps)
    assert (by_tap.sum(2) == 2).all()
    assert not found[2].any()
