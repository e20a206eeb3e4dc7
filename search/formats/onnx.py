"""ONNX itself: the file as it is."""

from __future__ import annotations

from search.graph.ir import Array
from search.graph.onnx.traced import Traced


class Onnx:
    """A `Format`."""

    name = "onnx"
    suffix = ".onnx"
    module = "onnx"
    extra = ""

    def write(self, network: Traced) -> bytes:
        """The file that was traced."""
        return network.model

    def given(self, value: Array) -> Array:
        """As it is."""
        return value

    def taken(self, value: Array) -> Array:
        """As it is."""
        return value


FORMAT = Onnx()
