"""Elements that change places. Unit ids go through the operators' own lowering."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from search.graph.flow import FIXED, Coupling, Ids, freeze, varies
from search.graph.ir import Node
from search.graph.ops import cut_move, lower_shape
from search.graph.ops.elements import Shape, broadcast, named_by, no_more, numbers
from search.graph.ops.lower import Lower
from search.graph.ops.op import Op

Then = Callable[[Node, Ids, Sequence[Ids], Coupling], Sequence[Ids]]
"""(node, ids of the first operand, ids of the outputs as the lowering moves them, coupling) to ids of the outputs."""


def _run(
    node: Node, inputs: Sequence[Ids | None], at: Coupling, data: Iterable[int] = (0,), then: Then | None = None
) -> Sequence[Ids]:
    """Compute a node on the ids of its ``data``."""
    values: list[Any] = [at.static.get(value) for value in node.inputs]
    if any(values[i] is None and node.inputs[i] for i in range(len(values)) if i not in data):
        return freeze(node, inputs, at)
    for position in data:
        ids = inputs[position]
        values[position] = ids if ids is not None else np.full(at.static[node.inputs[position]].shape, FIXED, np.int32)
    moved = at.lower(node, values)
    outputs = moved if isinstance(moved, tuple) else (moved,)
    return outputs if then is None else then(node, values[0], outputs, at)


def _flow(node: Node, inputs: Sequence[Ids | None], at: Coupling, then: Then | None = None) -> Sequence[Ids]:
    """Of an operator that moves the elements of its first operand."""
    if inputs[0] is None:
        return [at.none(value) for value in node.outputs if value]
    return _run(node, inputs, at, (0,), then)


def _flow_concat(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    return _run(node, inputs, at, range(len(inputs)))


def _flow_pad(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """Rows and columns that are padded go with their channel; what is filled in is no unit's."""
    if inputs[0] is not None and node.input(2) and node.input(2) not in at.static:
        return freeze(node, inputs, at)
    filled = dataclasses.replace(
        node,
        inputs=tuple("" if i == 2 else name for i, name in enumerate(node.inputs)),
        attributes={**node.attributes, "value": FIXED},
    )
    return _flow(filled, inputs, at, _padded)


def _padded(node: Node, source: Ids, outputs: Sequence[Ids], at: Coupling) -> Sequence[Ids]:
    """Channels that are padded are data of fixed width."""
    shape = at.shapes[node.outputs[0]]
    varying = [axis for axis in range(source.ndim) if varies(source, axis)]
    if any(source.shape[axis] != shape[axis] for axis in varying) or not source.size:
        return outputs
    one_each = source[tuple(slice(None) if axis in varying else slice(0, 1) for axis in range(source.ndim))]
    return [np.broadcast_to(one_each, shape)]


def _reshaped(node: Node, source: Ids, outputs: Sequence[Ids], at: Coupling) -> Sequence[Ids]:
    """Channels that a Reshape spreads over several axes go in whole slices along one of them.

    Features (last axis) split into heads of some width: a head is a unit. Channels (axis 1) split into groups: the
    position within the group is a unit.
    """
    ids = outputs[0]
    axes = [axis for axis in range(ids.ndim) if varies(ids, axis)]
    before = [axis for axis in range(source.ndim) if varies(source, axis)]
    if axes and node.input(1) not in at.initializers:
        at.keep(node, ids, "Reshape to a shape that is computed")
        return [np.full(ids.shape, FIXED, np.int32)]
    if len(axes) < 2:
        return [ids]
    if len(before) != 1 or (ids <= 0).any():
        at.keep(node, ids, "Reshape splits the channels over several axes")
        return [np.full(ids.shape, FIXED, np.int32)]
    tokens = before[0] == source.ndim - 1 and (source.ndim > 2 or source.shape[0] > 1)
    kept = axes[-2] if tokens else max(axes, key=lambda axis: ids.shape[axis])
    rows = np.moveaxis(ids, kept, 0).reshape(ids.shape[kept], -1)
    unit = at.unite_along(node, rows, 1)
    return [np.broadcast_to(unit.reshape([-1 if axis == kept else 1 for axis in range(ids.ndim)]), ids.shape)]


def _sliced(node: Node, source: Ids, outputs: Sequence[Ids], at: Coupling) -> Sequence[Ids]:
    """Bounds that cut through units must be constants that can be rewritten."""
    axes = node.get("axes") or (at.static[node.input(3)].tolist() if node.input(3) else range(source.ndim))
    steps = at.static[node.input(4)] if node.input(4) else np.ones(1)
    touched = any(varies(source, int(axis)) for axis in axes)
    if touched and (np.any(steps != 1) or any(name not in at.initializers for name in node.inputs[1:] if name)):
        at.keep(node, source, "Slice has bounds that are computed, or steps")
    return outputs


def _gathered(node: Node, source: Ids, outputs: Sequence[Ids], at: Coupling) -> Sequence[Ids]:
    """Indices that choose units must be a constant vector."""
    if varies(source, int(node.get("axis", 0))):
        if node.input(1) not in at.initializers:
            at.keep(node, source, "Gather has indices that are computed")
        elif at.initializers[node.input(1)].ndim > 1:
            at.keep(node, source, "Gather lays channels out over several axes")
    return outputs


def _tiled(node: Node, source: Ids, outputs: Sequence[Ids], at: Coupling) -> Sequence[Ids]:
    repeats = at.static[node.inputs[1]].reshape(-1).tolist()
    if any(count > 1 and varies(source, axis) for axis, count in enumerate(repeats)):
        at.keep(node, source, "Tile repeats channels")
    return outputs


def _mixed(node: Node, source: Ids, outputs: Sequence[Ids], at: Coupling) -> Sequence[Ids]:
    at.keep(node, source, f"{node.op} mixes channels and positions")
    return outputs


def _elements_of_expand(_node: Node, inputs: Sequence[Any], shapes: Sequence[Shape]) -> int:
    return broadcast([shapes[0], tuple(max(size, 1) for size in numbers(inputs, 1))])


def _elements_of_tile(_node: Node, inputs: Sequence[Any], shapes: Sequence[Shape]) -> int:
    return math.prod(shapes[0]) * math.prod(max(count, 1) for count in numbers(inputs, 1))


def _elements_of_concat(_node: Node, _inputs: Sequence[Any], shapes: Sequence[Shape]) -> int:
    return sum(map(math.prod, shapes))


def _elements_of_pad(node: Node, inputs: Sequence[Any], shapes: Sequence[Shape]) -> int:
    pads = [int(v) for v in node.get("pads", [])] or numbers(inputs, 1)
    axes = numbers(inputs, 3) or list(range(len(shapes[0])))
    sizes = list(shapes[0])
    for i, axis in enumerate(axes[: len(pads) // 2]):
        sizes[axis] += max(0, pads[i]) + max(0, pads[i + len(axes)])
    return math.prod(sizes)


def _elements_of_gather(node: Node, _inputs: Sequence[Any], shapes: Sequence[Shape]) -> int:
    axis = int(node.get("axis", 0))
    return math.prod(shapes[0]) // max(1, shapes[0][axis]) * math.prod(shapes[1])


def _movement(function: Lower, *static: int, then: Then | None = None, **more: Any) -> Op:
    """A device copies the elements. ``static`` as for `Op`; ``then`` looks at where units went."""
    flow = _flow if then is None else functools.partial(_flow, then=then)
    return Op(function, **{"flow": flow, "static": static, "kind": "data_movement", **more})


def _view(function: Lower, *static: int, **more: Any) -> Op:
    """A movement that costs nothing at run time."""
    return _movement(function, *static, moves="first", kind=None, **more)


OPS: dict[str, Op] = {
    "Reshape": _view(
        lower_shape.reshape,
        1,
        scores="passes",
        then=_reshaped,
        elements=no_more,
        cut=cut_move.reshape,
        sized_by=1,
        fits=lambda _, given, made: math.prod(given[0]) == math.prod(made),
        told=True,
    ),
    "Flatten": _view(lower_shape.flatten, scores="passes", told=True),
    "Squeeze": _view(lower_shape.squeeze, 1, scores="passes", elements=no_more, told=True),
    "Unsqueeze": _view(lower_shape.unsqueeze, 1, elements=no_more, told=True),
    "Transpose": _movement(lower_shape.transpose, moves="first", told=True),
    "Concat": _movement(lower_shape.concat, flow=_flow_concat, moves="all", elements=_elements_of_concat, told=True),
    "Split": _movement(lower_shape.split, 1, moves="first", elements=no_more, cut=cut_move.split),
    "Slice": _movement(
        lower_shape.slice_, 1, 2, 3, 4, then=_sliced, moves="first", elements=no_more, cut=cut_move.slice_, told=True
    ),
    "Gather": _movement(
        lower_shape.gather, then=_gathered, moves="first", elements=_elements_of_gather, cut=cut_move.gather
    ),
    "Expand": _movement(
        lower_shape.expand, 1, moves="first", elements=_elements_of_expand, cut=cut_move.expand, sized_by=1
    ),
    "Tile": _movement(lower_shape.tile, 1, then=_tiled, moves="first", elements=_elements_of_tile),
    "Pad": _movement(lower_shape.pad, 1, 2, 3, flow=_flow_pad, elements=_elements_of_pad, told=True),
    "DepthToSpace": _movement(lower_shape.depth_to_space, then=_mixed),
    "SpaceToDepth": _movement(lower_shape.space_to_depth, then=_mixed),
    "CenterCropPad": _movement(lower_shape.center_crop_pad, 1, then=_mixed, elements=named_by(1)),
}
