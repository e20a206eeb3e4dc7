"""Graph to ONNX bytes or files, deterministically."""

from __future__ import annotations

from pathlib import Path

import onnx

from search.graph.ir import Graph
from search.graph.proto import from_graph
from search.graph.runtime import Runner

LARGEST_FILE_BYTES = 2_000_000_000
"""Of weights in one file: a protobuf message ends at 2^31 bytes, and holds the nodes as well."""


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


def save(graph: Graph, path: Path, *, largest_bytes: int = LARGEST_FILE_BYTES) -> None:
    """Write the graph to a file; weights that do not fit into ``largest_bytes`` go to ``<path>.data`` beside it."""
    if sum(value.nbytes for value in graph.initializers.values()) <= largest_bytes:
        path.write_bytes(export(graph))
        return
    onnx.save_model(from_graph(graph), str(path), save_as_external_data=True, location=f"{path.name}.data")
    onnx.checker.check_model(str(path))
