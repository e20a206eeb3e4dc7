"""How large a network may be, in Python integers, before anything is allocated."""

from __future__ import annotations

import math
from collections.abc import Sequence

from search.wire.errors import ResourceLimit

MAX_NODES = 100_000
MAX_CONSTANT_ELEMENTS = 1 << 24
"""Of one computed constant, above what it is computed from: 64 MiB in float32."""
MAX_CONSTANTS_ELEMENTS = 1 << 28
"""Of all that operators without any input from outside make: 1 GiB in float32."""
SMALL_ELEMENTS = 1024
"""Of a constant that may name sizes: far more axes than a tensor has."""
MAX_VALUE_ELEMENTS = 1 << 30
"""Of one activation at batch 2 or 3."""
MAX_TOTAL_ELEMENTS = 1 << 34
"""Of all activations together."""


def check_total(shapes: Sequence[tuple[int, ...]]) -> None:
    """Refuse a graph whose activations together are too large.

    Raises:
        ResourceLimit: with the count and the limit.
    """
    total = sum(math.prod(shape) for shape in shapes)
    if total > MAX_TOTAL_ELEMENTS:
        raise ResourceLimit(
            f"the activations have {total} elements; {MAX_TOTAL_ELEMENTS} are allowed; export the model with smaller inputs",
            found=min(total, 2**63 - 1),
            allowed=MAX_TOTAL_ELEMENTS,
        )
