"""Files judged in ONNX Runtime itself: outputs of a file, and how far the cut file is from the masked one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime as ort

from search.graph.ir import Array
from search.graph.run.execute import batches
from search.graph.sampling import Sampling, samples_of
from search.measure.benchmark import in_type_of

ort.set_default_logger_severity(3)
MOST_AT_ONCE = 128
"""Samples of a file that takes any number."""
MOST_INPUT_ELEMENTS = 1 << 20
"""Of their inputs together: the values inside a network are up to sixty times as large, and larger batches run no faster."""


class Session:
    """An ONNX file in ONNX Runtime, run on any number of samples in batches."""

    def __init__(
        self,
        model: bytes,
        sampling: Sampling | None = None,
        *,
        threads: int = 0,
        outputs: Sequence[str] = (),
        fused: bool = True,
    ) -> None:
        """Load the file.

        Args:
            model: the file.
            sampling: how samples stand in it, by default as declared.
            threads: 0: as many as there are cores.
            outputs: values that are returned, the file's own outputs where none are named; any value of the file may be.
            fused: whether the runtime may rewrite the graph; without, other kernels sum in other orders.
        """
        model = showing(model, outputs) if outputs else model
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        if not fused:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._types = {item.name: item.type for item in self._session.get_inputs()}
        self._names = list(outputs) or [output.name for output in self._session.get_outputs()]
        self._sampling = sampling or Sampling.declared(self._session.get_inputs(), self._session.get_outputs())

    def __call__(self, feeds: Mapping[str, Array]) -> list[Array]:
        """All outputs for all samples, (N, ...); inner values that are outputs are joined along their first axis."""
        count = samples_of(feeds)
        each = sum(value[0].size for value in feeds.values())
        most = max(1, min(MOST_AT_ONCE, count, MOST_INPUT_ELEMENTS // max(1, each)))
        size = most if self._sampling.joins else self._sampling.chunk
        parts = [self._session.run(self._names, self._fed(part, size)) for part in batches(feeds, size)]
        once = dataclasses.replace(self._sampling, batch=size)
        return [
            _wide(self._joined(once, name, [part[i] for part in parts], count)) for i, name in enumerate(self._names)
        ]

    def _joined(self, once: Sampling, name: str, parts: Sequence[Array], count: int) -> Array:
        if self._sampling.native:
            return np.concatenate(parts)[:count]
        made: Array = once.samples(name, np.stack(parts), count)
        return made

    def _fed(self, feeds: Mapping[str, Array], size: int) -> dict[str, Array]:
        """Feeds in the file's own layout and types: the view of it that is searched has all floats in float32."""
        given = self._sampling.at_once(feeds, size)
        return {name: in_type_of(self._types.get(name, ""), value) for name, value in given.items()}


def _wide(value: Array) -> Array:
    return value.astype(np.float32) if value.dtype == np.float16 else value


def showing(model: bytes, names: Sequence[str]) -> bytes:
    """The file with some of its values as further outputs."""
    proto = onnx.ModelProto.FromString(model)
    known = {info.name for info in proto.graph.output}
    added = [onnx.ValueInfoProto(name=name) for name in names if name not in known]
    proto.graph.output.extend(added)
    return proto.SerializeToString() if added else model


def relative_difference(found: Sequence[Array], wanted: Sequence[Array]) -> float:
    """Largest difference over the largest magnitude of what is wanted, over all outputs; where both say the same, none.

    Values that are not finite have to be the same; numbers count as numbers, everything else differs or does not.
    """
    worst = 0.0
    for a, b in zip(found, wanted, strict=True):
        if a.shape != b.shape:
            return float("inf")
        if a.dtype.kind not in "fiub" and a.dtype.name != "bfloat16":
            worst = max(worst, float((a != b).any()))
            continue
        x, y = a.astype(np.float64), b.astype(np.float64)
        finite = np.isfinite(x) & np.isfinite(y)
        if not np.array_equal(x[~finite], y[~finite], equal_nan=True):
            return float("inf")
        scale = float(np.abs(y[finite]).max(initial=0)) or 1.0
        worst = max(worst, float(np.abs(x[finite] - y[finite]).max(initial=0)) / scale)
    return worst
