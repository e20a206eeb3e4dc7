"""From the graph of a file to the view of it that is searched: exact passes, each from a graph to an equivalent one.

The view is never written. Every initializer knows where its numbers stand in the file (`search.graph.sources`), so that a change
of the view can be carried back to it. Passes that would pay in the file as well stand in `REWRITES`: they are written with every
pruned file, and alone as a control, so that no speed-up is claimed that a rewrite alone would give.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from search.graph.ir import Array, Graph, Node, Source
from search.graph.ops import lower_shape, of
from search.graph.ops.compute import blaming
from search.graph.ops.growth import growth
from search.graph.rewrite.normalise_shapes import rewrite_shapes
from search.graph.run.execute import apply_node
from search.graph.sources import Computed, Dequantised, Folded, Moved, Norm, Stored, Tensor

REWRITES = ("shortcut", "shuffle")
"""Rewrites that pay in the file: a padded, strided shortcut as a convolution, a channel shuffle as one Gather."""
UNTIED_ELEMENTS = 4096
"""Larger tensors that several nodes read stay one in the view: they are cut once. Smaller ones (biases, vectors of norms, which
exporters merge where they are equal) become one for each reader; where these come to differ, the file grows by a few bytes."""
FOLD_LIMIT_ELEMENTS = 1 << 23
"""All folded constants together may not be larger than this, above what the file holds; it can ask for terabytes."""


Pass = Callable[[Graph], Graph]


def normalise(
    graph: Graph, runs: Sequence[Mapping[str, tuple[int, ...]]] = (), rewrites: Iterable[str] = REWRITES
) -> Graph:
    """The view of a file's graph that is searched.

    Args:
        graph: as the file has it.
        runs: input shapes of two runs, whose free sizes differ wherever the file allows it.
        rewrites: names of the `REWRITES` to do.
    """
    chosen = set(rewrites)
    passes: tuple[Pass, ...] = (
        lift_constants,
        widen,
        fold_constants,
        drop_identities,
        lambda g: rewrite_shapes(g, runs, shuffles="shuffle" in chosen),
        fold_batch_norms,
        *([pad_slice_to_conv] if "shortcut" in chosen else []),
        unshare,
        drop_dead,
    )
    for each in passes:
        graph = each(graph)
    return graph


def lift_constants(graph: Graph) -> Graph:
    """Constant nodes become initializers."""
    known, sources, kept = dict(graph.initializers), dict(graph.sources), []
    for node in graph.nodes:
        if node.op != "Constant" or node.domain:
            kept.append(node)
            continue
        with blaming(node, ()):
            value = np.asarray(lower_shape.constant(node, ()))
        known[node.outputs[0]] = value
        (name,) = node.attributes
        stored = node.origin is not None and value.dtype != object
        sources[node.outputs[0]] = Stored(Tensor(name, node.origin), value) if stored else Computed(value.dtype)
    return graph.replace(nodes=tuple(kept), initializers=known, sources=sources)


def widen(graph: Graph) -> Graph:
    """Half and double precision become float32: what is written back is rounded to the type that the file has there."""
    initializers = {
        name: value.astype(np.float32) if _is_other_float(value.dtype) else value
        for name, value in graph.initializers.items()
    }
    nodes = tuple(
        dataclasses.replace(node, attributes={name: _widened(value) for name, value in node.attributes.items()})
        for node in graph.nodes
    )
    inputs, outputs = (
        tuple(dataclasses.replace(i, dtype=np.dtype(np.float32)) if _is_other_float(i.dtype) else i for i in infos)
        for infos in (graph.inputs, graph.outputs)
    )
    return graph.replace(nodes=nodes, initializers=initializers, inputs=inputs, outputs=outputs)


def _is_other_float(dtype: np.dtype[np.generic]) -> bool:
    return dtype in (np.float16, np.float64) or dtype.name == "bfloat16"


def _widened(value: object) -> object:
    if isinstance(value, np.dtype):
        return np.dtype(np.float32) if _is_other_float(value) else value
    return value.astype(np.float32) if isinstance(value, np.ndarray) and _is_other_float(value.dtype) else value


def fold_constants(graph: Graph) -> Graph:
    """Compute what does not depend on the inputs: Constant nodes, shape chains, weights made by operators."""
    graph = lift_constants(graph)
    known, sources, fixed = dict(graph.initializers), dict(graph.sources), set(graph.fixed)
    budget = FOLD_LIMIT_ELEMENTS
    kept = []
    for node in graph.nodes:
        inputs = [known.get(name) for name in node.inputs]
        with blaming(node, inputs):
            grown = growth(node, inputs) if _foldable(node, known) else None
        if grown is None or grown > budget:
            kept.append(node)
            continue
        budget -= max(grown, 0)
        results = [np.asarray(value) for value in apply_node(node, inputs, graph.opset)]
        made = {name: i for i, name in enumerate(node.outputs) if name}
        known.update({name: results[i] for name, i in made.items()})
        sources.update({name: _derived(node, inputs, i, results[i], sources, graph.opset) for name, i in made.items()})
        fixed.update(made if fixed.intersection(node.inputs) else ())
    return graph.replace(nodes=tuple(kept), initializers=known, sources=sources, fixed=frozenset(fixed))


def _derived(
    node: Node, inputs: Sequence[Array | None], output: int, value: Array, sources: dict[str, Source], opset: int
) -> Source:
    """Where the numbers of a computed constant come from."""
    operands = tuple(sources.get(name) for name in node.inputs)
    dtype = next((source.dtype for source in operands if source is not None), value.dtype)
    entry = of(node)
    stay = entry is not None and entry.apart == "elements"
    data = range(0) if entry is None or (stay and output) else entry.moved(node)
    if data and all(operands[i] is not None for i in data):
        held = tuple(source if i in data else None for i, source in enumerate(operands))
        kept = dtype if _same_kind(dtype, value.dtype) else value.dtype
        run = (lambda ids: ids) if stay else (lambda ids: apply_node(node, ids, opset))
        return Moved(node, held, tuple(inputs), output, kept, run)
    if node.op == "DequantizeLinear" and operands[0] is not None and operands[1] is not None:
        raw = (inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None)
        zero = operands[2] if len(operands) > 2 else None
        axis, block = int(node.get("axis", 1)), int(node.get("block_size", 0))
        return Dequantised(operands[0], operands[1], zero, axis, block, raw, value.dtype)  # type: ignore[arg-type]
    return Computed(dtype if _same_kind(dtype, value.dtype) else value.dtype)


def _same_kind(a: np.dtype[np.generic], b: np.dtype[np.generic]) -> bool:
    """Whether both are floats: the view has them all in float32."""
    return a == b or all(dtype.kind == "f" or dtype.name == "bfloat16" for dtype in (a, b))


def _foldable(node: Node, known: dict[str, Array]) -> bool:
    return of(node) is not None and bool(node.inputs) and all(n in known for n in node.inputs if n)


def drop_identities(graph: Graph) -> Graph:
    """Remove Identity, inference-time Dropout, and Relu after Relu; what they name is renamed to what they read."""
    outputs = {info.name for info in graph.outputs}
    renamed: dict[str, str] = {}
    rectified: set[str] = set()
    kept = []
    for node in graph.nodes:
        inputs = tuple(renamed.get(name, name) for name in node.inputs)
        relu = node.op == "Relu" and not node.domain
        changes_nothing = _is_identity(node) or (relu and inputs[0] in rectified)
        if changes_nothing and not outputs.intersection(node.outputs):
            renamed[node.outputs[0]] = inputs[0]
        else:
            rectified.update(node.outputs if relu else ())
            kept.append(dataclasses.replace(node, inputs=inputs))
    return graph.replace(nodes=tuple(kept))


def _is_identity(node: Node) -> bool:
    """Dropout with a mask, or told to train, is left to the interpreter."""
    if node.op == "Dropout" and not node.domain:
        return not node.input(2) and not any(node.outputs[1:])
    return node.op == "Identity" and not node.domain


def fold_batch_norms(graph: Graph) -> Graph:
    """A convolution or matrix product, then BatchNormalization: becomes one weighted operator.

    W' = W * g and b' = (b - mean) * g + beta with g = scale / sqrt(variance + epsilon).
    """
    consumers, producers = graph.consumers(), graph.producers()
    outputs = {info.name for info in graph.outputs}
    weights, sources = dict(graph.initializers), dict(graph.sources)
    replaced: dict[str, Node | None] = {}
    for node in graph.nodes:
        inference = node.op == "BatchNormalization" and not node.get("training_mode", 0) and not any(node.outputs[1:])
        before = producers.get(node.inputs[0]) if inference else None
        axis = None if before is None else _output_axis(before)
        if before is None or axis is None or len(consumers[node.inputs[0]]) > 1 or node.inputs[0] in outputs:
            continue
        vectors = [name for name in (*before.inputs[1:], *node.inputs[1:]) if name]
        if any(name not in weights or name in graph.fixed for name in vectors):
            continue
        scale, beta, mean, variance = (weights[name].astype(np.float64) for name in node.inputs[1:5])
        gain = scale / np.sqrt(variance + node.get("epsilon", 1e-5))
        weight = weights[before.inputs[1]]
        bias = weights[before.input(2)].astype(np.float64) if before.input(2) else 0.0
        names = tuple(_fresh(f"{node.outputs[0]}.{part}", weights) for part in ("weight", "bias"))
        shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
        weights[names[0]] = (weight * gain.reshape(shape)).astype(weight.dtype)
        weights[names[1]] = ((bias - mean) * gain + beta).astype(weight.dtype)
        norm = _norm(before, node, graph, axis)
        if norm is not None:
            sources.update({name: Folded(norm, part) for name, part in zip(names, ("weight", "bias"), strict=True)})
        inputs = (before.inputs[0], *names)
        replaced[before.name] = dataclasses.replace(before, inputs=inputs, outputs=node.outputs[:1])
        replaced[node.name] = None
    nodes = tuple(new for node in graph.nodes if (new := replaced.get(node.name, node)) is not None)
    return graph.replace(nodes=nodes, initializers=weights, sources=sources)


def _output_axis(node: Node) -> int | None:
    """Axis of a weight's output channels, of operators that a norm can be folded into."""
    entry = of(node)
    return None if entry is None or entry.output_axis is None else entry.output_axis(node)


def _norm(before: Node, node: Node, graph: Graph, axis: int) -> Norm | None:
    def part(name: str) -> tuple[Array, Source]:
        return graph.initializers[name], graph.sources[name]

    names = (*before.inputs[1:], *node.inputs[1:5])
    if any(name and name not in graph.sources for name in names):
        return None
    bias = part(before.input(2)) if before.input(2) else None
    vectors = tuple(part(name) for name in node.inputs[1:5])
    epsilon = float(node.get("epsilon", 1e-5))
    return Norm(part(before.inputs[1]), bias, vectors, epsilon, axis, before.origin, node.origin)


def _fresh(name: str, taken: dict[str, Array]) -> str:
    """A name that no initializer has."""
    found, count = name, 0
    while found in taken:
        count += 1
        found = f"{name}_{count}"
    return found


def pad_slice_to_conv(graph: Graph) -> Graph:
    """The shortcut of CIFAR ResNets, x[:, :, ::s, ::s] padded with zero channels, becomes a strided 1x1 convolution.

    A pad ties the channels of two stages together position by position; the convolution sets them free, and is faster.
    """
    consumers, producers = graph.consumers(), graph.producers()
    shown = {info.name for info in graph.outputs}
    weights = dict(graph.initializers)
    rank = _conv_input_ranks(graph)
    replaced: dict[str, Node | None] = {}
    for node in graph.nodes:
        pads = _channel_pad(node, weights)
        if pads is None:
            continue
        strides, chain = {2: 1, 3: 1}, []
        source = node.inputs[0]
        while (step := producers.get(source)) is not None and step.op == "Slice" and len(consumers[source]) == 1:
            if source in shown:
                break
            found = _strided(step, weights)
            if found is None or any(strides[axis] != 1 for axis in found):
                break
            strides.update(found)
            chain.append(step)
            source = step.inputs[0]
        channels = rank.get(source)
        if channels is None:
            continue
        name = f"{node.outputs[0]}.shortcut"
        weight = np.zeros((sum(pads) + channels, channels, 1, 1), np.float32)
        weight[pads[0] + np.arange(channels), np.arange(channels)] = 1
        weights[name] = weight
        attributes = {"kernel_shape": [1, 1], "strides": [strides[2], strides[3]]}
        replaced[node.name] = Node(node.name, "Conv", (source, name), node.outputs, attributes)
        replaced.update({step.name: None for step in chain})
    nodes = tuple(new for node in graph.nodes if (new := replaced.get(node.name, node)) is not None)
    return graph.replace(nodes=nodes, initializers=weights)


def _conv_input_ranks(graph: Graph) -> dict[str, int]:
    """Channels of the float32 values that a 2-D convolution reads or writes, and of what ReLU and Add make of them."""
    channels: dict[str, int] = {}
    for node in graph.nodes:
        if node.op == "Conv" and node.inputs[1] in graph.initializers:
            weight = graph.initializers[node.inputs[1]]
            if weight.ndim == 4 and weight.dtype == np.float32:
                channels[node.outputs[0]] = weight.shape[0]
                channels[node.inputs[0]] = weight.shape[1] * int(node.get("group", 1))
        elif node.op in ("Relu", "Add", "BatchNormalization") and node.inputs[0] in channels:
            channels[node.outputs[0]] = channels[node.inputs[0]]
    return channels


def _channel_pad(node: Node, weights: dict[str, Array]) -> tuple[int, int] | None:
    """(before, after) of a Pad that adds zero channels and nothing else."""
    if node.op != "Pad" or node.get("mode", "constant") != "constant" or node.input(3):
        return None
    pads = weights.get(node.inputs[1]) if len(node.inputs) > 1 else np.asarray(node.get("pads"))
    fill = weights.get(node.input(2), np.zeros(1)) if node.input(2) else np.asarray(node.get("value", 0.0))
    if pads is None or pads.size != 8 or np.any(fill != 0):
        return None
    flat = [int(p) for p in pads.reshape(-1)]
    before, after = flat[1], flat[5]
    others = sum(map(abs, flat)) - abs(before) - abs(after)
    return (before, after) if others == 0 and min(before, after) >= 0 else None


def _strided(node: Node, weights: dict[str, Array]) -> dict[int, int] | None:
    """Axis to step of a Slice that takes every step-th row or column and drops nothing else."""
    if len(node.inputs) < 5 or any(name not in weights for name in node.inputs[1:5]):
        return None
    starts, ends, axes, steps = ([int(v) for v in weights[name].reshape(-1)] for name in node.inputs[1:5])
    whole = all(start == 0 and end >= 2**31 - 1 for start, end in zip(starts, ends, strict=True))
    return dict(zip(axes, steps, strict=True)) if whole and set(axes) <= {2, 3} and min(steps) > 0 else None


def unshare(graph: Graph) -> Graph:
    """Give every slot of a small weight an initializer of its own: exporters merge equals, which ties them in training.

    A bias stays with a weight that is shared on purpose: the steps of a recurrence that was written out have both in common.
    """
    weights, sources = dict(graph.initializers), dict(graph.sources)
    slots = [
        (node, i)
        for node in graph.nodes
        if (entry := of(node)) is not None
        for i in entry.weights
        if node.input(i) in weights
    ]
    uses = Counter(node.input(i) for node, i in slots)
    reads = Counter(name for node in graph.nodes for name in node.inputs)
    renamed: dict[tuple[str, int], str] = {}
    tied = {name for name, count in uses.items() if count > 1 and weights[name].size > UNTIED_ELEMENTS}
    with_tied = {node.name for node, i in slots if node.input(i) in tied}
    for node, i in slots:
        name = node.input(i)
        shared = (uses[name] > 1 or reads[name] > uses[name]) and node.name not in with_tied
        if shared and weights[name].ndim > 0 and weights[name].size <= UNTIED_ELEMENTS and name not in graph.fixed:
            renamed[node.name, i] = _fresh(f"{name}.{node.name}.{i}", weights)
            weights[renamed[node.name, i]] = weights[name]
            if name in sources:
                sources[renamed[node.name, i]] = sources[name]
    nodes = tuple(
        dataclasses.replace(n, inputs=tuple(renamed.get((n.name, i), v) for i, v in enumerate(n.inputs)))
        for n in graph.nodes
    )
    return graph.replace(nodes=nodes, initializers=weights, sources=sources)


def drop_dead(graph: Graph) -> Graph:
    """Remove nodes whose outputs nobody reads and initializers that no node reads."""
    wanted = {info.name for info in graph.outputs}
    kept = []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            kept.append(node)
            wanted.update(node.inputs)
    initializers = {name: value for name, value in graph.initializers.items() if name in wanted}
    return graph.replace(nodes=tuple(kept[::-1]), initializers=initializers)
