"""Weighted operators as plain linear maps."""

from __future__ import annotations

import numpy as np

from search.graph.ir import Graph, Node
from search.graph.ops import of
from search.graph.ops.linear_map import Linear


def linear_of(node: Node, graph: Graph) -> Linear | None:
    """The view of a node, or None where it is not a linear map that we can refit."""
    entry, weights = of(node), graph.initializers
    if entry is None or entry.linear is None:
        return None
    if node.input(1) not in weights or weights[node.inputs[1]].dtype != np.float32:
        return None
    bias = node.input(2)
    if bias and (bias not in weights or weights[bias].ndim != 1):
        return None
    return entry.linear(node, graph)
