"""L1 norm of filters: Li et al., "Pruning Filters for Efficient ConvNets" (2017)."""

from __future__ import annotations

import numpy as np

from search.criteria.base import Evidence, filter_scores
from search.graph.ir import Array
from search.prune.groups import Group


def l1(group: Group, evidence: Evidence) -> Array:
    """Weakest filters go first, by sum of absolute weights."""
    return np.argsort(filter_scores(group, evidence, 1), kind="stable")
