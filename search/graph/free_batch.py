"""Free the batch of a file that fixes it at 1: exporters then write the 1 into every Reshape."""

from __future__ import annotations

import dataclasses

import numpy as np

from search.graph.ir import Array, Graph, Node

_KEEPS_BATCH = frozenset(
    {
        "Conv",
        "ConvTranspose",
        "BatchNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Relu",
        "LeakyRelu",
        "PRelu",
        "Elu",
        "Selu",
        "Sigmoid",
        "Tanh",
        "Gelu",
        "HardSwish",
        "HardSigmoid",
        "Clip",
        "Softplus",
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Cast",
        "Gemm",
        "MatMul",
        "Resize",
        "Upsample",
    }
)
"""Operators whose output has the batch on axis 0 when their first activation has."""


def free_batch(graph: Graph) -> Graph:
    """Reshape targets that begin with the fixed batch of 1 copy it from their input (0) instead.

    Exact for the file's own batch, and what makes the network run on many samples at once while it is searched.
    """
    batched = {info.name for info in graph.inputs if info.shape[:1] == (1,)}
    constants: dict[str, Array] = {}
    nodes = []
    for node in graph.nodes:
        if _keeps_batch(node, batched, graph):
            batched.add(node.outputs[0])
        target = graph.initializers.get(node.input(1)) if node.op == "Reshape" else None
        if (
            target is not None
            and node.inputs[0] in batched
            and target.size > 1
            and target[0] == 1
            and _copies_zero(node, target)
        ):
            name = f"{node.name}.free"
            constants[name] = np.array([0, *target[1:]], np.int64)
            node = dataclasses.replace(node, inputs=(node.inputs[0], name), attributes={})  # noqa: PLW2901
        nodes.append(node)
    return graph.replace(nodes=tuple(nodes), initializers={**graph.initializers, **constants})


def _copies_zero(node: Node, target: Array) -> bool:
    """Whether a 0 means "copy", and the target has none that means something else."""
    return not node.get("allowzero", 0) or not (target == 0).any()


def _keeps_batch(node: Node, batched: set[str], graph: Graph) -> bool:
    active = [name for name in node.inputs if name and name not in graph.initializers]
    if not active or not batched.issuperset(active) or node.domain:
        return False
    if node.op == "Reshape":
        target = graph.initializers.get(node.input(1))
        return target is not None and target.size > 1 and target[0] in (0, 1)
    if node.op == "Transpose":
        return bool(node.get("perm", [1])[0] == 0)
    if node.op in ("Concat", "Softmax"):
        return bool(node.get("axis", -1) != 0)
    return node.op in _KEEPS_BATCH or (node.op == "Flatten" and node.get("axis", 1) == 1)
