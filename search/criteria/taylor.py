"""First-order Taylor: Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference" (2017), eq. 8.

With a gate on each unit, (activation x gradient) summed over a feature map is the loss's derivative by that gate.
"""

from __future__ import annotations

import numpy as np

from search.criteria.base import Evidence, weakest_first
from search.graph.ir import Array
from search.space.groups import Group


def taylor(group: Group, evidence: Evidence) -> Array:
    """Units whose removal changes a sample's loss least, to first order, go first: mean of |dL/dgate|."""
    return weakest_first(np.abs(evidence.gate_gradients[group.id]).mean(0))
