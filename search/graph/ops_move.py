"""The operator table: movement of elements, selection, resizing, constants, sequences."""

from __future__ import annotations

import numpy as np

from search.graph import flow, lower_index, lower_resize, lower_sequence, lower_shape, lower_signal
from search.graph.functions import by_body
from search.graph.op import Op, movement, static, view

MOVEMENT: dict[str, Op] = {
    "Reshape": view(lower_shape.reshape),
    "Flatten": view(lower_shape.flatten),
    "Squeeze": view(lower_shape.squeeze),
    "Unsqueeze": view(lower_shape.unsqueeze),
    "Transpose": movement(lower_shape.transpose),
    "Concat": movement(lower_shape.concat),
    "Split": movement(lower_shape.split),
    "Slice": movement(lower_shape.slice_),
    "Pad": movement(lower_shape.pad),
    "Gather": movement(lower_shape.gather),
    "Expand": movement(lower_shape.expand),
    "Tile": movement(lower_shape.tile),
    "DepthToSpace": movement(lower_shape.depth_to_space),
    "SpaceToDepth": movement(lower_shape.space_to_depth),
    "CenterCropPad": movement(lower_shape.center_crop_pad),
    "Resize": Op(lower_resize.resize, flow.spatial, kind="data_movement", by_opset=True),
    "Upsample": Op(lower_resize.resize, flow.spatial, kind="data_movement", by_opset=True),
}

SELECTION: dict[str, Op] = {
    "GatherElements": Op(lower_index.gather_elements, kind="data_movement"),
    "GatherND": Op(lower_index.gather_nd, kind="data_movement"),
    "Scatter": Op(lower_index.scatter_elements, kind="data_movement"),
    "ScatterElements": Op(lower_index.scatter_elements, kind="data_movement"),
    "ScatterND": Op(lower_index.scatter_nd, kind="data_movement"),
    "TensorScatter": Op(lower_index.tensor_scatter, kind="data_movement"),
    "OneHot": Op(lower_index.one_hot, kind="data_movement"),
    "Compress": Op(lower_index.compress, kind="data_movement"),
    "NonZero": Op(lower_index.non_zero, kind="data_movement"),
    "Unique": Op(lower_index.unique, kind="data_movement"),
    "NonMaxSuppression": Op(lower_index.non_max_suppression, kind="data_movement"),
    "ReverseSequence": Op(lower_shape.reverse_sequence, kind="data_movement"),
    "Trilu": Op(lower_shape.trilu, kind="data_movement"),
    "GridSample": Op(lower_resize.grid_sample, kind="data_movement"),
    "AffineGrid": Op(by_body, kind="elementwise", by_opset=True),
    "DFT": Op(lower_signal.dft, kind="elementwise", by_opset=True),
    "STFT": Op(lower_signal.stft, kind="elementwise"),
}

STATIC: dict[str, Op] = {
    "Shape": static(lower_shape.shape),
    "Size": static(lambda _, v: np.array(np.prod(v[0].shape), np.int64)),
    "Constant": static(lower_shape.constant),
    "ConstantOfShape": static(lower_shape.constant_of_shape),
    "Range": static(lower_shape.range_),
    "EyeLike": static(lower_shape.eye_like),
    **{name: Op(by_body, flow.forget, by_opset=True) for name in ("HannWindow", "HammingWindow", "BlackmanWindow")},
}

SEQUENCES: dict[str, Op] = {name: Op(function) for name, function in lower_sequence.FUNCTIONS.items()}
