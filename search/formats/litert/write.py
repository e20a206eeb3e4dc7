"""A graph as a .tflite file for LiteRT, float32, with the shapes given."""

from __future__ import annotations

from collections.abc import Mapping

from search.formats.litert.operators import EMITTERS
from search.formats.litert.writer import Shape, TfliteWriter, unsupported
from search.graph.ir import Array, Graph


def export_tflite(graph: Graph, shapes: Mapping[str, Shape], static: Mapping[str, Array]) -> bytes:
    """The graph as a LiteRT model whose outputs equal ONNX Runtime's up to rounding.

    Args:
        graph: a normalised graph.
        shapes: value name to shape, from `search.graph.run.execute.shapes`.
        static: values that do not depend on the inputs, from the same call.

    Raises:
        UnsupportedOperator: an operator, or a use of it, that has no entry in `search.formats.litert.operators`; names the node.
    """
    return write(TfliteWriter(graph, shapes, static))


def write(writer: TfliteWriter) -> bytes:
    """Write every node of a writer's graph by its entry in the table, and give the bytes of the file."""
    for node in writer.graph.nodes:
        if node.name in writer.done or all(name in writer.static for name in node.outputs if name):
            continue
        if node.domain or node.op not in EMITTERS:
            raise unsupported(node, f"LiteRT export has no operator for it; it has {', '.join(sorted(EMITTERS))}")
        EMITTERS[node.op](writer, node)
    return writer.serialise()
