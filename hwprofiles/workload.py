"""A network as a device sees it: one fused kernel after another."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

Kind = Literal[
    "conv",  # any convolution: pointwise, grouped and depthwise follow from kernel and groups
    "dense",  # matrix product with a weight: fully connected, projections; `rows` rows of c_in
    "matmul",  # matrix product of two activations: `groups` products of rows x c_in by c_in x c_out
    "recurrence",  # RNN, GRU, LSTM of c_out hidden units: `rows` time steps, `groups` directions
    "step",  # one time step of a recurrence: matrix product with a weight that was read in the step before
    "elementwise",
    "pool",
    "global_pool",
    "norm",
    "softmax",
    "embedding",
    "data_movement",  # concat, slice, pad, transpose, resize
]
GRAPH_INPUT = -1


@dataclasses.dataclass(frozen=True)
class Workload:
    """One fused kernel, for one sample (batch 1) unless `rows` says otherwise.

    Spatial sizes are (height, width); a signal has height 1, of a volume depth and height are merged, and tensors without a
    spatial extent have (1, 1).
    """

    name: str
    """Name of the node that gives the kernel its weights or its shape."""
    kind: Kind
    c_in: int
    c_out: int
    in_hw: tuple[int, int] = (1, 1)
    out_hw: tuple[int, int] = (1, 1)
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    spatial_axes: int = 2
    """1 for signals, 2 for images, 3 for volumes: a runtime may have its fast kernels for images alone."""
    rows: int = 1
    """Rows of a dense or matmul kernel (tokens, say), time steps of a recurrence; 1 for convolutions."""
    gates: int = 1
    """Products that a recurrence makes for every hidden unit: 1 of an RNN, 3 of a GRU, 4 of an LSTM."""
    operands: int = 1
    """Activation tensors read, in units of the output for arithmetic: 2 for an Add of two, 1 where the other is broadcast."""
    fused: tuple[str, ...] = ()
    """Operators executed inside this kernel, in order, e.g. ("BatchNormalization", "Add", "Relu")."""
    sources: tuple[int, ...] = ()
    """Positions in the workload list of the kernels whose output this one reads; `GRAPH_INPUT` for the input."""

    @property
    def broadcasts(self) -> bool:
        """Whether an element-wise kernel reads a smaller tensor again and again, as the scaling of squeeze-and-excite does."""
        return self.kind == "elementwise" and len(self.sources) > self.operands

    @property
    def adds(self) -> bool:
        """Whether a kernel with weights adds another activation to its result."""
        return self.kind in {"conv", "dense"} and "Add" in self.fused and len(self.sources) > 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        if self.kind == "conv":
            return math.prod(self.out_hw) * self.c_out * (self.c_in // self.groups) * math.prod(self.kernel)
        if self.kind in {"dense", "step"}:
            return self.rows * self.c_in * self.c_out
        if self.kind == "matmul":
            return self.groups * self.rows * self.c_in * self.c_out
        return self.rows * self.weights

    @property
    def weights(self) -> int:
        """Weight elements read, biases left out."""
        if self.kind == "conv":
            return self.c_out * (self.c_in // self.groups) * math.prod(self.kernel)
        if self.kind == "recurrence":
            return self.groups * self.gates * self.c_out * (self.c_in + self.c_out)
        return self.c_in * self.c_out if self.kind in {"dense", "step"} else 0

    @property
    def copies(self) -> int:
        """Independent products of a matmul, directions of a recurrence."""
        return self.groups if self.kind in {"matmul", "recurrence"} else 1

    @property
    def input_elements(self) -> int:
        """Activation elements read."""
        spatial = math.prod(self.in_hw) * self.rows
        return spatial * self.c_in * self.operands * (self.groups if self.kind == "matmul" else 1)

    @property
    def output_elements(self) -> int:
        """Activation elements written."""
        return math.prod(self.out_hw) * self.rows * self.c_out * self.copies
