"""Graph to ONNX bytes or files, deterministically."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx

from search.graph.ir import Frame, Graph
from search.graph.proto import from_graph
from search.graph.runtime import Runner

LARGEST_FILE_BYTES = 2_000_000_000
"""Of weights in one file: a protobuf message ends at 2^31 bytes, and holds the nodes as well."""


def export(graph: Graph) -> bytes:
    """The graph as a checked ONNX file; the same graph gives the same bytes."""
    model = from_graph(graph)
    _check(model)
    return bytes(model.SerializeToString(deterministic=True))


def export_file(graph: Graph) -> bytes:
    """As `export`, with head and tail and the inputs and outputs of the file that the graph is the inner part of."""
    if graph.frame is None:
        return export(graph)
    model = from_graph(_whole(graph, graph.frame))
    signature = onnx.GraphProto.FromString(graph.frame.signature)
    for ours, theirs in ((model.graph.input, signature.input), (model.graph.output, signature.output)):
        del ours[:]
        ours.extend(theirs)
    _check(model)
    return bytes(model.SerializeToString(deterministic=True))


def _whole(graph: Graph, frame: Frame) -> Graph:
    """The graph with its head and tail as nodes: what is written to a file."""
    names = {name: f"{name}/carried" for name in frame.constants}
    ends = [
        dataclasses.replace(node, inputs=tuple(names.get(name, name) for name in node.inputs)) if node else None
        for node in (frame.head, frame.tail)
    ]
    nodes = tuple(node for node in (ends[0], *graph.nodes, ends[1]) if node is not None)
    constants = {names[name]: value for name, value in frame.constants.items()}
    return graph.replace(nodes=nodes, inputs=frame.inputs, initializers={**graph.initializers, **constants})


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
