"""Zeros in a weight by their pattern: what an option of a layer names, and how the zeros are chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from search.graph.ir import Array
from search.space.structures.block import block
from search.space.structures.nm import along_input_channels, nm
from search.space.structures.sparse import Sparse, refit
from search.space.structures.unstructured import unstructured

Pattern = Literal["unstructured", "nm", "block"]
SHARES: Mapping[Pattern, tuple[float, ...]] = {"nm": (0.5,), "block": (0.5, 0.75)}
"""Shares of zeros that are an option of any layer whose target executes the pattern: 2:4, and tiles of 1 x 4."""


@dataclasses.dataclass(frozen=True)
class Zeros:
    """Zeros of one weight."""

    pattern: Pattern
    share: float


_CHOOSE: Mapping[Pattern, Callable[[Array, Array, float], Sparse]] = {
    "unstructured": unstructured,
    "nm": lambda weight, hessian, share: nm(weight, hessian, round(4 * (1 - share)), 4),
    "block": block,
}


def zeros_among(weight: Array, hessian: Array, zeros: Zeros, outputs: Array, columns: Array, taps: int) -> Array:
    """A weight with zeros among the outputs that stay, and the best values beside them; the other outputs are zero.

    Args:
        weight: (outputs, inputs), best for ``hessian`` without zeros.
        hessian: (inputs, inputs), positive definite.
        zeros: pattern, and share of zeros among what stays.
        outputs: (outputs,), True stays.
        columns: (inputs,) which of the layer's columns (channels x taps) the inputs are.
        taps: positions of a kernel; neighbours of a pattern are input channels of one tap.
    """
    order = np.arange(len(columns))
    if zeros.pattern != "unstructured":
        place = np.argsort(along_input_channels(int(columns.max()) // taps + 1, taps))
        order = np.argsort(place[columns])
    part, moments = weight[np.ix_(outputs, order)], hessian[np.ix_(order, order)]
    sparse = np.zeros(weight.shape)
    sparse[np.ix_(outputs, order)] = refit(
        part, moments, _CHOOSE[zeros.pattern](part, moments, zeros.share).mask
    ).weight
    return sparse
