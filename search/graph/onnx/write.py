"""Graph to ONNX bytes or files, deterministically."""

from __future__ import annotations

import onnx

from search.graph.ir import Graph
from search.graph.proto import from_graph
from search.graph.run.runtime import Runner


def export(graph: Graph) -> bytes:
    """The graph as a checked ONNX file; the same graph gives the same bytes."""
    model = from_graph(graph)
    _check(model)
    return bytes(model.SerializeToString(deterministic=True))


def _check(model: onnx.ModelProto) -> None:
    """Refuse what is no model, unless ONNX Runtime runs it: such files are taken as well.

    Raises:
        onnx.checker.ValidationError: neither the checker nor ONNX Runtime takes it.
    """
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        try:
            Runner(model.SerializeToString())
        except NotImplementedError:
            raise error from None
