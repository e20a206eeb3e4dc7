"""L2 norm of filters: the magnitude baseline of Han et al. (2015), summed over a filter."""

from __future__ import annotations

from search.criteria.base import Evidence, filter_scores, weakest_first
from search.graph.ir import Array
from search.space.groups import Group


def l2(group: Group, evidence: Evidence) -> Array:
    """Weakest filters go first, by sum of squared weights."""
    return weakest_first(filter_scores(group, evidence, 2))
