"""Exact rewrites that every graph goes through before anything else looks at it.

Each pass takes a graph and returns an equivalent one. They make the file faster in the runtime as well, so the
normalised graph is also the dense control: no speed-up is claimed that a rewrite alone would give.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from search.graph import lower_shape
from search.graph.admission import growth
from search.graph.execute import apply_node, blaming
from search.graph.ir import Array, Graph, Node
from search.graph.normalise_shapes import rewrite_shapes
from search.graph.ops import OPS

FOLD_LIMIT_ELEMENTS = 1 << 23
"""All folded constants together may not be larger than this, above what the file holds; it can ask for terabytes."""


def normalise(graph: Graph, runs: Sequence[Mapping[str, tuple[int, ...]]] = ()) -> Graph:
    """Fold constants, drop identities, fold batch norms, rewrite shortcuts, unshare weights, drop what is dead.

    Args:
        graph: as it was read.
        runs: input shapes of two runs, whose free sizes differ wherever the file allows it.
    """
    for rewrite in (
        fold_constants,
        drop_identities,
        functools.partial(rewrite_shapes, runs=runs),
        fold_batch_norms,
        pad_slice_to_conv,
        unshare,
        drop_dead,
    ):
        graph = rewrite(graph)
    return graph


def fold_constants(graph: Graph) -> Graph:
    """Compute what does not depend on the inputs: Constant nodes, shape chains, weights made by operators."""
    known: dict[str, Array] = dict(graph.initializers)
    budget = FOLD_LIMIT_ELEMENTS
    kept = []
    for node in graph.nodes:
        inputs = [known.get(name) for name in node.inputs]
        if node.op == "Constant":
            with blaming(node, ()):
                known[node.outputs[0]] = lower_shape.constant(node, ())
            continue
        with blaming(node, inputs):
            grown = growth(node, inputs) if _foldable(node, known) else None
        if grown is not None and grown <= budget:
            budget -= max(grown, 0)
            results = apply_node(node, inputs, graph.opset)
            known.update({name: np.asarray(value) for name, value in zip(node.outputs, results, strict=False) if name})
        else:
            kept.append(node)
    return graph.replace(nodes=tuple(kept), initializers=known)


def _foldable(node: Node, known: dict[str, Array]) -> bool:
    return not node.domain and node.op in OPS and bool(node.inputs) and all(n in known for n in node.inputs if n)


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
            kept.append(Node(node.name, node.op, inputs, node.outputs, node.attributes, node.domain))
    return graph.replace(nodes=tuple(kept))


def _is_identity(node: Node) -> bool:
    """Dropout with a mask, or told to train, is left to the interpreter."""
    if node.op == "Dropout" and not node.domain:
        return not node.input(2) and not any(node.outputs[1:])
    return node.op == "Identity" and not node.domain


def fold_batch_norms(graph: Graph) -> Graph:
    """Conv then BatchNormalization becomes Conv.

    W' = W * g and b' = (b - mean) * g + beta with g = scale / sqrt(variance + epsilon).
    """
    consumers, producers = graph.consumers(), graph.producers()
    outputs = {info.name for info in graph.outputs}
    weights = dict(graph.initializers)
    replaced: dict[str, Node | None] = {}
    for node in graph.nodes:
        inference = node.op == "BatchNormalization" and not node.get("training_mode", 0)
        conv = producers.get(node.inputs[0]) if inference else None
        if conv is None or conv.op != "Conv" or len(consumers[node.inputs[0]]) > 1 or node.inputs[0] in outputs:
            continue
        if any(name and name not in weights for name in (*conv.inputs[1:], *node.inputs[1:])):
            continue
        scale, beta, mean, variance = (weights[name].astype(np.float64) for name in node.inputs[1:5])
        gain = scale / np.sqrt(variance + node.get("epsilon", 1e-5))
        weight = weights[conv.inputs[1]]
        bias = weights[conv.input(2)].astype(np.float64) if conv.input(2) else 0.0
        names = (f"{node.outputs[0]}.weight", f"{node.outputs[0]}.bias")
        weights[names[0]] = (weight * gain.reshape(-1, *[1] * (weight.ndim - 1))).astype(weight.dtype)
        weights[names[1]] = ((bias - mean) * gain + beta).astype(weight.dtype)
        replaced[conv.name] = Node(conv.name, "Conv", (conv.inputs[0], *names), node.outputs[:1], conv.attributes)
        replaced[node.name] = None
    nodes = tuple(new for node in graph.nodes if (new := replaced.get(node.name, node)) is not None)
    return graph.replace(nodes=nodes, initializers=weights)


def pad_slice_to_conv(graph: Graph) -> Graph:
    """The shortcut of CIFAR ResNets, x[:, :, ::s, ::s] padded with zero channels, becomes a strided 1x1 convolution.

    A pad ties the channels of two stages together position by position; the convolution sets them free, and is faster.
    """
    consumers, producers = graph.consumers(), graph.producers()
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
    """Give every weight slot an initializer of its own: exporters merge equals, which ties them in training."""
    weights = dict(graph.initializers)
    slots = [
        (node, i) for node in graph.nodes if node.op in OPS for i in OPS[node.op].weights if node.input(i) in weights
    ]
    uses = Counter(node.input(i) for node, i in slots)
    reads = Counter(name for node in graph.nodes for name in node.inputs)
    renamed: dict[tuple[str, int], str] = {}
    for node, i in slots:
        name = node.input(i)
        if (uses[name] > 1 or reads[name] > uses[name]) and weights[name].ndim > 0:
            renamed[node.name, i] = f"{name}.{node.name}.{i}"
            weights[renamed[node.name, i]] = weights[name]
    nodes = tuple(
        Node(
            n.name,
            n.op,
            tuple(renamed.get((n.name, i), v) for i, v in enumerate(n.inputs)),
            n.outputs,
            n.attributes,
            n.domain,
        )
        for n in graph.nodes
    )
    return graph.replace(nodes=nodes, initializers=weights)


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
