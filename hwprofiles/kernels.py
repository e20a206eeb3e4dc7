"""Which kernel a runtime runs for a workload.

A kernel rule set names how a runtime lays out tensors and picks kernels:

``nchwc``
    ONNX Runtime on x86: channels in blocks of ``tiles.block`` (16 with AVX-512, 8 with AVX2). Rules from
    onnxruntime/core/optimizer/nchwc_transformer.cc and onnxruntime/core/mlas/lib/snchwc.cpp.
``nhwc``
    channels last on a CPU: LiteRT with XNNPACK and its own kernels. One core works through tiles of positions and channels.
``gpu``
    channels last, all outputs at once: a kernel with fewer outputs than the device computes together takes as long.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwprofiles.workload import Workload

KernelRules = Literal["nchwc", "nhwc", "gpu"]
Path = Literal[
    "pointwise", "conv", "direct", "depthwise", "grouped", "fallback", "fallback_depthwise", "dense", "matmul",
    "step", "pool", "fallback_pool", "global_pool", "elementwise", "norm", "softmax", "embedding", "data_movement",
    "reorder_in", "reorder_out", "network",
]  # fmt: skip
PATHS: tuple[str, ...] = get_args(Path)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
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
    outputs: int = 1
    """Output elements that a ``gpu`` computes together."""


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
        into, out = (np.array(widths) for widths in np.broadcast_arrays(into, out))
        if (into < 1).any() or (out < 1).any():
            raise ValueError(f"kernel `{workload.name}`: a width below 1; every layer keeps at least one channel")
        groups = np.full_like(into, workload.groups)
        if goes_by_groups(workload):
            groups = np.maximum(1, into // (workload.c_in // workload.groups))
        if workload.kind == "conv" and ((into % groups).any() or (out % groups).any()):
            raise ValueError(
                f"kernel `{workload.name}`: groups={workload.groups} must divide every width of both sides; use widths of "
                "`in_whole_groups`"
            )
        return cls(workload, into, out, groups)


def is_depthwise(workload: Workload) -> bool:
    """Whether every channel is convolved on its own."""
    return workload.kind == "conv" and workload.groups == workload.c_in == workload.c_out > 1


def goes_by_groups(workload: Workload) -> bool:
    """Whether a narrower convolution has fewer groups (depthwise, ResNeXt), or as many narrower ones (AlexNet).

    The rule of `search.graph.flow_linear`, which decides what is cut.
    """
    return workload.kind == "conv" and workload.groups > 1 and workload.groups >= workload.c_in // workload.groups


def in_whole_groups(workload: Workload, c_in: ArrayLike, c_out: ArrayLike) -> tuple[Ints, Ints]:
    """The widths nearest to those given that a convolution in groups can have; any other kernel has all.

    >>> conv = Workload("c", "conv", 304, 304, groups=38)
    >>> [widths.tolist() for widths in in_whole_groups(conv, [256, 100], [256, 100])]
    [[256, 96], [256, 96]]
    """
    into, out = np.asarray(c_in, np.int64), np.asarray(c_out, np.int64)
    if workload.kind != "conv" or workload.groups == 1:
        return into, out
    if not goes_by_groups(workload):
        return (_nearest_multiple(into, workload.groups), _nearest_multiple(out, workload.groups))
    width = workload.c_in // workload.groups
    groups = _nearest_multiple(into, width) // width
    return groups * width, groups * np.maximum(1, np.rint(out / groups).astype(np.int64))


def _nearest_multiple(value: Ints, of: int) -> Ints:
    return np.maximum(1, np.rint(value / of).astype(np.int64)) * of


def is_channelwise(workload: Workload) -> bool:
    """Whether the kernel has as many output as input channels by its nature."""
    return is_depthwise(workload) or (
        workload.kind not in {"conv", "dense", "matmul", "recurrence", "step"} and workload.c_in == workload.c_out
    )


def products(shape: Shape) -> list[tuple[int, Shape]]:
    """A recurrence as the products that it consists of, each with how often it runs; any other kernel once as it is.

    What the inputs of all time steps give to the gates is one product beforehand; then step follows step, as each reads
    the hidden state that the one before has left.
    """
    w = shape.workload
    if w.kind != "recurrence":
        return [(1, shape)]
    plain = dataclasses.replace(w, groups=1, gates=1, c_out=w.gates * w.c_out)
    before = dataclasses.replace(plain, kind="dense")
    step = dataclasses.replace(plain, kind="step", c_in=w.c_out, rows=1, fused=("Sigmoid",))
    return [
        (w.groups, Shape.of(before, shape.c_in, w.gates * shape.c_out)),
        (w.groups * w.rows, Shape.of(step, shape.c_out, w.gates * shape.c_out)),
    ]


def kernel_paths(shape: Shape, rules: KernelRules, tiles: Tiles) -> Iterator[tuple[Path, Mask]]:
    """Disjoint masks over the widths of ``shape``, one for each kernel path that occurs."""
    w = shape.workload
    everywhere = np.ones(shape.c_in.shape, dtype=np.bool_)
    if w.kind == "conv":
        yield from _nchwc_conv_paths(shape, tiles.block) if rules == "nchwc" else [(_nhwc_conv_path(w), everywhere)]
    elif w.kind == "pool" and rules == "nchwc":
        blocked = (shape.c_in % tiles.block == 0) & (w.spatial_axes == 2)
        yield "pool", blocked
        yield "fallback_pool", ~blocked
    elif w.kind != "recurrence":  # which takes the paths of its `products`
        yield w.kind, everywhere


def _nhwc_conv_path(w: Workload) -> Path:
    if is_depthwise(w):
        return "depthwise"
    if w.groups > 1:
        return "grouped"
    if math.prod(w.kernel) > 1:
        return "conv"
    return "dense" if w.out_hw == (1, 1) else "pointwise"


def _nchwc_conv_paths(shape: Shape, block: int) -> Iterator[tuple[Path, Mask]]:
    """Channels in blocks are for images alone: nchwc_transformer.cc leaves weights of any other rank than four as they are."""
    image = shape.workload.spatial_axes == 2
    if is_depthwise(shape.workload):
        blocked = (shape.c_in % INPUT_CHANNEL_ALIGNMENT == 0) & image
        yield "depthwise", blocked
        yield "fallback_depthwise", ~blocked
        return
    if shape.workload.groups > 1:
        blocked = (shape.c_in // shape.groups % block == 0) & (shape.c_out // shape.groups % block == 0) & image
        yield "grouped", blocked
        yield "fallback", ~blocked
        return
    if not image:
        yield "fallback", np.ones(shape.c_in.shape, np.bool_)
        return
    direct = shape.c_in < block
    aligned = shape.c_in % INPUT_CHANNEL_ALIGNMENT == 0
    yield "direct", direct
    yield ("pointwise" if math.prod(shape.workload.kernel) == 1 else "conv"), aligned & ~direct
    yield "fallback", ~aligned & ~direct


def round_up(value: Any, multiple: int) -> Any:
    """The least multiple that is not below ``value``."""
    return -(-value // multiple) * multiple
