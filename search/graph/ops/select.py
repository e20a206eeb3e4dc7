"""Elements that other operands choose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from search.graph.ir import Node
from search.graph.ops import lower_index, lower_shape
from search.graph.ops.elements import Shape, no_more, numbers
from search.graph.ops.op import Op, selection


def _elements_of_one_hot(_node: Node, inputs: Sequence[Any], shapes: Sequence[Shape]) -> int:
    return math.prod(shapes[0]) * math.prod(numbers(inputs, 1))


OPS: dict[str, Op] = {
    "GatherElements": selection(lower_index.gather_elements, elements=no_more),
    "GatherND": selection(lower_index.gather_nd, elements=no_more),
    "Scatter": selection(lower_index.scatter_elements, elements=no_more),
    "ScatterElements": selection(lower_index.scatter_elements, elements=no_more),
    "ScatterND": selection(lower_index.scatter_nd, elements=no_more),
    "TensorScatter": selection(lower_index.tensor_scatter, elements=no_more),
    "OneHot": selection(lower_index.one_hot, 1, elements=_elements_of_one_hot),
    "Compress": selection(lower_index.compress, 1, by_data=True, elements=no_more),
    "NonZero": selection(lower_index.non_zero, by_data=True),
    "Unique": selection(lower_index.unique, by_data=True),
    "NonMaxSuppression": selection(lower_index.non_max_suppression, 2, 3, 4, by_data=True, elements=no_more),
    "ReverseSequence": selection(lower_shape.reverse_sequence, elements=no_more),
    "Trilu": selection(lower_shape.trilu, 1, elements=no_more),
}
