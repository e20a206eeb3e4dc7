"""Sizes of activations and windows as a `Workload` has them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]


def height_width(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of an activation (N, C, ...), or of a window: a signal has height 1, other axes are merged."""
    return (math.prod(shape[2:-1]), shape[-1]) if len(shape) > 2 else (1, 1)


def window(values: Iterable[Any]) -> tuple[int, int]:
    """A kernel, stride or dilation the same way."""
    return height_width((1, 1, *map(int, values)))
