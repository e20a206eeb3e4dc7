"""Formats of runtimes, one entry each."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from search.formats.base import Format
from search.formats.litert import LiteRT
from search.formats.onnx import Onnx

FORMATS: Mapping[str, Format] = {"onnx": Onnx(), "tflite": LiteRT()}
"""By the name that a runtime has for what it loads."""


def is_installed(wanted: Format) -> bool:
    """Whether files of a format can be written here."""
    return importlib.util.find_spec(wanted.module) is not None
