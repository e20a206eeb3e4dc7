"""LiteRT files (.tflite): float32, inputs and outputs of four axes with channels last."""

from __future__ import annotations

import numpy as np

from search.graph.ir import Array
from search.graph.onnx.traced import Traced

IMAGES = 4
"""Axes of the inputs and outputs that are NHWC in the file."""


class LiteRT:
    """A `Format`; its writer is loaded when it is first asked, since its library is an extra."""

    name = "tflite"
    suffix = ".tflite"
    module = "ai_edge_litert"
    extra = "litert"

    def write(self, network: Traced) -> bytes:
        """See `search.formats.litert.write.export_tflite`."""
        from search.formats.litert.write import export_tflite  # noqa: PLC0415

        return export_tflite(network.graph, network.shapes, network.static)

    def given(self, value: Array) -> Array:
        """(N, C, H, W) as (N, H, W, C)."""
        return np.moveaxis(value, 1, -1) if value.ndim == IMAGES else value

    def taken(self, value: Array) -> Array:
        """(N, H, W, C) as (N, C, H, W)."""
        return np.moveaxis(value, -1, 1) if value.ndim == IMAGES else value


FORMAT = LiteRT()
