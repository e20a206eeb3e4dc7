"""Random order: the control that every other criterion must beat."""

from __future__ import annotations

from search.criteria.base import Evidence
from search.graph.ir import Array
from search.space.groups import Group


def random(group: Group, evidence: Evidence) -> Array:
    """A shuffle that depends on the seed and the group's name only."""
    return evidence.rng(group).permutation(len(group))
