"""Fisher pruning: second-order saliency with the Fisher information for the Hessian.

Theis et al., "Faster gaze prediction with dense networks and Fisher pruning" (2018), eq. 9, after Optimal Brain Damage
(LeCun et al., 1990): cutting a unit costs about sum_n (dL_n/dgate)^2 / 2N.
"""

from __future__ import annotations

from search.criteria.base import Evidence, weakest_first
from search.graph.ir import Array
from search.space.groups import Group


def fisher(group: Group, evidence: Evidence) -> Array:
    """Units with the least mean squared derivative by their gate go first."""
    return weakest_first((evidence.gate_gradients[group.id] ** 2).mean(0) / 2)
