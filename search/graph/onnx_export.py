"""Graph to ONNX bytes, deterministically."""

from __future__ import annotations

import onnx

from search.graph.ir import Graph
from search.graph.proto import from_graph


def export(graph: Graph) -> bytes:
    """The graph as a checked ONNX file; the same graph gives the same bytes."""
    model = from_graph(graph)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))
