"""The gate that every written file passes: in ONNX Runtime it computes what the upload with masked weights computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
import onnxruntime as ort

from search.graph.ir import Array, Graph
from search.judge.sessions import Session, relative_difference

RUNTIME_ERRORS: tuple[type[Exception], ...] = tuple(
    getattr(ort.capi.onnxruntime_pybind11_state, name)
    for name in ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented", "RuntimeException")
)
"""What ONNX Runtime raises on a file, or on inputs, that it refuses; they have no class in common."""
TOLERANCES = {"float16": 2e-2, "bfloat16": 1e-1}
"""Relative; half types round every sum, and a cut one adds in another order. 11 and 8 bits, some dozen layers."""
TOLERANCE = 1e-4
"""Float32 sums in another order; a wrong cut is off by orders of magnitude more."""
ROUNDINGS, MOST_ROUNDING = 8.0, 1e-3
"""Where a network rounds more than most: so many times as far as the runtime's own rewrites carry it, and never further."""
PROOF_SAMPLES = 16
BATCHES = (1, 3)
STRETCHES = ((1.0, 1.5), (1.25, 0.75))
"""Free sizes, in parts of the data's: the first and every other axis; whole multiples of 32 are taken, as networks halve."""


def tolerance(graph: Graph) -> float:
    """Relative difference that rounding alone may make, for the types that the file computes in."""
    kinds = {source.dtype.name for source in graph.sources.values()} | _computed_in(graph)
    return max([TOLERANCE, *(TOLERANCES[kind] for kind in kinds & set(TOLERANCES))])


def _computed_in(graph: Graph) -> set[str]:
    """Types that a file casts to, and those of what goes in: weights may be stored wider than they are used."""
    if graph.upload is None:
        return set()
    file = onnx.ModelProto.FromString(graph.upload.data).graph
    casts = [item.i for node in file.node if node.op_type == "Cast" for item in node.attribute if item.name == "to"]
    given = [info.type.tensor_type.elem_type for info in file.input]
    return {onnx.TensorProto.DataType.Name(code).lower() for code in (*casts, *given)}


class Proof:
    """Inputs on which a file must agree with its masked twin."""

    def __init__(self, upload: bytes, graph: Graph, feeds: Mapping[str, Array]) -> None:
        """Find the sizes at which the upload runs.

        Args:
            upload: the file.
            graph: its view.
            feeds: samples of the client; some of them are taken.
        """
        self.tolerance = tolerance(graph)
        self._outputs = [info.name for info in graph.outputs]
        some = {name: value[:PROOF_SAMPLES] for name, value in feeds.items()}
        self._sampling = graph.sampling
        session = Session(upload, graph.sampling, threads=1)
        self.feeds = [some, *(more for more in _more(some, graph) if _runs(session, more))]

    def difference(self, model: bytes, masked: bytes) -> float:
        """Largest relative difference of the outputs of two files, over all inputs of the proof."""
        one, other = (Session(file, self._sampling, threads=1, outputs=self._outputs) for file in (model, masked))
        return max(relative_difference(one(feeds), other(feeds)) for feeds in self.feeds)

    def allowed(self, masked: bytes) -> float:
        """Relative difference that rounding may make in this very file: most networks round by less than `TOLERANCE`.

        Some pass what they have summed through steep functions. What the runtime's own rewrites of the masked file change, which
        add in another order as a cut does, tells which.
        """
        plain, fused = (
            Session(masked, self._sampling, threads=1, outputs=self._outputs, fused=f) for f in (False, True)
        )
        rounded = max(relative_difference(fused(feeds), plain(feeds)) for feeds in self.feeds)
        return max(self.tolerance, min(ROUNDINGS * rounded, MOST_ROUNDING))


def _runs(session: Session, feeds: Mapping[str, Array]) -> bool:
    try:
        session(feeds)
    except RUNTIME_ERRORS:
        return False
    return True


def _more(feeds: Mapping[str, Array], graph: Graph) -> Iterator[dict[str, Array]]:
    """Other numbers of samples and, where sizes are free, other and unequal sizes."""
    for batch in BATCHES:
        yield {name: value[:batch] for name, value in feeds.items()}
    named: dict[str, int] = {}
    free: dict[str, dict[int, int]] = {}
    for info in graph.given:
        for axis, size in enumerate(graph.sampling.sample_shape(info.name, info.shape), 1):
            if not isinstance(size, int):
                key = size or f"{info.name}:{axis}"
                free.setdefault(info.name, {})[axis] = named.setdefault(key, len(named))
    for shares in STRETCHES if free else ():
        yield {name: _stretched(value[:2], free.get(name, {}), shares) for name, value in feeds.items()}


def _stretched(value: Array, axes: Mapping[int, int], shares: tuple[float, float]) -> Array:
    """Samples repeated or cut along some axes; sizes of one name change alike."""
    for axis, which in axes.items():
        size = value.shape[axis]
        step = 32 if size >= 32 else 1
        wanted = max(step, round(size * shares[which % 2] / step) * step)
        value = np.take(value, np.arange(wanted) % size, axis)
    return value
