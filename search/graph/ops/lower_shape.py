"""Lowering of operators that move elements or make constants; unit ids travel through the same code."""

from __future__ import annotations

import numpy as np
from onnx import helper

from search.graph.ir import Node
from search.graph.ops.lower import Inputs, Value, axes_of, ints, namespace, optional


def reshape(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Reshape``: 0 copies a dimension unless ``allowzero``, -1 is inferred."""
    wanted = ints(inputs[1]) if len(inputs) > 1 else list(node.get("shape"))
    if not node.get("allowzero", 0):
        wanted = [inputs[0].shape[i] if size == 0 else size for i, size in enumerate(wanted)]
    return inputs[0].reshape(wanted)


def flatten(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Flatten``: to two axes, split at ``axis``."""
    x = inputs[0]
    axis = node.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return (
        x.reshape(int(np.prod(x.shape[:axis])), -1)
        if x.size
        else x.reshape(int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis:])))
    )


def transpose(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Transpose``; reverses the axes by default."""
    return namespace(inputs[0]).transpose(inputs[0], node.get("perm"))


def concat(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Concat``."""
    return namespace(*inputs).concatenate(list(inputs), axis=node.get("axis"))


def split(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Split`` into the sizes given, or into as equal parts as ``num_outputs`` allows."""
    x, axis = inputs[0], node.get("axis", 0)
    sizes = node.get("split") or (ints(inputs[1]) if optional(inputs, 1) is not None else None)
    if sizes is None:
        count = node.get("num_outputs", len(node.outputs))
        each = -(-x.shape[axis] // count)
        sizes = [each] * (count - 1) + [x.shape[axis] - each * (count - 1)]
    return tuple(namespace(x).split(x, np.cumsum(sizes)[:-1].tolist(), axis=axis))


def slice_(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Slice``, bounds as inputs (10 on) or as attributes."""
    x = inputs[0]
    if len(inputs) > 1:
        starts, ends = ints(inputs[1]), ints(inputs[2])
        axes = ints(inputs[3]) if optional(inputs, 3) is not None else list(range(len(starts)))
        steps = ints(inputs[4]) if optional(inputs, 4) is not None else [1] * len(starts)
    else:
        starts, ends = list(node.get("starts")), list(node.get("ends"))
        axes, steps = list(node.get("axes", range(len(starts)))), [1] * len(starts)
    index = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index[axis] = slice(*_bounds(start, end, step, x.shape[axis]), step)
    return x[tuple(index)]


def _bounds(start: int, end: int, step: int, size: int) -> tuple[int, int | None]:
    """ONNX clamps where Python would wrap: an ``end`` below the first element means "to the very first"."""
    start = start + size if start < 0 else start
    end = end + size if end < 0 else end
    if step > 0:
        return min(max(start, 0), size), min(max(end, 0), size)
    start = min(max(start, 0), size - 1)
    return start, (None if end < 0 else min(end, size - 1))


def pad(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Pad``; negative pads crop."""
    x = inputs[0]
    flat = ints(inputs[1]) if len(inputs) > 1 else list(node.get("pads"))
    axes = ints(inputs[3]) if optional(inputs, 3) is not None else list(range(x.ndim))
    pads = [(0, 0)] * x.ndim
    for i, axis in enumerate(axes):
        pads[axis] = (flat[i], flat[i + len(axes)])
    crop = tuple(slice(max(-before, 0), x.shape[i] - max(-after, 0)) for i, (before, after) in enumerate(pads))
    grow = [(max(before, 0), max(after, 0)) for before, after in pads]
    mode = node.get("mode", "constant")
    if mode != "constant":
        return namespace(x).pad(x[crop], grow, mode=mode)
    fill = optional(inputs, 2)
    fill = node.get("value", 0) if fill is None else fill.reshape(-1)[0]
    return namespace(x).pad(x[crop], grow, constant_values=fill)


def gather(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Gather``; negative indices count from the end."""
    x, index = inputs
    axis = node.get("axis", 0)
    xp = namespace(x, index)
    return xp.take(x, xp.where(index < 0, index + x.shape[axis], index), axis=axis)


def squeeze(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Squeeze``; all axes of size 1 by default."""
    axes = axes_of(node, inputs, 1)
    return namespace(inputs[0]).squeeze(inputs[0], axis=tuple(axes) if axes is not None else None)


def unsqueeze(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Unsqueeze``."""
    axes = axes_of(node, inputs, 1)
    return namespace(inputs[0]).expand_dims(inputs[0], tuple(axes or ()))


def expand(_: Node, inputs: Inputs) -> Value:
    """ONNX ``Expand``: two-way broadcasting."""
    shape = np.broadcast_shapes(inputs[0].shape, tuple(ints(inputs[1])))
    return namespace(inputs[0]).broadcast_to(inputs[0], shape)


def shape(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Shape``: always static."""
    return np.array(inputs[0].shape, np.int64)[node.get("start", 0) : node.get("end")]


def constant_of_shape(node: Node, inputs: Inputs) -> Value:
    """ONNX ``ConstantOfShape``."""
    value = node.get("value")
    return np.full(
        ints(inputs[0]), 0.0 if value is None else value.reshape(-1)[0], np.float32 if value is None else value.dtype
    )


def constant(node: Node, _: Inputs) -> Value:
    """ONNX ``Constant`` in all its forms."""
    for name, value in node.attributes.items():
        if name in ("value_float", "value_floats"):
            return np.asarray(value, np.float32)
        if name in ("value_int", "value_ints"):
            return np.asarray(value, np.int64)
        if name in ("value_string", "value_strings"):
            return np.asarray(value, object)
    return np.asarray(node.get("value"))


def range_(_: Node, inputs: Inputs) -> Value:
    """ONNX ``Range``."""
    start, stop, step = (np.asarray(value).reshape(-1)[0] for value in inputs)
    return np.arange(start, stop, step, dtype=inputs[0].dtype)


def tile(_: Node, inputs: Inputs) -> Value:
    """ONNX ``Tile``."""
    return namespace(inputs[0]).tile(inputs[0], ints(inputs[1]))


def depth_to_space(node: Node, inputs: Inputs) -> Value:
    """ONNX ``DepthToSpace``: blocks of channels become blocks of pixels."""
    x, block = inputs[0], int(node.get("blocksize"))
    n, c, *size = x.shape
    rank, inner = len(size), c // block ** len(size)
    if node.get("mode", "DCR") == "DCR":
        split = x.reshape(n, *[block] * rank, inner, *size)
        blocks, channel = list(range(1, rank + 1)), rank + 1
    else:
        split = x.reshape(n, inner, *[block] * rank, *size)
        blocks, channel = list(range(2, rank + 2)), 1
    pairs = [axis for i in range(rank) for axis in (rank + 2 + i, blocks[i])]
    return namespace(x).transpose(split, (0, channel, *pairs)).reshape(n, inner, *[s * block for s in size])


def space_to_depth(node: Node, inputs: Inputs) -> Value:
    """ONNX ``SpaceToDepth``: blocks of pixels become channels (DCR order, or CRD where the operator has a mode)."""
    x, block = inputs[0], int(node.get("blocksize"))
    n, c, *size = x.shape
    rank = len(size)
    split = x.reshape(n, c, *[part for s in size for part in (s // block, block)])
    outer, inner = [2 + 2 * i for i in range(rank)], [3 + 2 * i for i in range(rank)]
    order = (1, *inner) if node.get("mode", "DCR") == "CRD" else (*inner, 1)
    return namespace(x).transpose(split, (0, *order, *outer)).reshape(n, -1, *[s // block for s in size])


def trilu(node: Node, inputs: Inputs) -> Value:
    """ONNX ``Trilu``."""
    x = inputs[0]
    diagonal = ints(inputs[1])[0] if optional(inputs, 1) is not None else 0
    xp = namespace(x)
    return (xp.triu if node.get("upper", 1) else xp.tril)(x, diagonal)


def eye_like(node: Node, inputs: Inputs) -> Value:
    """ONNX ``EyeLike``."""
    rows, columns = inputs[0].shape
    dtype = helper.tensor_dtype_to_np_dtype(node.get("dtype")) if node.get("dtype") else inputs[0].dtype
    return np.eye(rows, columns, int(node.get("k", 0)), dtype=dtype)


def reverse_sequence(node: Node, inputs: Inputs) -> Value:
    """ONNX ``ReverseSequence``: the first ``lengths[b]`` steps of every sequence, backwards."""
    x, lengths = inputs
    time, batch = node.get("time_axis", 0), node.get("batch_axis", 1)
    steps = np.arange(x.shape[time])
    ends = lengths[None, :]
    index = namespace(x, lengths).where(steps[:, None] < ends, ends - 1 - steps[:, None], steps[:, None])
    index = index if time < batch else index.T
    index = index.reshape(*index.shape, *[1] * (x.ndim - 2))
    return namespace(x, lengths).take_along_axis(x, index, axis=time)


def center_crop_pad(node: Node, inputs: Inputs) -> Value:
    """ONNX ``CenterCropPad``: every axis cropped or padded with zeros around its middle."""
    x = inputs[0]
    axes = [int(axis) % x.ndim for axis in node.get("axes", range(x.ndim))]
    crop, grow = [slice(None)] * x.ndim, [(0, 0)] * x.ndim
    for axis, size in zip(axes, ints(inputs[1]), strict=True):
        spare = x.shape[axis] - size
        crop[axis] = slice(max(spare, 0) // 2, max(spare, 0) // 2 + min(size, x.shape[axis]))
        grow[axis] = (max(-spare, 0) // 2, max(-spare, 0) - max(-spare, 0) // 2)
    return namespace(x).pad(x[tuple(crop)], grow)
