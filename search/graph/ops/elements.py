"""How many elements an operator makes, in Python integers, before anything is allocated.

Every rule is asked for the elements of the largest output, from the shapes of the inputs and the constants that name sizes;
`search.graph.ops.growth` adds that no operator makes fewer than the largest input has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from search.graph.ir import Node

Shape = tuple[int, ...]
Elements = Callable[[Node, Sequence[Any], Sequence[Shape]], int]
"""(node, inputs: numpy arrays where they are constant, shapes of those that are given) to a number of elements."""


def broadcasting(_node: Node, _inputs: Sequence[Any], shapes: Sequence[Shape]) -> int:
    """Operands broadcast against each other."""
    return broadcast(shapes)


def no_more(_node: Node, _inputs: Sequence[Any], _shapes: Sequence[Shape]) -> int:
    """No more than is read, or little more."""
    return 1


def named_by(position: int) -> Elements:
    """An operand names the whole shape."""
    return lambda _node, inputs, _shapes: math.prod(max(size, 1) for size in numbers(inputs, position))


def broadcast(shapes: Sequence[Shape]) -> int:
    """Elements of the shape that some shapes broadcast to."""
    rank = max(map(len, shapes), default=0)
    aligned = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return math.prod(max(sizes) for sizes in zip(*aligned, strict=True)) if aligned else 1


def numbers(inputs: Sequence[Any], position: int) -> list[int]:
    """A constant operand that names sizes, as Python integers; nothing where it is missing or computed."""
    value = inputs[position] if position < len(inputs) else None
    return [math.ceil(float(v)) for v in value.reshape(-1)] if isinstance(value, np.ndarray) and value.size < 64 else []
