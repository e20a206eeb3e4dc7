"""What a graph would cost, in Python integers, before anything is allocated.

The ONNX checker is no admission control: it accepts 78 bytes that need 4 TiB. Here are the limits, and what can be counted
before anything is known of operators: local functions before they are inlined. What operators make is in `search.graph.growth`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx

from search.errors import InvalidModel, ResourceLimit

MAX_NODES = 100_000
MAX_CONSTANT_ELEMENTS = 1 << 24
"""Of one computed constant, above what it is computed from: 64 MiB in float32."""
MAX_VALUE_ELEMENTS = 1 << 30
"""Of one activation at batch 2 or 3."""
MAX_TOTAL_ELEMENTS = 1 << 34
"""Of all activations together."""
Shape = tuple[int, ...]


def check_nodes(proto: onnx.ModelProto) -> None:
    """Refuse local functions that call each other in a circle, and graphs that are too large once these are inlined.

    Raises:
        InvalidModel: a function calls itself.
        ResourceLimit: too many nodes.
    """
    bodies = {(function.domain, function.name): function.node for function in proto.functions}
    counts: dict[tuple[str, str], int] = {}

    def count(nodes: Sequence[onnx.NodeProto], inside: tuple[tuple[str, str], ...]) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            if key in inside:
                raise InvalidModel(f"the local function `{node.op_type}` calls itself; export the model without it")
            if key in bodies and key not in counts:
                counts[key] = count(bodies[key], (*inside, key))
            total += counts.get(key, 1) if key in bodies else 1
            total += sum(count(item.g.node, inside) for item in node.attribute if item.HasField("g"))
        return total

    for key, nodes in bodies.items():
        counts.setdefault(key, count(nodes, (key,)))
    total = count(proto.graph.node, ())
    if total > MAX_NODES:
        raise ResourceLimit(f"the model has {total} nodes; {MAX_NODES} are allowed", found=total, allowed=MAX_NODES)


def check_total(shapes: Sequence[Shape]) -> None:
    """Refuse a graph whose activations together are too large.

    Raises:
        ResourceLimit: with the count and the limit.
    """
    total = sum(math.prod(shape) for shape in shapes)
    if total > MAX_TOTAL_ELEMENTS:
        raise ResourceLimit(
            f"the activations have {total} elements; {MAX_TOTAL_ELEMENTS} are allowed; export the model with smaller inputs",
            found=min(total, 2**63 - 1),
            allowed=MAX_TOTAL_ELEMENTS,
        )
