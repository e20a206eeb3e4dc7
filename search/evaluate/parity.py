"""Files judged in ONNX Runtime itself: outputs of a file, and how far the cut file is from the masked one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import onnxruntime as ort

from search.graph.execute import batches
from search.graph.ir import Array
from search.graph.sampling import Sampling, samples_of

ort.set_default_logger_severity(3)
TOLERANCE = 1e-4
"""Float32 sums in another order; a wrong cut is off by orders of magnitude more."""
MOST_AT_ONCE = 128
"""Samples of a file that takes any number."""
MOST_INPUT_ELEMENTS = 1 << 23
"""Of their inputs together; the values inside a network are some twenty times as large."""


class Session:
    """An ONNX file in ONNX Runtime, run on any number of samples in batches."""

    def __init__(self, model: bytes, sampling: Sampling | None = None, *, threads: int = 0) -> None:
        """Load the file. ``sampling``: how samples stand in it, by default as declared; ``threads`` 0: as many as cores."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]
        self._sampling = sampling or Sampling.declared(self._session.get_inputs(), self._session.get_outputs())

    def __call__(self, feeds: Mapping[str, Array]) -> list[Array]:
        """All outputs for all samples, (N, ...); inner values that are outputs are joined along their first axis."""
        count = samples_of(feeds)
        each = sum(value[0].size for value in feeds.values())
        most = max(1, min(MOST_AT_ONCE, count, MOST_INPUT_ELEMENTS // max(1, each)))
        size = most if self._sampling.joins else self._sampling.chunk
        parts = [self._session.run(None, self._sampling.at_once(part, size)) for part in batches(feeds, size)]
        if self._sampling.native:
            return [np.concatenate([part[i] for part in parts])[:count] for i in range(len(self._names))]
        once = dataclasses.replace(self._sampling, batch=size)
        return [once.samples(name, np.stack([part[i] for part in parts]), count) for i, name in enumerate(self._names)]


def parity(cut: bytes, masked: bytes, feeds: Mapping[str, Array], sampling: Sampling) -> float:
    """Largest difference of the two files' outputs, over the largest magnitude of the masked one's."""
    worst = 0.0
    for a, b in zip(Session(cut, sampling)(feeds), Session(masked, sampling)(feeds), strict=True):
        scale = float(np.abs(b).max()) or 1.0
        worst = max(worst, float(np.abs(a.astype(np.float64) - b).max()) / scale)
    return worst
