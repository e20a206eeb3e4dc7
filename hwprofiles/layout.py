"""Where a network changes its tensor layout: ONNX Runtime reorders between NCHW and channel blocks at such borders."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

from hwprofiles.kernels import Path, Shape, Tiles, kernel_paths, round_up
from hwprofiles.workload import GRAPH_INPUT, Workload

Direction = Literal["reorder_in", "reorder_out"]
Reorder = tuple[Direction, int]
"""The direction into or out of blocks, and the elements of the tensor with its channels padded to the block."""


def kernel_path(workload: Workload, tiles: Tiles) -> Path:
    """The path of a workload at its own widths under the ``nchwc`` rules."""
    return next(path for path, mask in kernel_paths(Shape.of(workload), "nchwc", tiles) if mask.all())


def reorders(workloads: Sequence[Workload], tiles: Tiles) -> Iterator[Reorder]:
    """Every reorder of one inference; a tensor is reordered at most once in each direction.

    A convolution with fewer inputs than a block reads NCHW and writes blocks, so a network's first layer needs none.
    """
    blocked_out: list[bool] = []
    done: set[tuple[int, Direction]] = set()
    for position, workload in enumerate(workloads):
        reads, adds, writes = _layouts(workload, workloads, blocked_out, tiles)
        blocked_out.append(writes)
        wanted = [
            (source, adds if index and workload.kind == "conv" else reads)
            for index, source in enumerate(workload.sources)
        ]
        if workload.kind == "conv" and not adds and _computes_blocks(workload, tiles):
            blocked_out[-1] = True  # the kernel's own result leaves the blocks before the addition
            wanted.append((position, False))
        for source, wants_blocks in wanted:
            is_blocked = source != GRAPH_INPUT and blocked_out[source]
            direction: Direction = "reorder_in" if wants_blocks else "reorder_out"
            if is_blocked != wants_blocks and (source, direction) not in done:
                done.add((source, direction))
                yield direction, _elements(source, workload, workloads, tiles)
        blocked_out[-1] = writes


def _layouts(
    workload: Workload, workloads: Sequence[Workload], blocked_out: Sequence[bool], tiles: Tiles
) -> tuple[bool, bool, bool]:
    """Whether a kernel reads, adds a fused addend, and writes in blocks."""
    blocked = [source != GRAPH_INPUT and blocked_out[source] for source in workload.sources]
    if workload.kind == "conv":
        computes = _computes_blocks(workload, tiles)
        adds = computes and all(blocked[1:])
        return computes and kernel_path(workload, tiles) != "direct", adds, adds
    if workload.kind == "pool":
        fits = (
            kernel_path(workload, tiles) == "pool"
        )  # a pool of whole blocks has its input reordered, as a convolution does
        return fits, fits, fits
    made = [workloads[source] for source in workload.sources]
    fits = bool(blocked) and all(blocked) and _shapes_fit(workload, made, tiles)
    return fits, fits, fits


def _computes_blocks(workload: Workload, tiles: Tiles) -> bool:
    return not kernel_path(workload, tiles).startswith("fallback")


def _shapes_fit(workload: Workload, made: Sequence[Workload], tiles: Tiles) -> bool:
    """Whether tensors in blocks can stay so: equal shapes in arithmetic, else whole blocks."""
    if workload.kind == "data_movement":
        return len(made) > 1 and all(
            source.c_out % tiles.block == 0 and source.out_hw == workload.out_hw for source in made
        )
    if workload.kind == "global_pool":
        return workload.c_in % tiles.block == 0
    same = all((source.c_out, source.out_hw) == (workload.c_out, workload.out_hw) for source in made)
    return (
        workload.kind in {"elementwise", "norm"} and same
    )  # a normalisation in blocks runs as a depthwise convolution


def _elements(source: int, reader: Workload, workloads: Sequence[Workload], tiles: Tiles) -> int:
    """Size of a tensor, its channels padded to the block."""
    if source == GRAPH_INPUT:
        return reader.input_elements // max(reader.operands, 1)
    made = workloads[source]
    return math.prod(made.out_hw) * int(round_up(made.c_out, tiles.block))
