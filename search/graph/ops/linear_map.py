"""A weighted operator as a plain linear map, rows (R, d) to rows (R, m), so that one least squares serves them all."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from search.graph.ir import Array, Node


@dataclasses.dataclass(frozen=True)
class Linear:
    """An operator whose weight is an initializer, here a matrix (d, m) that is applied along the last axis.

    ``groups`` independent maps of ``d`` inputs each: 1 for dense layers, the channels for depthwise kernels and norms.
    """

    node: Node
    weight: str
    bias: str
    groups: int
    output: str
    """The value that the map gives: of a matrix product whose bias is added by the next node, that node's output."""
    spatial: ClassVar[bool] = False
    """Channels stand on axis 1 and positions behind it; otherwise channels come last."""

    def matrix(self, params: Mapping[str, Array]) -> Array:
        """Weights as (groups, d, m)."""
        weight = params[self.weight]
        return (weight.T if self.node.get("transB", 0) else weight)[None]

    def write(self, matrix: Array, offset: Array, params: dict[str, Array]) -> None:
        """Store weights (groups, d, m) and biases (groups, m) in the operator's own layout."""
        self.store(matrix[0].T if self.node.get("transB", 0) else matrix[0], offset, params)

    def store(self, weight: Array, offset: Array, params: dict[str, Array]) -> None:
        """Store weights in the operator's own layout, and biases (groups, m)."""
        params[self.weight] = np.ascontiguousarray(weight, np.float32)
        if self.bias:
            params[self.bias] = offset.reshape(params[self.bias].shape).astype(np.float32)

    @property
    def axis(self) -> int:
        """Of the output's channels."""
        return 1 if self.spatial else -1

    def positions(self, out_shape: tuple[int, ...], samples: int, most_rows: int, rng: np.random.Generator) -> Array:
        """Output positions to look at, the same for every sample, so that about ``most_rows`` rows result."""
        places = int(np.prod(out_shape[2:])) if self.spatial else int(np.prod(out_shape[1:-1]))
        count = min(places, max(1, most_rows // samples))
        return np.sort(rng.permutation(places)[:count])

    def input_rows(
        self,
        x: Array,
        params: Mapping[str, Array],  # noqa: ARG002  what a kernel covers depends on its size
        positions: Array,
        out_size: tuple[int, ...],  # noqa: ARG002
    ) -> Array:
        """Inputs of the map at some output positions: (groups, R, d), R = samples * positions."""
        return x.reshape(x.shape[0], -1, x.shape[-1])[:, positions].reshape(1, -1, x.shape[-1])

    def output_rows(self, y: Array, positions: Array) -> Array:
        """Outputs at the same positions: (groups, R, m)."""
        if not self.spatial:
            return y.reshape(y.shape[0], -1, y.shape[-1])[:, positions].reshape(1, -1, y.shape[-1])
        flat = y.reshape(*y.shape[:2], -1)[:, :, positions]  # (N, M, P)
        rows = flat.transpose(0, 2, 1).reshape(-1, self.groups, y.shape[1] // self.groups)
        return np.ascontiguousarray(rows.transpose(1, 0, 2))
