"""The laws of patched files, over random networks as exporters write them."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import helper

from search.graph.edit import edits as e
from search.graph.edit.patch import Patched, file_of, patch
from search.graph.ir import Graph
from search.graph.onnx import read, write
from search.graph.run import execute
from search.graph.sources import Stored, leaves
from search.graph.upload import Upload
from search.judge.proof import RUNTIME_ERRORS, tolerance
from search.space import groups, surgery
from search.space.blocks import find_blocks, replace_blocks
from tests.search.graph import habits
from tests.search.graph.edit import message_diff
from tests.search.graph.nets import Net, images, relative_error, run_ort
from tests.search.space.laws import keep_some
from tests.search.space.test_surgery_laws import networks

Array = np.ndarray[Any, Any]
FREE = {"N": 2, "H": 8, "W": 6, "T": 7}
"""Sizes for coupling; batches and other sizes follow."""
OTHERS = ({"N": 1, "H": 8, "W": 6, "T": 7}, {"N": 3, "H": 7, "W": 9, "T": 4})


@dataclasses.dataclass(frozen=True)
class Case:
    """A file, what is cut of it, and which weights get new numbers."""

    upload: Upload
    habits: tuple[str, ...]
    share: float
    """Of the units of every group that stay."""
    moved: float
    """Of the weights, that get new numbers."""
    blocks: float
    """Of the residual blocks, that are dropped or replaced."""
    seed: int

    def __repr__(self) -> str:
        nodes = onnx.ModelProto.FromString(self.upload.data).graph.node
        lines = [f"{', '.join(n.output)} = {n.op_type}({', '.join(n.input)})" for n in nodes]
        return (
            f"Case({self.habits}, share={self.share}, moved={self.moved}, blocks={self.blocks}, seed={self.seed})\n"
            + "\n".join(lines)
        )


@st.composite
def tokens(draw: st.DrawFn) -> Net:
    """A text model: an embedding, a gated or a plain layer, LayerNormalization, residual sums, a head."""
    net = Net(("N", "T"), seed=draw(st.integers(0, 99)))
    net.inputs[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    width, words = draw(st.integers(2, 5)), 6
    table = net.weight(words, width)
    x = net.op("Gather", table, "x")
    for inner in draw(st.lists(st.integers(2, 6), max_size=2)):
        y = net.op("LayerNormalization", x, net.weight(width), net.weight(width), axis=-1)
        y = net.op("Relu", net.op("Add", net.op("MatMul", y, net.weight(width, inner)), net.weight(inner)))
        y = net.op("Add", net.op("MatMul", y, net.weight(inner, width)), net.weight(width))
        x = net.op("Add", x, y) if draw(st.booleans()) else y
    if draw(st.booleans()):
        net.op("MatMul", x, net.op("Transpose", table, perm=[1, 0]))
    else:
        net.op("MatMul", x, net.weight(width, 3))
    return net


@st.composite
def sequences(draw: st.DrawFn) -> Net:
    """A recurrent layer between two linear ones; its states are zeros made by the size of the batch."""
    op, gates = draw(st.sampled_from((("LSTM", 4), ("GRU", 3))))
    size, hidden = draw(st.integers(2, 5)), draw(st.integers(2, 5))
    net = Net(("T", "N", 3), seed=draw(st.integers(0, 99)))
    x = net.op("Add", net.op("MatMul", "x", net.weight(3, size)), net.weight(size))
    shapes = ((1, gates * hidden, size), (1, gates * hidden, hidden), (1, 2 * gates * hidden))
    y = net.op(op, x, *(net.weight(*shape) for shape in shapes), hidden_size=hidden)
    net.op("MatMul", net.op("Squeeze", y, net.constant([1])), net.weight(hidden, 2))
    return net


@st.composite
def normed(draw: st.DrawFn) -> Net:
    """Convolutions and batch norms, residual sums, a padded shortcut: what vision exporters leave unfolded."""
    net = Net(("N", 3, 8, 6), seed=draw(st.integers(0, 99)))
    width = draw(st.integers(2, 5))
    x = net.op("Relu", net.batch_norm(net.conv("x", 3, width), width))
    for kind in draw(st.lists(st.sampled_from(("residual", "depthwise", "shortcut", "strided")), max_size=3)):
        if kind == "residual":
            inner = draw(st.integers(2, 5))
            y = net.op("Relu", net.batch_norm(net.conv(x, width, inner), inner))
            x = net.op("Relu", net.op("Add", net.batch_norm(net.conv(y, inner, width), width), x))
        elif kind == "depthwise":
            y = net.op("Clip", net.batch_norm(net.conv(x, width, width, groups=width), width))
            x = net.batch_norm(net.conv(y, width, width, 1), width)
        elif kind == "shortcut":
            y = net.batch_norm(net.conv(x, width, width + 2, stride=2), width + 2)
            ends = (net.constant([0, 0]), net.constant([2**63 - 1] * 2), net.constant([2, 3]), net.constant([2, 2]))
            short = net.op("Pad", net.op("Slice", x, *ends), net.constant([0, 1, 0, 0, 0, 1, 0, 0]))
            width += 2
            x = net.op("Relu", net.op("Add", y, short))
        else:
            new = draw(st.integers(2, 5))
            x, width = net.op("Relu", net.batch_norm(net.conv(x, width, new), new)), new
    net.classifier(x, width)
    return net


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A network, some habits, a choice of what goes and what moves."""
    net = draw(st.one_of(networks(), normed(), normed(), tokens(), sequences()))
    newer, late = draw(st.booleans()), list(habits.LATE)
    net.opset = 21 if newer and not any(node.op_type == "Gelu" for node in net.nodes) else net.opset
    chosen = [
        *draw(st.lists(st.sampled_from(sorted(habits.EARLY)), max_size=2, unique=True)),
        *draw(st.lists(st.sampled_from(sorted(habits.WEIGHTS)), max_size=3)),
        *sorted(draw(st.lists(st.sampled_from(late), max_size=3, unique=True)), key=late.index),
    ]
    proto = net.proto()
    if newer:
        proto.ir_version = 10
    file = habits.File(proto, draw(st.integers(0, 999)))
    for name in chosen:
        {**habits.EARLY, **habits.WEIGHTS, **habits.LATE}[name](file)
    share, moved = draw(st.sampled_from((0.0, 0.3, 0.6, 0.9, 1.0))), draw(st.sampled_from((0.0, 0.0, 0.5)))
    blocks = draw(st.sampled_from((0.0, 0.0, 0.5)))
    return Case(file.upload(), tuple(chosen), share, moved, blocks, draw(st.integers(0, 99)))


def feeds_of(proto: onnx.ModelProto, sizes: Mapping[str, int], seed: int = 1) -> dict[str, Array]:
    """Random inputs of a file, whose initializers have their own numbers."""
    given = {tensor.name for tensor in proto.graph.initializer}
    found: dict[str, Array] = {}
    for info in proto.graph.input:
        if info.name in given:
            continue
        shape = [d.dim_value or sizes[d.dim_param] for d in info.type.tensor_type.shape.dim]
        kind = helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        value = images(*shape, seed=seed)
        found[info.name] = (np.abs(value * 2).astype(np.int64) % 6) if kind == np.int64 else value.astype(kind)
    return found


class Laws:
    """What has been seen, and the laws themselves."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.files = self.cut = self.refused = self.grown = 0
        self.habits: collections.Counter[str] = collections.Counter()
        self.edits: collections.Counter[str] = collections.Counter()
        self.error = 0.0

    def check(self, case: Case) -> None:
        """Every law on one file."""
        upload = case.upload
        before = upload.parse()
        feeds = feeds_of(before, FREE)
        try:
            run_ort(upload.whole, feeds)
        except RUNTIME_ERRORS:  # the habits together may make no file
            self.refused += 1
            return
        self.files += 1
        self.habits.update(case.habits)
        bare = read.load(upload, rewrites=())
        assert patch(bare, bare, {}).model == upload.whole
        assert upload.files or file_of(bare) == upload.data
        graph = read.load(upload)
        self._unpruned(graph, before)
        self._cut(graph, case)

    def _unpruned(self, graph: Graph, before: onnx.ModelProto) -> None:
        patched = patch(graph, graph, {})
        _explained(graph, patched, before)
        for sizes in OTHERS:
            feeds = feeds_of(before, sizes)
            expected = _run(before.SerializeToString(), feeds)
            if expected is not None:
                assert relative_error(run_ort(patched.model, feeds), expected) <= tolerance(graph)

    def _cut(self, graph: Graph, case: Case) -> None:
        before = case.upload.parse()
        shapes = {
            info.name: tuple(size if isinstance(size, int) else FREE.get(str(size), 1) for size in info.shape)
            for info in graph.inputs
        }
        batch = {info.name: graph.sampling.inputs.get(info.name, 0) for info in graph.inputs}
        shapes = {
            name: tuple(1 if i == batch[name] and graph.sampling.batch is None else s for i, s in enumerate(shape))
            for name, shape in shapes.items()
        }
        random = np.random.default_rng(case.seed)
        variant = _variant(graph, shapes, case.blocks, random)
        found = groups.find_groups(variant, shapes)
        keep = keep_some(found, share=case.share, seed=case.seed)
        moved = [name for name in execute.trainable(variant) if random.random() < case.moved]
        numbers = dict(variant.initializers)
        for name in moved:
            value = numbers[name]
            numbers[name] = (value + 0.1 * random.standard_normal(value.shape)).astype(value.dtype)
        masked = variant.with_initializers({**numbers, **surgery.mask(numbers, found, keep)})
        smaller = surgery.cut(masked, found, keep)
        keeps = surgery.kept_positions(found, keep)
        mine = patch(graph, smaller, keeps)
        self.edits.update(type(edit).__name__ for edit in mine.edits)
        self.cut += any(isinstance(edit, e.Put) for edit in mine.edits)
        after = _explained(graph, mine, before)
        onnx.checker.check_model(after, full_check=_checks(before))
        _packed_again(case.upload, mine)
        self._computes_the_same(graph, mine, patch(graph, masked, {}), masked, case)
        varints = (
            case.moved and "typed" in case.habits
        )  # a number's bytes there follow its value: new ones may take more
        added = any(isinstance(edit, e.Add | e.Insert | e.SetAttribute) for edit in mine.edits)
        if not (added or mine.inlined or varints):
            assert len(mine.model) <= len(case.upload.whole)
        self.grown += len(mine.model) > len(case.upload.whole)
        if not moved:
            _same_bits(graph, after, keeps)

    def _computes_the_same(self, graph: Graph, mine: Patched, twin: Patched, masked: Graph, case: Case) -> None:
        before = case.upload.parse()
        exact = tolerance(graph) < 1e-3 and not (case.moved and "quantised" in case.habits)
        whole = exact and graph.frame is None and graph.sampling.batch is None
        viewed = write.export(masked) if whole else None
        for sizes in (FREE, *OTHERS):
            feeds = feeds_of(before, sizes)
            expected = _run(twin.model, feeds)
            if expected is None:
                assert sizes is not FREE
                continue
            error = relative_error(run_ort(mine.model, feeds), expected)
            assert error <= tolerance(graph), f"cut differs from masked by {error:.1e}"
            self.error = max(self.error, error if tolerance(graph) < 1e-3 else 0.0)
            if viewed is not None and all(value.dtype != np.float64 for value in feeds.values()):
                assert relative_error(expected, run_ort(viewed, feeds)) <= tolerance(graph)


def _variant(graph: Graph, shapes: Mapping[str, tuple[int, ...]], share: float, random: np.random.Generator) -> Graph:
    """Some blocks dropped or replaced by convolutions with random weights."""
    settings, weights = {}, {}
    known = find_blocks(graph, execute.shapes(graph, shapes)[0]) if share else ()
    for block in known:
        if random.random() < share:
            settings[block.id] = block.settings[random.integers(len(block.settings))]
            weights |= {name: images(*shape, seed=1) / 10 for name, shape in block.weights.items()}
    return replace_blocks(graph, known, settings, weights) if settings else graph


def _run(model: bytes, feeds: Mapping[str, Array]) -> list[Array] | None:
    """None where a file does not run at these sizes."""
    try:
        return run_ort(model, feeds)
    except RUNTIME_ERRORS:
        return None


def _checks(proto: onnx.ModelProto) -> bool:
    """Whether the full checker, with inference of types, takes an upload."""
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return False
    return True


def _explained(graph: Graph, patched: Patched, before: onnx.ModelProto) -> onnx.ModelProto:
    assert graph.upload is not None
    start = graph.upload.flat() if patched.inlined else before
    after = onnx.ModelProto.FromString(patched.model)
    wrong = message_diff.unexplained(start, after, patched.edits)
    assert not wrong, "\n".join(wrong)
    return after


def _packed_again(upload: Upload, patched: Patched) -> None:
    """A file and its data file are read as what was written; without a data file nothing is packed."""
    model, data = upload.packed(patched.model, "written.data")
    again = Upload(model, {} if data is None else {"written.data": data})
    assert again.whole == patched.model


def _same_bits(graph: Graph, after: onnx.ModelProto, keeps: Mapping[str, Mapping[int, Array]]) -> None:
    """What was only cut holds the upload's own numbers: tensors that one initializer of the view is, to the bit."""
    readers = collections.Counter(leaf.tensor for source in graph.sources.values() for leaf in leaves(source))
    left = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in after.graph.initializer}
    for name, axes in keeps.items():
        source = graph.sources.get(name)
        if isinstance(source, Stored) and readers[source.tensor] == 1 and source.tensor.name in left:
            stays = [axes.get(axis, np.ones(size, bool)) for axis, size in enumerate(source.value.shape)]
            assert left[source.tensor.name].tobytes() == source.value[np.ix_(*stays)].tobytes()
