"""What every format says of itself. To add one: its file or folder, with a `FORMAT` in it, and its test."""

from __future__ import annotations

from typing import Protocol

from search.graph.ir import Array
from search.graph.onnx.traced import Traced


class Format(Protocol):
    """A form in which a runtime takes a network."""

    name: str
    """By which a runtime asks for it."""
    suffix: str
    """Of its files, with the dot."""
    module: str
    """What has to be installed for writing it."""
    extra: str
    """Of this project, that installs it; empty: it is always there."""

    def write(self, network: Traced) -> bytes:
        """The file of a network.

        Raises:
            UnsupportedOperator: the format has no such operator, or no such use of it; names the node.
        """

    def given(self, value: Array) -> Array:
        """An input of the ONNX file as this format's file takes it."""

    def taken(self, value: Array) -> Array:
        """An output of this format's file as the ONNX file gives it."""
