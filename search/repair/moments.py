"""Second moments of rows, and the least squares that serves every linear map."""

from __future__ import annotations

import dataclasses

import numpy as np

from search.graph.ir import Array


@dataclasses.dataclass(frozen=True)
class Moments:
    """Sums over rows: gram (groups, d, d) of centred inputs, cross (groups, d, m), means (groups, d) and (groups, m)."""

    gram: Array
    cross: Array
    mean_x: Array
    mean_y: Array
    rows: int

    @classmethod
    def of(cls, x: Array, y: Array) -> Moments:
        """Second moments of inputs (groups, R, d) and outputs (groups, R, m), per row."""
        rows = x.shape[1]
        mean_x, mean_y = x.mean(1), y.mean(1)
        x, y = x - mean_x[:, None], y - mean_y[:, None]
        if len(x) == 1:  # two-dimensional X'X is a symmetric product in BLAS: half the work
            return cls((x[0].T @ x[0])[None] / rows, (x[0].T @ y[0])[None] / rows, mean_x, mean_y, rows)
        transposed = np.swapaxes(x, 1, 2)
        return cls(transposed @ x / rows, transposed @ y / rows, mean_x, mean_y, rows)

    def pooled(self, other: Moments) -> Moments:
        """Moments of the rows of both."""
        rows = self.rows + other.rows
        mine, theirs = self.rows / rows, other.rows / rows
        apart_x, apart_y = self.mean_x - other.mean_x, self.mean_y - other.mean_y
        between = np.float32(mine * theirs)  # Chan et al. (1983): what lies between the two means comes on top
        gram = mine * self.gram + theirs * other.gram + between * apart_x[:, :, None] * apart_x[:, None, :]
        cross = mine * self.cross + theirs * other.cross + between * apart_x[:, :, None] * apart_y[:, None, :]
        mean_x, mean_y = (mine * a + theirs * b for a, b in ((self.mean_x, other.mean_x), (self.mean_y, other.mean_y)))
        return Moments(gram, cross, mean_x, mean_y, rows)

    def with_outputs(self, x: Array, y: Array) -> Moments:
        """Moments of the same inputs (groups, R, d) with other outputs (groups, R, m)."""
        mean_y = y.mean(1)
        cross = np.swapaxes(x, 1, 2) @ (y - mean_y[:, None]) / self.rows
        return dataclasses.replace(self, cross=cross, mean_y=mean_y)

    def of_inputs(self, stays: Array) -> Moments:
        """Moments of some of the inputs, a boolean vector (d,)."""
        if stays.all():
            return self
        gram = self.gram[:, stays][:, :, stays]
        return Moments(gram, self.cross[:, stays], self.mean_x[:, stays], self.mean_y, self.rows)


def ridge(moments: Moments, prior: Array, *, damping: float, intercept: bool) -> tuple[Array, Array]:
    """Least squares pulled towards ``prior``: argmin |Y - X W - b|^2 / R + lambda |W - prior|^2.

    With G = X'X/R and C = X'Y/R: W = (G + lambda I)^-1 (C + lambda prior), lambda = damping * mean diagonal of G.

    Args:
        moments: of inputs and wanted outputs.
        prior: weights (groups, d, m) to stay near where the data say nothing.
        damping: lambda in units of the mean diagonal.
        intercept: fit a bias as well (inputs and outputs are centred).

    Returns:
        Weights (groups, d, m) and biases (groups, m), float64.
    """
    gram, cross = moments.gram.astype(np.float64), moments.cross.astype(np.float64)
    if not intercept:  # moments about zero instead of about the mean
        gram = gram + moments.mean_x[:, :, None] * moments.mean_x[:, None, :]
        cross = cross + moments.mean_x[:, :, None] * moments.mean_y[:, None, :]
    size = gram.shape[1]
    weight = damping * np.trace(gram, axis1=1, axis2=2)[:, None, None] / size + 1e-12
    solution = np.linalg.solve(gram + weight * np.eye(size), cross + weight * prior)
    offset = moments.mean_y - np.einsum("gd,gdm->gm", moments.mean_x, solution)
    return solution, offset if intercept else np.zeros_like(offset)
