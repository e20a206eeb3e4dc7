"""Rewrites of a graph for LiteRT, which has no error function: the chain of operators that makes a GELU becomes one node."""

from __future__ import annotations

import math

from search.graph.ir import Graph, Node

_TOLERANCE = 1e-6


def fold_gelus(graph: Graph) -> Graph:
    """Replace x / sqrt(2) -> Erf -> + 1 -> times x and 1/2, in any order of the last two, by one ``Gelu`` node."""
    made, dropped = {}, set()
    for node in graph.nodes:
        chain = _chain(graph, node) if node.op == "Erf" else None
        if chain is not None:
            x, nodes = chain
            last = nodes[-1]
            made[last.name] = Node(last.name, "Gelu", (x,), last.outputs)
            dropped |= {part.name for part in nodes[:-1]}
    if not made:
        return graph
    return graph.replace(nodes=tuple(made.get(node.name, node) for node in graph.nodes if node.name not in dropped))


def _chain(graph: Graph, erf: Node) -> tuple[str, list[Node]] | None:
    """The value that goes in, and the nodes of the chain in order."""
    scaled = graph.producers().get(erf.inputs[0])
    if scaled is None or len(graph.consumers()[erf.inputs[0]]) > 1:
        return None
    x = scaled.inputs[0]
    divides = scaled.op == "Div" and _is_constant(graph, scaled.inputs[1], math.sqrt(2))
    if not (divides or (scaled.op == "Mul" and _is_constant(graph, scaled.inputs[1], math.sqrt(0.5)))):
        return None
    nodes, found = [scaled, erf], {"add": False, "x": False, "half": False}
    while not all(found.values()):
        readers = graph.consumers().get(nodes[-1].outputs[0], [])
        if len(readers) != 1 or len(readers[0].inputs) != 2:
            return None
        reader, value = readers[0], nodes[-1].outputs[0]
        other = reader.inputs[1] if reader.inputs[0] == value else reader.inputs[0]
        step = _step(graph, reader.op, other, x)
        if step is None or found[step] or (step != "add" and not found["add"]):
            return None
        found[step] = True
        nodes.append(reader)
    return x, nodes


def _step(graph: Graph, op: str, other: str, x: str) -> str | None:
    """What arithmetic with ``other`` does for the chain."""
    if op == "Add" and _is_constant(graph, other, 1.0):
        return "add"
    if op == "Mul" and other == x:
        return "x"
    return "half" if op == "Mul" and _is_constant(graph, other, 0.5) else None


def _is_constant(graph: Graph, name: str, value: float) -> bool:
    array = graph.initializers.get(name)
    return array is not None and array.size == 1 and abs(float(array.reshape(-1)[0]) - value) < _TOLERANCE
