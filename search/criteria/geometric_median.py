"""Filters near the geometric median of their layer, which the others can stand in for.

He et al., "Filter Pruning via Geometric Median" (2019), eq. 8.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from search.criteria.base import Evidence, filters, relative, weakest_first
from search.graph.ir import Array
from search.space.groups import Group


def geometric_median(group: Group, evidence: Evidence) -> Array:
    """Filters with the least sum of Euclidean distances to all filters of the layer go first."""
    total = np.zeros(len(group))
    for matrix in filters(group, evidence):
        total += relative(cdist(matrix, matrix).sum(1))
    return weakest_first(total)
