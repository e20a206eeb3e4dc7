"""Images and volumes at other sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from search.graph import flow
from search.graph.ir import Node
from search.graph.limits import MAX_CONSTANT_ELEMENTS, MAX_VALUE_ELEMENTS
from search.graph.ops import lower_resize
from search.graph.ops.body import by_body
from search.graph.ops.cut import Cut
from search.graph.ops.elements import Shape, named_by, no_more, numbers
from search.graph.ops.op import Op, selection


def _elements(node: Node, inputs: Sequence[Any], shapes: Sequence[Shape]) -> int:
    """Scales stand on the second or third place, sizes on the fourth.

    An axis also gets its positions (new,), or a matrix (new, old): constants, and so held to the limit of constants.
    """
    axes = [int(axis) % len(shapes[0]) for axis in node.get("axes", range(len(shapes[0])))]
    old = [shapes[0][axis] for axis in axes]
    scales: list[float] = [math.ceil(float(v)) for v in node.get("scales", [])] or list(
        numbers(inputs, 2) or numbers(inputs, 1)
    )
    sizes = numbers(inputs, 3)
    if not scales and not sizes:
        return 1  # they depend on the data, and what does is run by ONNX Runtime
    if sizes and node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        scales, sizes = [max(new / before for new, before in zip(sizes, old, strict=True))] * len(old), []
    new = sizes or [math.ceil(before * max(scale, 1)) for before, scale in zip(old, scales, strict=True)]
    kept = math.prod(size for axis, size in enumerate(shapes[0]) if axis not in axes)
    nearest = node.get("mode", "nearest") == "nearest"
    constants = [after * (1 if nearest else before) for after, before in zip(new, old, strict=True)]
    return max(kept * math.prod(new), MAX_VALUE_ELEMENTS // MAX_CONSTANT_ELEMENTS * max(constants, default=1))


def _cut(node: Node, at: Cut) -> Node:
    """A size for every axis, the channels among them."""
    sizes = at.initializers.get(node.input(3))
    if sizes is None or sizes.size < 2 or "axes" in node.attributes or not at.changed(node.outputs[0]):
        return node
    new = sizes.copy()
    new[1] = at.shape(node.outputs[0])[1]
    return at.with_input(node, 3, new)


def _is_stretched(node: Node) -> bool:
    cropped = node.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    return not cropped and node.get("keep_aspect_ratio_policy", "stretch") == "stretch"


OPS: dict[str, Op] = {
    "Resize": Op(
        lower_resize.resize,
        flow.spatial,
        static=(1, 2, 3),
        by_opset=True,
        elements=_elements,
        cut=_cut,
        sized_by=3,
        channel_axis=1,
        told=_is_stretched,
        kind="data_movement",
    ),
    "Upsample": Op(
        lower_resize.resize,
        flow.spatial,
        static=(1,),
        by_opset=True,
        elements=_elements,
        channel_axis=1,
        kind="data_movement",
    ),
    "GridSample": selection(lower_resize.grid_sample, elements=no_more),
    "AffineGrid": Op(by_body, static=(1,), by_opset=True, elements=named_by(1), kind="elementwise"),
}
