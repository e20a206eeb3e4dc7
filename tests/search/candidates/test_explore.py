"""In which order plans become candidates."""

from __future__ import annotations

import numpy as np
import pytest

from search.candidates.explore import in_turns


@pytest.mark.parametrize("count", [0, 1, 2, 6, 7, 33])
def test_a_search_that_ends_early_leaves_no_wide_gap(count: int) -> None:
    """After k plans the longest stretch without one is no longer than twice an even share, wherever the search ends."""
    plans = [{"g": width} for width in range(count)]
    order = in_turns([plans, plans[::-1]])
    assert sorted(plan["g"] for plan in order) == list(range(count))
    alone = [plan["g"] for plan in in_turns([plans])]
    for k in range(1, count + 1):
        gaps = np.diff([-1, *sorted(alone[:k]), count]) - 1
        assert gaps.max() <= 2 * np.ceil((count - k) / (k + 1))
