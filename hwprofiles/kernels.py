"""Which kernel a runtime runs for a workload, and the quantities that its time depends on.

A kernel rule set names how a runtime lays out tensors and picks kernels:

``nchwc``
    ONNX Runtime on x86: channels in blocks of ``tiles.block`` (16 with AVX-512, 8 with AVX2). Rules from
    onnxruntime/core/optimizer/nchwc_transformer.cc and onnxruntime/core/mlas/lib/snchwc.cpp.
``nhwc``
    channels last: LiteRT with XNNPACK, mobile GPUs, data-centre GPUs, TPUs. Only the tiles differ.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwprofiles.workload import Workload

KernelRules = Literal["nchwc", "nhwc"]
Path = Literal[
    "pointwise", "conv", "direct", "depthwise", "grouped", "fallback", "fallback_depthwise", "dense", "matmul",
    "pool", "fallback_pool", "global_pool", "elementwise", "norm", "softmax", "embedding", "data_movement",
    "reorder_in", "reorder_out", "network",
]  # fmt: skip
Feature = Literal[
    "kernels", "macs", "edge_macs", "chain", "input_bytes", "output_bytes", "weight_bytes", "reread_weight_bytes",
    "cold_bytes", "l2_miss_weight_bytes", "l3_miss_weight_bytes", "calls", "steps", "input_reads", "partial_sum_bytes",
    "patch_bytes", "residual_bytes", "activation_bytes",
]  # fmt: skip
"""Units that a coefficient multiplies: a count of kernels, MACs (tile-rounded), bytes, inner-kernel calls, elements."""
PATHS: tuple[str, ...] = get_args(Path)
FEATURES: tuple[str, ...] = get_args(Feature)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
FREE_WHEN_FUSED = frozenset({"Relu", "Clip", "BatchNormalization", "Add"})
"""Operators that every runtime here runs inside a kernel at no cost, or that have a feature of their own (Add)."""
INPUT_CHANNEL_ALIGNMENT = 4
"""ONNX Runtime's ReorderInput wants this multiple; other widths run the plain NCHW kernel."""


@dataclasses.dataclass(frozen=True)
class Tiles:
    """What a runtime's kernels round up to."""

    c_out: int = 1
    """Output channels are computed in multiples of this."""
    c_in: int = 1
    """Input channels are read in multiples of this."""
    positions: int = 1
    """Output positions (pixels, tokens) are computed in multiples of this."""
    panel: int = 64
    """Output channels computed in one pass over the input."""
    block: int = 1
    """Channel block of the ``nchwc`` layout."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """A workload at many widths at once; ``c_in``, ``c_out`` and ``groups`` are broadcast against each other."""

    workload: Workload
    c_in: Ints
    c_out: Ints
    groups: Ints

    @classmethod
    def of(cls, workload: Workload, c_in: ArrayLike | None = None, c_out: ArrayLike | None = None) -> Shape:
        """Widths default to the workload's own; a kernel without channel mixing keeps ``c_out`` equal to ``c_in``.

        Raises:
            ValueError: a width below 1, or a grouped convolution whose groups do not divide a width.
        """
        if is_channelwise(workload):
            c_in, c_out = (c_out if c_in is None else c_in), (c_in if c_out is None else c_out)
        into = np.asarray(workload.c_in if c_in is None else c_in, dtype=np.int64)
        out = np.asarray(workload.c_out if c_out is None else c_out, dtype=np.int64)
        into, out = np.broadcast_arrays(into, out)
        if (into < 1).any() or (out < 1).any():
            raise ValueError(f"kernel `{workload.name}`: a width below 1; every layer keeps at least one channel")
        groups = into if is_depthwise(workload) else np.full_like(into, workload.groups)
        if workload.kind == "conv" and ((into % groups).any() or (out % groups).any()):
            raise ValueError(
                f"kernel `{workload.name}`: groups={workload.groups} must divide every width of both sides"
            )
        return cls(workload, into, out, groups)


def is_depthwise(workload: Workload) -> bool:
    """Whether every channel is convolved on its own."""
    return workload.kind == "conv" and workload.groups == workload.c_in == workload.c_out > 1


def is_channelwise(workload: Workload) -> bool:
    """Whether the kernel has as many output as input channels by its nature."""
    return is_depthwise(workload) or (
        workload.kind not in {"conv", "dense", "matmul"} and workload.c_in == workload.c_out
    )


def kernel_paths(shape: Shape, rules: KernelRules, tiles: Tiles) -> Iterator[tuple[Path, Mask]]:
    """Disjoint masks over the widths of ``shape``, one for each kernel path that occurs."""
    w = shape.workload
    everywhere = np.ones(shape.c_in.shape, dtype=np.bool_)
    if w.kind == "conv":
        yield from _nchwc_conv_paths(shape, tiles.block) if rules == "nchwc" else [(_nhwc_conv_path(w), everywhere)]
    elif w.kind == "pool" and rules == "nchwc":
        blocked = shape.c_in % tiles.block == 0
        yield "pool", blocked
        yield "fallback_pool", ~blocked
    else:
        yield w.kind, everywhere


def _nhwc_conv_path(w: Workload) -> Path:
    if is_depthwise(w):
        return "depthwise"
    if w.groups > 1:
        return "grouped"
    if math.prod(w.kernel) > 1:
        return "direct" if w.c_in < 4 else "conv"
    return "dense" if w.out_hw == (1, 1) else "pointwise"


def _nchwc_conv_paths(shape: Shape, block: int) -> Iterator[tuple[Path, Mask]]:
    if is_depthwise(shape.workload):
        blocked = shape.c_in % INPUT_CHANNEL_ALIGNMENT == 0
        yield "depthwise", blocked
        yield "fallback_depthwise", ~blocked
        return
    if shape.workload.groups > 1:
        blocked = (shape.c_in // shape.groups % block == 0) & (shape.c_out // shape.groups % block == 0)
        yield "grouped", blocked
        yield "fallback", ~blocked
        return
    direct = shape.c_in < block
    aligned = shape.c_in % INPUT_CHANNEL_ALIGNMENT == 0
    yield "direct", direct
    yield ("pointwise" if math.prod(shape.workload.kernel) == 1 else "conv"), aligned & ~direct
    yield "fallback", ~aligned & ~direct


def round_up(value: Any, multiple: int) -> Any:
    """The least multiple that is not below ``value``."""
    return -(-value // multiple) * multiple


def features(
    shape: Shape, path: Path, tiles: Tiles, bytes_per_element: float, l2_bytes: float = math.inf
) -> dict[str, Floats]:
    """Quantities that the time of ``path`` may depend on, each with the shape of ``shape.c_in``."""
    w = shape.workload
    width_in, width_out = _padded_widths(shape, path, tiles)
    per_group = np.ones_like(width_in) if is_depthwise(w) else width_in // shape.groups
    taps = math.prod(w.kernel)
    positions = math.prod(w.out_hw) * w.rows * (w.groups if w.kind == "matmul" else 1)
    macs_per_position = width_out * per_group * taps
    panels = -(-width_out // (tiles.panel * shape.groups)) * shape.groups
    passes = _accumulation_passes(path, per_group, tiles)
    edges, groups_of_positions = _position_groups(w, path, tiles)
    out_bytes = positions * width_out * bytes_per_element
    in_bytes = (
        math.prod(w.in_hw)
        * w.rows
        * width_in
        * w.operands
        * bytes_per_element
        * (w.groups if w.kind == "matmul" else 1)
    )
    weighted = w.kind in {"conv", "dense"}
    weight_bytes = macs_per_position * bytes_per_element if weighted else np.zeros(width_in.shape)
    spill = np.clip(weight_bytes / l2_bytes - 1.0, 0.0, 1.0)
    reads = positions * per_group * taps * panels
    amounts: dict[str, Any] = {
        "kernels": 1.0,
        "macs": round_up(positions, tiles.positions) * macs_per_position
        if w.kind in {"conv", "dense", "matmul"}
        else 0.0,
        "edge_macs": edges * macs_per_position if weighted else 0.0,
        "input_bytes": in_bytes,
        "output_bytes": out_bytes,
        "cold_bytes": np.maximum(0.0, in_bytes + out_bytes - l2_bytes),
        "weight_bytes": weight_bytes,
        "calls": shape.groups if path.startswith("fallback") else w.out_hw[0] * w.rows * panels * passes,
        "steps": groups_of_positions * per_group * taps * panels,
        "input_reads": reads if weighted else positions * width_out * taps,
        "partial_sum_bytes": out_bytes * (passes - 1),
        "patch_bytes": positions * per_group * shape.groups * taps * bytes_per_element,
        "reread_weight_bytes": spill * (-(-positions // tiles.positions) - 1) * weight_bytes
        if w.kind == "conv"
        else 0.0,
        "chain": per_group * taps if weighted else 0.0,
        "residual_bytes": out_bytes if "Add" in w.fused and weighted else 0.0,
        "activation_bytes": out_bytes * sum(op not in FREE_WHEN_FUSED for op in w.fused),
    }
    return {
        name: np.broadcast_to(np.asarray(amount, dtype=np.float64), width_in.shape) for name, amount in amounts.items()
    }


def _padded_widths(shape: Shape, path: Path, tiles: Tiles) -> tuple[Ints, Ints]:
    """Input and output channels as the kernel computes them; plain NCHW kernels do not pad."""
    if path.startswith("fallback"):
        return shape.c_in, shape.c_out
    if is_channelwise(shape.workload):
        return round_up(shape.c_in, tiles.c_out), round_up(shape.c_out, tiles.c_out)
    c_out = shape.groups * round_up(shape.c_out // shape.groups, tiles.c_out)
    if path == "direct":
        return shape.c_in, c_out
    return shape.groups * round_up(shape.c_in // shape.groups, tiles.c_in), c_out


def _accumulation_passes(path: Path, per_group: Ints, tiles: Tiles) -> Ints:
    """Passes over the output: snchwc.cpp sums 128 input channels at a time in a pointwise kernel, else one block."""
    if path == "pointwise" and tiles.block > 1:
        return -(-per_group // 128)
    if path in {"conv", "grouped"} and tiles.block > 1:
        return -(-per_group // max(tiles.block, 1))
    return np.ones_like(per_group)


def _position_groups(w: Workload, path: Path, tiles: Tiles) -> tuple[int, int]:
    """Output positions whose window crosses the padding, and sets of positions that one inner loop computes together.

    The blocked kernels take 6 positions of a row at once, then 3, then 1, and 1 at a time at padded edges; a pointwise
    kernel sees the whole map as one row. A set of few positions waits for the latency of the multiply-add.
    """
    height, width = w.out_hw
    if path == "pointwise" or tiles.block == 1:
        return 0, _sets(height * width * w.rows) if tiles.block > 1 else -(-height * width * w.rows // tiles.positions)
    reach, stride = (w.kernel[1] - 1) * w.dilation[1], w.stride[1]
    pad = reach // 2 if width * stride >= w.in_hw[1] else 0
    left = -(-pad // stride)
    right = max(0, width - 1 - (w.in_hw[1] - 1 + pad - reach) // stride)
    edges = min(width, left + right)
    return height * edges, height * (edges + _sets(width - edges))


def _sets(positions: int) -> int:
    """How many sets of 6, 3 or 1 positions make up a row."""
    rest = positions % 6
    return positions // 6 + rest // 3 + rest % 3
