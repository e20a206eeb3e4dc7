"""Files judged in ONNX Runtime itself: outputs of a file, and how far the cut file is from the masked one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnxruntime as ort

from search.graph.execute import batches
from search.graph.ir import Array

ort.set_default_logger_severity(3)
TOLERANCE = 1e-4
"""Float32 sums in another order; a wrong cut is off by orders of magnitude more."""
MOST_AT_ONCE = 128
"""Samples of a file that takes any number."""


class Session:
    """An ONNX file in ONNX Runtime, run on any number of samples in batches."""

    def __init__(self, model: bytes, *, threads: int = 0) -> None:
        """Load the file; its own batch size is used where it is fixed. ``threads`` 0: as many as there are cores."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        size = self._session.get_inputs()[0].shape[:1]
        self.fixed = bool(size) and isinstance(size[0], int)
        self.batch = size[0] if self.fixed else MOST_AT_ONCE

    def __call__(self, feeds: Mapping[str, Array]) -> list[Array]:
        """All outputs for all samples."""
        count = len(next(iter(feeds.values())))
        size = self.batch if self.fixed else min(self.batch, count)
        parts = [self._session.run(None, part) for part in batches(feeds, size)]
        return [np.concatenate([part[i] for part in parts])[:count] for i in range(len(parts[0]))]


def parity(cut: bytes, masked: bytes, feeds: Mapping[str, Array]) -> float:
    """Largest difference of the two files' outputs, over the largest finite magnitude of the masked one's.

    Infinities and NaN differ from everything but their own kind; then the difference is infinite.
    """
    return max(_difference(a, b) for a, b in zip(Session(cut)(feeds), Session(masked)(feeds), strict=True))


def _difference(cut: Array, masked: Array) -> float:
    if cut.shape != masked.shape:
        return float("inf")
    if masked.dtype.kind in "OSUT":
        return 0.0 if np.array_equal(cut, masked) else float("inf")
    found, wanted = cut.astype(np.float64), masked.astype(np.float64)
    finite = np.isfinite(wanted)
    if not np.array_equal(found[~finite], wanted[~finite], equal_nan=True) or not np.isfinite(found[finite]).all():
        return float("inf")
    if not finite.any():
        return 0.0
    scale = float(np.abs(wanted[finite]).max()) or 1.0
    return float(np.abs(found[finite] - wanted[finite]).max()) / scale
