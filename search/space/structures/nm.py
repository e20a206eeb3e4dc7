"""N:M sparsity: N of every M neighbouring inputs stay, as sparse tensor cores want it (2:4)."""

from __future__ import annotations

import itertools

import numpy as np

from search.graph.ir import Array
from search.space.structures.sparse import Sparse, spans_of, sweep


def nm(weight: Array, hessian: Array, n: int, m: int) -> Sparse:
    """At most ``n`` weights of every ``m`` in a row stay; a last group of fewer than ``m`` columns stays whole.

    Every pattern of a group is tried: cutting the set S costs w_S (A_SS)^-1 w_S' with A = U'U over the group, which is
    exact for the columns that are still to come.

    Args:
        weight: (outputs, inputs); see `along_input_channels` for convolutions.
        hessian: (inputs, inputs), positive definite.
        n: weights that stay.
        m: neighbours among which they are chosen.

    Raises:
        ValueError: not 0 < n < m.

    Example:
        >>> nm(np.array([[1.0, 4.0, 2.0, 3.0]]), np.eye(4), 2, 4).weight.tolist()
        [[0.0, 4.0, 0.0, 3.0]]
    """
    if not 0 < n < m:
        raise ValueError(f"{n}:{m} sparsity: n must be at least 1 and below m")
    cuts = [list(cut) for cut in itertools.combinations(range(m), m - n)]

    def choose(group: Array, upper: Array) -> Array:
        mask = np.ones(group.shape, bool)
        if group.shape[1] == m:
            inverse = upper.T @ upper
            costs = [_cost(group[:, cut], inverse[np.ix_(cut, cut)]) for cut in cuts]
            np.put_along_axis(mask, np.array(cuts)[np.argmin(costs, 0)], values=False, axis=1)
        return mask

    return sweep(weight, hessian, spans_of(weight.shape[1], m), choose)


def _cost(weight: Array, inverse: Array) -> Array:
    return np.asarray((weight * np.linalg.solve(inverse, weight.T).T).sum(1))


def along_input_channels(c_in: int, taps: int) -> Array:
    """Order of a convolution's columns (c_in, taps) in which neighbours are input channels of one tap.

    Example:
        >>> along_input_channels(3, 2).tolist()
        [0, 2, 4, 1, 3, 5]
    """
    return np.arange(c_in * taps).reshape(c_in, taps).T.reshape(-1)
