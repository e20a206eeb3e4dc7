"""What nodes would make, in Python integers, before anything is allocated.

Every operator is asked for the number of elements it would make from the shapes of its inputs and the constants that name
sizes; whoever asks for too much is refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from search.graph.ir import Node
from search.graph.limits import MAX_CONSTANT_ELEMENTS, MAX_VALUE_ELEMENTS
from search.graph.ops.elements import broadcasting
from search.graph.ops.table import of
from search.wire.errors import ResourceLimit


def check_cost(node: Node, inputs: Sequence[Any], *, constant: bool) -> None:
    """Refuse an operator whose outputs would be too large. ``inputs`` have shapes; constants are numpy arrays.

    Raises:
        ResourceLimit: names the node.
    """
    allowed = MAX_CONSTANT_ELEMENTS if constant else MAX_VALUE_ELEMENTS
    found = growth(node, inputs) if constant else output_elements(node, inputs)
    if found > allowed:
        raise ResourceLimit(
            f"node `{node.name}` ({node.op}) would make {found} elements; {allowed} are allowed; "
            "export the model with smaller sizes",
            node=node.name,
            operator=node.op,
            found=min(found, 2**63 - 1),
            allowed=allowed,
        )


def growth(node: Node, inputs: Sequence[Any]) -> int:
    """Elements of the largest output above those of the inputs, each counted once: what the file did not pay for."""
    distinct: dict[int, int] = {id(value): math.prod(value.shape) for value in inputs if hasattr(value, "shape")}
    return output_elements(node, inputs) - sum(distinct.values())


def output_elements(node: Node, inputs: Sequence[Any]) -> int:
    """Elements of the largest output, at most; operators are asked through their entries."""
    shapes = [tuple(int(size) for size in value.shape) for value in inputs if hasattr(value, "shape")]
    largest = max((math.prod(shape) for shape in shapes), default=1)
    entry = of(node)
    rule = broadcasting if entry is None else entry.elements
    return max(largest, rule(node, inputs, shapes))
