"""L1 norm of filters: Li et al., "Pruning Filters for Efficient ConvNets" (2017)."""

from __future__ import annotations

from search.criteria.base import Evidence, filter_scores, weakest_first
from search.graph.ir import Array
from search.space.groups import Group


def l1(group: Group, evidence: Evidence) -> Array:
    """Weakest filters go first, by sum of absolute weights."""
    return weakest_first(filter_scores(group, evidence, 1))
