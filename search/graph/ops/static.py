"""Values that depend on shapes only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from search.graph.ir import Node
from search.graph.ops import elements, lower_shape
from search.graph.ops.op import Op, constant


def _elements_of_range(_node: Node, inputs: Sequence[Any], _shapes: Sequence[elements.Shape]) -> int:
    if not all(isinstance(value, np.ndarray) for value in inputs):
        return 1
    start, stop, step = (float(np.asarray(value).reshape(-1)[0]) for value in inputs)
    return max(0, math.ceil((stop - start) / step)) if step and math.isfinite((stop - start) / step) else 1


OPS: dict[str, Op] = {
    "Shape": constant(lower_shape.shape),
    "Size": constant(lambda _, v: np.array(np.prod(v[0].shape), np.int64)),
    "Constant": constant(lower_shape.constant),
    "ConstantOfShape": constant(lower_shape.constant_of_shape, 0, elements=elements.named_by(0)),
    "Range": constant(lower_shape.range_, 0, 1, 2, elements=_elements_of_range),
    "EyeLike": constant(lower_shape.eye_like),
}
