"""Residual blocks: what is found, what dropping and replacing compute, and the coupling of what results."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from search.graph.onnx import read, write
from search.graph.run.parts import stop_by_stop
from search.repair.least_squares import Repairer
from search.space import surgery
from search.space.blocks import DROPPED, replace_blocks
from search.space.plan import Knobs
from tests.search.graph.nets import Net, images, relative_error, run_ort

SHAPES = {"x": (1, 3, 8, 8)}


def two_blocks(*, linear: bool = False) -> Net:
    """A stem, a block with identity shortcut, a strided block with a convolution for shortcut, a classifier."""
    net = Net()
    stem = net.op("Relu", net.conv("x", 3, 8))
    inner = net.conv(stem, 8, 12)
    first = net.op("Add", net.conv(inner if linear else net.op("Relu", inner), 12, 8, 1), stem)
    middle = net.op("Relu", first)
    branch = net.conv(net.op("Relu", net.conv(middle, 8, 16, stride=2)), 16, 10)
    second = net.op("Add", branch, net.conv(middle, 8, 10, 1, stride=2))
    net.classifier(net.op("Relu", second), 10)
    return net


def knobs_of(net: Net) -> Knobs:
    """Everything that can be turned."""
    return Knobs(read.load(net.bytes()), SHAPES)


def test_blocks_have_entry_exit_shortcut_and_stand_ins() -> None:
    """Both blocks are found; the lighter operand is the shortcut; the strided one's stand-ins have its stride."""
    knobs = knobs_of(two_blocks())
    first, second = knobs.blocks
    assert first.shortcut == first.entry
    assert second.shortcut in {
        value for node in knobs.graph.nodes if node.name in second.nodes for value in node.outputs
    }
    assert first.settings == second.settings == ("conv3x3", "conv1x1", DROPPED)
    assert [node.get("strides") for node in second.stand_ins.values()] == [[2, 2], [2, 2]]


def test_excluded_and_shared_regions_are_no_blocks() -> None:
    """A pattern keeps a block, and a branch that somebody else reads cannot be dropped."""
    net = two_blocks()
    graph = read.load(net.bytes())
    assert not Knobs(graph, SHAPES, exclude=("n_conv*",)).blocks
    shared = Net()
    inner = shared.op("Relu", shared.conv("x", 3, 3))
    total = shared.op("Add", shared.conv(inner, 3, 3), "x")
    shared.classifier(shared.op("Concat", total, inner, axis=1), 6)
    assert not knobs_of(shared).blocks


def test_dropping_equals_a_branch_of_zeros() -> None:
    """Without the branch the network computes what it computes when the branch's last convolution is zero."""
    knobs = knobs_of(two_blocks())
    x = {"x": images(4, 3, 8, 8)}
    for block in knobs.blocks:
        last = next(
            node
            for node in knobs.graph.nodes
            if node.name in block.nodes
            and node.op == "Conv"
            and block.shortcut not in node.outputs
            and any(block.exit in n.outputs and node.outputs[0] in n.inputs for n in knobs.graph.nodes)
        )
        zeros = {name: np.zeros_like(knobs.graph.initializers[name]) for name in last.inputs[1:]}
        silent = write.export(knobs.graph.with_initializers(zeros))
        dropped = write.export(replace_blocks(knobs.graph, knobs.blocks, {block.id: DROPPED}))
        assert len(dropped) < len(silent)
        assert relative_error(run_ort(dropped, x), run_ort(silent, x)) < 1e-5


def test_a_block_that_is_a_convolution_is_replaced_without_loss() -> None:
    """3x3 then 1x1 without activation, plus the identity, is one 3x3 convolution: the least squares finds it."""
    knobs = knobs_of(two_blocks(linear=True))
    x = images(64, 3, 8, 8)
    repairer = Repairer(knobs.graph, knobs.groups, {"x": x}, rng=np.random.default_rng(0), blocks=knobs.blocks)
    knobs.stand_ins = repairer.stand_ins
    block = knobs.blocks[0]
    dense = run_ort(write.export(knobs.graph), {"x": x})
    errors = {
        setting: relative_error(run_ort(write.export(knobs.network({block.id: setting})), {"x": x}), dense)
        for setting in block.settings
    }
    assert errors["conv3x3"] < 0.02  # the ridge keeps it from being exact
    assert errors["conv3x3"] < 0.2 * min(errors["conv1x1"], errors[DROPPED])


@pytest.mark.parametrize("seed", range(6))
def test_a_variant_is_cut_like_any_network(seed: int) -> None:
    """Random stand-ins and random widths of the dense groups: cut equals masked in ONNX Runtime, and widths are the plan's."""
    random = np.random.default_rng(seed)
    knobs = knobs_of(two_blocks())
    knobs.stand_ins = {
        name: random.normal(0, 0.3, shape).astype(np.float32)
        for block in knobs.blocks
        for name, shape in block.weights.items()
    }
    plan = {block.id: str(random.choice(block.settings)) for block in knobs.blocks if random.random() < 0.7}
    plan_widths = {group.id: int(random.integers(1, len(group) + 1)) for group in knobs.groups.prunable}
    orders = {group.id: random.permutation(len(group)) for group in knobs.groups.prunable}
    variant = knobs.variant(plan)
    keep = knobs.keep({**plan, **plan_widths}, orders, variant)
    masked = variant.graph.with_initializers(surgery.mask(variant.graph.initializers, variant.groups, keep))
    cut = surgery.cut(masked, variant.groups, keep)
    x = {"x": images(4, 3, 8, 8)}
    assert relative_error(run_ort(write.export(cut), x), run_ort(write.export(masked), x)) < 1e-5
    left = {size for group, size in plan_widths.items() if any(node.name == group for node in cut.nodes)}
    sizes = {value.shape[0] for value in cut.initializers.values() if value.ndim == 4}
    assert left <= sizes


def test_repair_of_a_variant_beats_leaving_it() -> None:
    """After sequential least squares a network without a block is closer to the dense one than before."""
    knobs = knobs_of(two_blocks())
    x = images(64, 3, 8, 8)
    repairer = Repairer(knobs.graph, knobs.groups, {"x": x}, rng=np.random.default_rng(0), blocks=knobs.blocks)
    knobs.stand_ins = repairer.stand_ins
    plan = {knobs.blocks[0].id: DROPPED, knobs.blocks[1].id: "conv1x1"}
    variant = knobs.variant(plan)
    params = repairer.repair(
        knobs.keep(plan, {g.id: np.arange(len(g)) for g in knobs.groups.prunable}, variant), variant
    )
    dense = run_ort(write.export(knobs.graph), {"x": x})
    before = relative_error(run_ort(write.export(variant.graph), {"x": x}), dense)
    after = relative_error(run_ort(write.export(variant.graph.with_initializers(params)), {"x": x}), dense)
    assert after < before


def test_every_variant_computes_part_by_part_what_it_computes_at_once() -> None:
    """With a stop before every node, weights that change on the way included: those of nodes that have not run."""
    knobs = knobs_of(two_blocks())
    batches = [{"x": images(2, 3, 8, 8, seed=seed)} for seed in (0, 1)]
    for plan in ({}, {knobs.blocks[0].id: DROPPED}, {knobs.blocks[1].id: "conv3x3"}):
        graph = knobs.network(plan)
        [output] = (info.name for info in graph.outputs)
        params = {name: np.zeros_like(value) for name, value in graph.initializers.items()}
        stops = {node.name: [name for name in node.inputs if name not in params] for node in graph.nodes[1:]}
        params.update({name: graph.initializers[name] for name in graph.nodes[0].inputs if name in params})
        for name, alive in stop_by_stop(graph, params, batches, stops):
            node = next(node for node in graph.nodes if node.name == name)
            assert all(wanted in values for values in alive for wanted in stops[name])
            params.update({each: graph.initializers[each] for each in node.inputs if each in params})
            seen = [values[stops[name][0]] for values in alive]
        last = graph.nodes[-1]
        assert last.outputs == (output,)
        whole = graph.replace(outputs=(dataclasses.replace(graph.outputs[0], name=stops[last.name][0]),))
        wanted = [run_ort(write.export(whole), batch)[0] for batch in batches]
        assert relative_error(seen, wanted) < 1e-5


def odd(pool: str, shape: tuple[int | str, ...], **attributes: int) -> Net:
    """A block that pools to half of an odd size on both ways."""
    net = Net(shape)
    rank = len(shape) - 2
    stem = net.conv("x", 3, 6, axes=rank)
    window = {"kernel_shape": [2] * rank, "strides": [2] * rank, **attributes}
    branch = net.conv(net.op(pool, net.op("Relu", net.conv(stem, 6, 8, axes=rank)), **window), 8, 6, axes=rank)
    net.classifier(net.op("Relu", net.op("Add", branch, net.op(pool, stem, **window))), 6)
    return net


@pytest.mark.parametrize(
    ("shape", "ceil", "settings"),
    [
        (("N", 3, 8, 8), 0, ("conv3x3", "conv1x1", DROPPED)),
        (("N", 3, 9, 9), 1, ("conv3x3", "conv1x1", DROPPED)),
        (("N", 3, 9, 9), 0, (DROPPED,)),  # no stride gives 4 of 9
        (("N", 3, "H", "W"), 1, ("conv3x3", "conv1x1", DROPPED)),
        (("N", 3, "H", "W"), 0, (DROPPED,)),  # right at the 8 that is traced, wrong at 9
        (("N", 3, 9), 1, ("conv3", "conv1", DROPPED)),
        (("N", 3, 5, 5, 5), 1, ("conv3x3x3", "conv1x1x1", DROPPED)),
    ],
)
def test_a_stand_in_has_the_size_of_its_block_at_every_size(
    shape: tuple[int | str, ...], ceil: int, settings: tuple[str, ...]
) -> None:
    """Pools that round down halve an odd map as no convolution does; signals and volumes have stand-ins of their own."""
    net = odd("MaxPool", shape, ceil_mode=ceil)
    knobs = Knobs(read.load(net.bytes()), {"x": (1, *(size if isinstance(size, int) else 8 for size in shape[1:]))})
    [block] = knobs.blocks
    assert block.settings == settings
    other = {"x": images(2, *(size if isinstance(size, int) else 11 for size in shape[1:]))}
    dense = run_ort(net.bytes(), other)
    for setting in settings:
        replaced = run_ort(write.export(knobs.network({block.id: setting})), other)
        assert replaced[0].shape == dense[0].shape


def test_tokens_with_two_axes_of_positions_have_a_matrix_for_a_stand_in() -> None:
    """Channels last behind a Transpose, as ConvNeXt has them: no convolution over heights and channels."""
    net = Net(("N", 4, 6, 5))
    x = net.op("Transpose", net.conv("x", 4, 8), perm=[0, 2, 3, 1])
    y = net.op("MatMul", net.op("Relu", net.op("MatMul", x, net.weight(8, 16))), net.weight(16, 8))
    z = net.op("Transpose", net.op("Add", x, y), perm=[0, 3, 1, 2])
    net.classifier(net.op("Relu", z), 8)
    [block] = Knobs(read.load(net.bytes()), {"x": (1, 4, 6, 5)}).blocks
    assert block.settings == ("linear", DROPPED)
