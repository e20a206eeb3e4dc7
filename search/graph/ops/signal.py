"""Spectra and the windows before them."""

from __future__ import annotations

from search.graph.ops import elements, lower_signal
from search.graph.ops.body import by_body
from search.graph.ops.op import Op, constant


def _window() -> Op:
    return constant(by_body, 0, by_opset=True, elements=elements.named_by(0))


OPS: dict[str, Op] = {
    "DFT": Op(lower_signal.dft, static=(1, 2), by_opset=True, elements=elements.no_more, kind="elementwise"),
    "STFT": Op(lower_signal.stft, static=(1, 3), elements=elements.no_more, kind="elementwise"),
    "HannWindow": _window(),
    "HammingWindow": _window(),
    "BlackmanWindow": _window(),
}
