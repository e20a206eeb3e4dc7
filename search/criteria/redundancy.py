"""Redundant filters: Ayinde & Zurada, "Building Efficient ConvNets using Redundant Feature Pruning" (2018).

They cluster filters by cosine similarity and keep one of each cluster. As an order for every width: time and again the
weaker filter of the most similar pair goes.
"""

from __future__ import annotations

import numpy as np

from search.criteria.base import Evidence, filter_scores, filters
from search.graph.ir import Array
from search.space.groups import Group


def redundancy(group: Group, evidence: Evidence) -> Array:
    """Greedy order: of the two most similar units left (mean cosine over producers), the one of lower norm goes."""
    similarity = np.zeros((len(group), len(group)))
    for matrix in filters(group, evidence):
        unit = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-30)
        similarity += unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    strength = filter_scores(group, evidence, 2)
    order = []
    for _ in range(len(group) - 1):
        pair = np.unravel_index(int(similarity.argmax()), similarity.shape)
        weaker = min((int(i) for i in pair), key=lambda i: (strength[i], i))
        similarity[weaker, :] = similarity[:, weaker] = -np.inf
        order.append(weaker)
    return np.array([*order, *np.setdiff1d(np.arange(len(group)), order)])
