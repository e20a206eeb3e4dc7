"""Values for an input of which nothing but the file is known."""

from __future__ import annotations

import numpy as np

from search.graph.ir import Array, Graph, TensorInfo, is_float


def drawn(graph: Graph, info: TensorInfo, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Standard normal floats, any row of a table where integers name rows, the empty text for texts."""
    if info.dtype == np.dtype(object):
        return np.full(shape, "", object)
    if is_float(info.dtype):
        return np.asarray(rng.standard_normal(shape)).astype(info.dtype)
    return np.asarray(rng.integers(0, _rows(graph, info.name), shape)).astype(info.dtype)


def _rows(graph: Graph, name: str) -> int:
    """Rows of the smallest table that an input is an index into; 1 where there is none."""
    tables = [
        graph.initializers[node.inputs[0]].shape[node.get("axis", 0)]
        for node in graph.nodes
        if node.op == "Gather" and node.inputs[1] == name and node.inputs[0] in graph.initializers
    ]
    return min(tables, default=1)
