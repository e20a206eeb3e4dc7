"""The quantities that the time of a kernel depends on: what a coefficient of a fitted profile multiplies.

Every rule set of `hwprofiles.kernels` has what its kernels do in common (multiplications, bytes) and a few quantities of its
own. A fused operator that the runtime runs as a kernel of its own is counted on that kernel's path.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, get_args

import numpy as np

from hwprofiles.kernels import (
    Floats,
    Ints,
    KernelRules,
    Path,
    Shape,
    Tiles,
    is_channelwise,
    is_depthwise,
    kernel_paths,
    products,
    round_up,
)
from hwprofiles.workload import Workload

Feature = Literal[
    "kernels", "launches", "macs", "edge_macs", "remainder_macs", "wide_window_macs", "strided_macs", "parallel_macs", "chain",
    "input_bytes", "output_bytes", "weight_bytes", "patch_bytes", "cold_bytes", "strided_bytes", "residual_bytes",
    "activation_bytes", "transcendentals", "broadcast_bytes", "partial_sum_bytes",
    "l2_miss_weight_bytes", "l3_miss_weight_bytes", "calls", "steps", "tiles", "rows", "window_taps", "row_taps",
    "input_reads", "tensors",
]  # fmt: skip
"""Units that a coefficient multiplies; hwprofiles/devices/README.md says what each one is."""
FEATURES: tuple[str, ...] = get_args(Feature)
Amounts = dict[tuple[str, str], Floats]
"""(path, feature) -> amount at each width."""
FREE_WHEN_FUSED = frozenset({"Relu", "Clip"})
"""Activations that every runtime here runs inside the kernel before them."""
VECTOR = 8
"""Channels that a depthwise kernel of a CPU treats together; those beyond the last whole vector go one by one."""
TRANSCENDENTAL = frozenset(
    {"Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Erf", "Exp", "Gelu", "Softplus", "Mish", "Elu"}
)
"""Activations that cost more than a comparison an element."""


@dataclasses.dataclass(frozen=True)
class _Work:
    """A kernel on one path at many widths; channels are as the kernel computes them, padded to its tiles."""

    shape: Shape
    path: Path
    tiles: Tiles
    bytes_per_element: float
    c_in: Ints
    c_out: Ints
    per_group: Ints

    @classmethod
    def of(cls, shape: Shape, path: Path, tiles: Tiles, bytes_per_element: float) -> _Work:
        c_in, c_out = _padded_widths(shape, path, tiles)
        per_group = np.ones_like(c_in) if is_depthwise(shape.workload) else c_in // shape.groups
        return cls(shape, path, tiles, bytes_per_element, c_in, c_out, per_group)

    @property
    def w(self) -> Workload:
        return self.shape.workload

    @property
    def groups(self) -> Ints:
        return self.shape.groups

    @property
    def weighted(self) -> bool:
        return self.w.kind in {"conv", "dense", "step"}

    @property
    def taps(self) -> int:
        return math.prod(self.w.kernel)

    @property
    def positions(self) -> int:
        return math.prod(self.w.out_hw) * self.w.rows * self.w.copies

    @property
    def macs_per_position(self) -> Ints:
        return self.c_out * self.per_group * self.taps

    @property
    def input_bytes(self) -> Floats:
        pixels = math.prod(self.w.in_hw) * self.w.rows * self.w.copies
        return np.float64(pixels * self.w.operands * self.bytes_per_element) * self.c_in

    @property
    def output_bytes(self) -> Floats:
        return np.float64(self.positions * self.bytes_per_element) * self.c_out

    @property
    def weight_bytes(self) -> Floats:
        return np.float64(self.bytes_per_element * self.weighted) * self.macs_per_position


def amounts(
    shape: Shape, rules: KernelRules, tiles: Tiles, bytes_per_element: float, l2_bytes: float = math.inf
) -> Amounts:
    """Every quantity of a kernel by path, each of the shape of ``shape.c_in``; 0 at widths that take another path."""
    found: Amounts = {}
    if shape.workload.kind == "recurrence":
        for times, part in products(shape):
            for key, amount in amounts(part, rules, tiles, bytes_per_element, l2_bytes).items():
                found[key] = found.get(key, 0.0) + times * amount
        return found
    for path, mask in kernel_paths(shape, rules, tiles):
        if not mask.any():
            continue
        work = _Work.of(shape, path, tiles, bytes_per_element)
        quantities = _common(work, l2_bytes) | _OWN[rules](work)
        found |= {(path, name): np.where(mask, amount, 0.0) for name, amount in quantities.items()}
    for key, amount in _fused(shape.workload, rules, _Work.of(shape, "elementwise", tiles, bytes_per_element)).items():
        found[key] = found.get(key, 0.0) + np.broadcast_to(amount, shape.c_in.shape)
    return found


def roofline_amounts(shape: Shape, tiles: Tiles, bytes_per_element: float) -> tuple[Floats, Floats]:
    """Tile-rounded multiply-accumulates, and bytes of all tensors that a kernel must read or write."""
    work = _Work.of(shape, "conv", tiles, bytes_per_element)
    residual = work.output_bytes * float(work.w.adds)
    moved = work.input_bytes + work.weight_bytes + work.output_bytes + residual
    return _macs(work), moved


def _macs(work: _Work) -> Floats:
    if work.w.kind not in {"conv", "dense", "matmul", "step"}:
        return np.zeros(work.c_in.shape)
    return np.asarray(round_up(work.positions, work.tiles.positions) * work.macs_per_position, dtype=np.float64)


def _common(work: _Work, l2_bytes: float) -> dict[str, Any]:
    """What kernels of every runtime do."""
    moved = work.input_bytes + work.output_bytes
    broadcasts = work.w.broadcasts
    return {
        "kernels": 1.0,
        "macs": _macs(work),
        "input_bytes": work.input_bytes,
        "output_bytes": work.output_bytes * float(not broadcasts),
        "weight_bytes": work.weight_bytes,
        "cold_bytes": np.maximum(0.0, moved - l2_bytes),
        "patch_bytes": work.positions * work.per_group * work.groups * work.taps * work.bytes_per_element,
        "rows": work.positions * work.w.operands,
        "broadcast_bytes": work.output_bytes * float(broadcasts),
        "tensors": work.w.operands,
    }


def _blocked(work: _Work) -> dict[str, Any]:
    """ONNX Runtime's blocked kernels: sets of positions, panels of output channels, passes over input channels."""
    w, weighted = work.w, float(work.weighted)
    panels = -(-work.c_out // (work.tiles.panel * work.groups)) * work.groups
    passes = _accumulation_passes(work)
    edges, sets = _position_sets(work)
    reads = work.positions * work.per_group * work.taps * panels
    return {
        "edge_macs": edges * work.macs_per_position * weighted,
        "calls": work.groups if work.path.startswith("fallback") else w.out_hw[0] * w.rows * panels * passes,
        "steps": sets * work.per_group * work.taps * panels,
        "input_reads": reads if work.weighted else work.positions * work.c_out * work.taps,
        "partial_sum_bytes": work.output_bytes * (passes - 1),
        "residual_bytes": work.output_bytes * float(w.adds),
    }


def _tiled(work: _Work) -> dict[str, Any]:
    """Channels-last kernels of a CPU: tiles of a product, and windows that are gathered row by row."""
    w = work.w
    tiles = -(-work.positions // work.tiles.positions) * -(-work.c_out // work.tiles.c_out)
    macs = work.positions * work.macs_per_position
    return {
        "tiles": tiles,
        "window_taps": work.positions * work.taps,
        "row_taps": w.out_hw[0] * work.taps,
        "remainder_macs": work.positions * work.taps * (work.shape.c_out % VECTOR),
        "wide_window_macs": macs * float(work.taps > 9),
        "strided_bytes": work.output_bytes * float(max(w.stride) > 1),
        "input_reads": work.positions * work.c_out * work.taps,
    }


def _parallel(work: _Work) -> dict[str, Any]:
    """A GPU: outputs are computed together, up to a number that the device decides."""
    chain = work.per_group * work.taps
    return {
        "chain": chain,
        "parallel_macs": np.maximum(work.positions * work.c_out, work.tiles.outputs) * chain,
        "strided_macs": work.positions * work.macs_per_position * float(max(work.w.stride) > 1),
        "input_reads": work.positions * work.c_out * work.taps,
    }


_OWN = {"nchwc": _blocked, "nhwc": _tiled, "gpu": _parallel}


def _fused(w: Workload, rules: KernelRules, work: _Work) -> dict[tuple[str, str], Any]:
    """Operators that the graph fuses into a kernel and the runtime runs on their own."""
    activations = [op for op in w.fused if op in TRANSCENDENTAL]
    found: dict[tuple[str, str], Any] = {
        ("elementwise", "transcendentals"): work.positions * work.c_out * float(len(activations)),
    }
    if rules == "nchwc":
        passes = 0 if work.weighted else sum(op in FREE_WHEN_FUSED for op in w.fused)
        return found | {("elementwise", "activation_bytes"): work.output_bytes * float(passes)}
    large = float(work.positions > 1)  # on one position an activation costs its launch; its bytes would tell nothing
    norms = w.adds and "BatchNormalization" in w.fused[w.fused.index("Add") :]
    return found | {
        ("network", "launches"): 1.0 + (rules == "nhwc") * (len(activations) + norms),
        ("elementwise", "activation_bytes"): work.output_bytes * large * float(len(activations)),
        ("elementwise", "output_bytes"): work.output_bytes * float(w.adds),
        ("norm", "output_bytes"): work.output_bytes * float(norms),
        ("norm", "rows"): work.positions * float(norms),
    }


def _padded_widths(shape: Shape, path: Path, tiles: Tiles) -> tuple[Ints, Ints]:
    """Input and output channels as the kernel computes them; plain NCHW and grouped kernels do not pad."""
    if path.startswith("fallback") or path == "grouped":
        return shape.c_in, shape.c_out
    if path == "depthwise" and tiles.block == 1:
        width = round_up(shape.c_in, min(tiles.c_out, VECTOR))
        return width, width
    if is_channelwise(shape.workload):
        return round_up(shape.c_in, tiles.c_out), round_up(shape.c_out, tiles.c_out)
    c_out = shape.groups * round_up(shape.c_out // shape.groups, tiles.c_out)
    if path == "direct":
        return shape.c_in, c_out
    return shape.groups * round_up(shape.c_in // shape.groups, tiles.c_in), c_out


def _accumulation_passes(work: _Work) -> Ints:
    """Passes over the output: snchwc.cpp sums 128 input channels at a time in a pointwise kernel, else one block."""
    if work.tiles.block > 1 and work.path == "pointwise":
        return np.asarray(-(-work.per_group // 128))
    if work.tiles.block > 1 and work.path in {"conv", "grouped"}:
        return np.asarray(-(-work.per_group // work.tiles.block))
    return np.ones_like(work.per_group)


def _position_sets(work: _Work) -> tuple[int, int]:
    """Output positions whose window crosses the padding, and sets of positions that one inner loop computes together.

    The blocked kernels take 6 positions of a row at once, then 3, then 1, and 1 at a time at padded edges; a pointwise
    kernel sees the whole map as one row. A set of few positions waits for the latency of the multiply-add.
    """
    w = work.w
    height, width = w.out_hw
    if work.path == "pointwise":
        return 0, _sets(height * width * w.rows)
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
