"""Working memory of a network: weights, and the activations that are alive at once."""

from __future__ import annotations

import math
from collections.abc import Mapping

from search.graph.ir import Graph
from search.graph.run.execute import shapes

BYTES_PER_ELEMENT = 4


def peak_memory_bytes(graph: Graph, input_shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Weights plus the largest sum of activations alive at once, nodes running in the graph's order, one sample, fp32.

    A value is alive from the node that makes it to the last one that reads it; no operator works in place. A runtime that
    fuses or overwrites needs less, one that copies needs more.

    Args:
        graph: a normalised graph.
        input_shapes: of its inputs, batch 1.
    """
    found, static = shapes(graph, input_shapes)
    sizes = {name: BYTES_PER_ELEMENT * math.prod(shape) for name, shape in found.items() if name not in static}
    last = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    last |= {info.name: len(graph.nodes) for info in graph.outputs}
    alive = sum(sizes.get(info.name, 0) for info in graph.inputs)
    peak = alive
    for i, node in enumerate(graph.nodes):
        alive += sum(sizes.get(name, 0) for name in node.outputs)
        peak = max(peak, alive)
        gone = {name for name in (*node.inputs, *node.outputs) if last.get(name, i) == i}
        alive -= sum(sizes.get(name, 0) for name in gone)
    weights = sum(BYTES_PER_ELEMENT * graph.initializers[name].size for name in graph.float_initializers())
    return weights + peak
