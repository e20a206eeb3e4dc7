"""The operator table: movement of elements, selection, resizing, constants, sequences."""

from __future__ import annotations

import numpy as np

from search.graph import flow
from search.graph.ops import lower_index, lower_resize, lower_sequence, lower_shape, lower_signal
from search.graph.ops.body import by_body
from search.graph.ops.op import Op, constant, movement, selection, view

MOVEMENT: dict[str, Op] = {
    "Reshape": view(lower_shape.reshape, 1),
    "Flatten": view(lower_shape.flatten),
    "Squeeze": view(lower_shape.squeeze, 1),
    "Unsqueeze": view(lower_shape.unsqueeze, 1),
    "Transpose": movement(lower_shape.transpose),
    "Concat": movement(lower_shape.concat),
    "Split": movement(lower_shape.split, 1),
    "Slice": movement(lower_shape.slice_, 1, 2, 3, 4),
    "Pad": movement(lower_shape.pad, 1, 2, 3),
    "Gather": movement(lower_shape.gather),
    "Expand": movement(lower_shape.expand, 1),
    "Tile": movement(lower_shape.tile, 1),
    "DepthToSpace": movement(lower_shape.depth_to_space),
    "SpaceToDepth": movement(lower_shape.space_to_depth),
    "CenterCropPad": movement(lower_shape.center_crop_pad, 1),
    "Resize": Op(lower_resize.resize, flow.spatial, static=(1, 2, 3), kind="data_movement", by_opset=True),
    "Upsample": Op(lower_resize.resize, flow.spatial, static=(1,), kind="data_movement", by_opset=True),
}

SELECTION: dict[str, Op] = {
    "GatherElements": selection(lower_index.gather_elements),
    "GatherND": selection(lower_index.gather_nd),
    "Scatter": selection(lower_index.scatter_elements),
    "ScatterElements": selection(lower_index.scatter_elements),
    "ScatterND": selection(lower_index.scatter_nd),
    "TensorScatter": selection(lower_index.tensor_scatter),
    "OneHot": selection(lower_index.one_hot, 1),
    "Compress": selection(lower_index.compress, 1),
    "NonZero": selection(lower_index.non_zero),
    "Unique": selection(lower_index.unique),
    "NonMaxSuppression": selection(lower_index.non_max_suppression, 2, 3, 4),
    "ReverseSequence": selection(lower_shape.reverse_sequence),
    "Trilu": selection(lower_shape.trilu, 1),
    "GridSample": selection(lower_resize.grid_sample),
    "AffineGrid": Op(by_body, static=(1,), kind="elementwise", by_opset=True),
    "DFT": Op(lower_signal.dft, static=(1, 2), kind="elementwise", by_opset=True),
    "STFT": Op(lower_signal.stft, static=(1, 3), kind="elementwise"),
}

STATIC: dict[str, Op] = {
    "Shape": constant(lower_shape.shape),
    "Size": constant(lambda _, v: np.array(np.prod(v[0].shape), np.int64)),
    "Constant": constant(lower_shape.constant),
    "ConstantOfShape": constant(lower_shape.constant_of_shape, 0),
    "Range": constant(lower_shape.range_, 0, 1, 2),
    "EyeLike": constant(lower_shape.eye_like),
    **{
        name: Op(by_body, flow.forget, static=(0,), by_opset=True)
        for name in ("HannWindow", "HammingWindow", "BlackmanWindow")
    },
}

_POSITIONS = {"SequenceAt": 1, "SequenceInsert": 2, "SequenceErase": 1, "SplitToSequence": 1}
SEQUENCES: dict[str, Op] = {
    name: Op(function, static=(_POSITIONS[name],) if name in _POSITIONS else ())
    for name, function in lower_sequence.FUNCTIONS.items()
}
