"""What an allocator works on and gives: options of every group, priced by the whole network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from search.graph.ir import Array

Widths = dict[str, int]
"""Group id to units that stay."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """Options and their costs, for one target."""

    options: Mapping[str, Sequence[int]]
    """Group id to widths on the target's grid, widest first."""
    errors: Mapping[str, Array]
    """Group id to the error of every option, in the same order."""
    latency_s: Callable[[Widths], float]
    """Predicted latency of the whole network."""
    change_s: Callable[[str, Widths], Array]
    """Latency of every option of a group with the other groups as given, minus that of the current option."""


Allocator = Callable[[Problem, Sequence[float]], list[Widths]]
"""(problem, latency budgets in seconds) to the widths for each budget; budgets out of reach give the fastest network."""
