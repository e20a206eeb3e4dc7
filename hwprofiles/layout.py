"""Where a network changes its tensor layout: ONNX Runtime reorders between NCHW and channel blocks at such borders."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

from hwprofiles.kernels import Path, Shape, Tiles, is_channelwise, kernel_paths, round_up
from hwprofiles.workload import GRAPH_INPUT, Workload

Reorder = tuple[Literal["reorder_in", "reorder_out"], int]
"""The direction into or out of blocks, and the elements of the tensor with its channels padded to the block."""
_BLOCKED: frozenset[Path] = frozenset({"pointwise", "conv", "depthwise", "grouped", "pool"})
_FOLLOWS_INPUTS = {"elementwise", "data_movement", "global_pool"}


def kernel_path(workload: Workload, tiles: Tiles) -> Path:
    """The path of a workload at its own widths under the ``nchwc`` rules."""
    return next(path for path, mask in kernel_paths(Shape.of(workload), "nchwc", tiles) if mask.all())


def reorders(workloads: Sequence[Workload], tiles: Tiles) -> Iterator[Reorder]:
    """Every reorder of one inference; a tensor is reordered at most once in each direction.

    A convolution with fewer inputs than a block reads NCHW and writes blocks, so a network's first layer needs none.
    """
    blocked_out: list[bool] = []
    done: set[tuple[int, str]] = set()
    for workload in workloads:
        path = kernel_path(workload, tiles)
        reads_blocks = _reads_blocks(workload, path, blocked_out, tiles)
        blocked_out.append(path == "direct" or (reads_blocks and path not in {"fallback", "fallback_depthwise"}))
        for position, source in enumerate(workload.sources):
            wants_blocks = blocked_out[-1] if position and workload.kind == "conv" else reads_blocks  # a fused addend
            if source == GRAPH_INPUT:
                is_blocked, elements = False, workload.input_elements // max(workload.operands, 1)
            else:
                is_blocked, elements = blocked_out[source], _padded_output(workloads[source], tiles)
            direction: Literal["reorder_in", "reorder_out"] = "reorder_in" if wants_blocks else "reorder_out"
            if is_blocked != wants_blocks and (source, direction) not in done:
                done.add((source, direction))
                yield direction, elements


def _reads_blocks(workload: Workload, path: Path, blocked_out: Sequence[bool], tiles: Tiles) -> bool:
    if path in _BLOCKED:
        return workload.kind == "conv" or _all_blocked(workload, blocked_out)
    aligned = workload.kind == "elementwise" or workload.c_in % tiles.block == 0
    return path in _FOLLOWS_INPUTS and is_channelwise(workload) and aligned and _all_blocked(workload, blocked_out)


def _all_blocked(workload: Workload, blocked_out: Sequence[bool]) -> bool:
    return bool(workload.sources) and all(source != GRAPH_INPUT and blocked_out[source] for source in workload.sources)


def _padded_output(workload: Workload, tiles: Tiles) -> int:
    return math.prod(workload.out_hw) * int(round_up(workload.c_out, tiles.block))
