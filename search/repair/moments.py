"""Second moments of rows, and the least squares that serves every linear map."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import linalg

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

    @classmethod
    def joined(cls, parts: Sequence[Moments]) -> Moments:
        """Of the rows of several parts: Chan, Golub & LeVeque, "Updating formulae", 1979, eq. 2.1."""
        first, *others = parts
        if not others:
            return first
        rows = sum(part.rows for part in parts)
        shares = [part.rows / rows for part in parts]

        def mean(of: Callable[[Moments], Array]) -> Array:
            total: Array = sum(share * of(part) for share, part in zip(shares, parts, strict=True))  # type: ignore[assignment]
            return total

        mean_x, mean_y = mean(lambda part: part.mean_x), mean(lambda part: part.mean_y)
        away = np.sqrt(shares)[:, None, None]
        x = np.stack([part.mean_x - mean_x for part in parts]) * away  # (parts, groups, d)
        y = np.stack([part.mean_y - mean_y for part in parts]) * away
        gram = mean(lambda part: part.gram) + np.einsum("pgd,pge->gde", x, x)
        cross = mean(lambda part: part.cross) + np.einsum("pgd,pgm->gdm", x, y)
        kind = first.gram.dtype
        return cls(gram.astype(kind), cross.astype(kind), mean_x.astype(kind), mean_y.astype(kind), rows)

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


class Equations:
    """Least squares pulled towards a prior, its matrix factorised once for any outputs.

    argmin |Y - X W - b|^2 / R + lambda |W - prior|^2. With G = X'X/R and C = X'Y/R:
    W = (G + lambda I)^-1 (C + lambda prior), lambda = damping * mean diagonal of G.
    """

    def __init__(self, moments: Moments, *, damping: float, intercept: bool) -> None:
        """Factorise.

        Args:
            moments: of the inputs.
            damping: lambda in units of the mean diagonal.
            intercept: fit a bias as well (inputs and outputs are centred).
        """
        self.intercept = intercept
        matrix = moments.gram.astype(np.float64)
        if not intercept:  # moments about zero instead of about the mean
            matrix += moments.mean_x[:, :, None] * moments.mean_x[:, None, :]
        diagonal = np.einsum("gdd->gd", matrix)
        self.weight = damping * diagonal.sum(1)[:, None, None] / matrix.shape[1] + 1e-12
        diagonal += self.weight[:, 0]
        self.matrix: Array | None = matrix
        self.factor: Any = None
        if len(matrix) == 1:
            with contextlib.suppress(np.linalg.LinAlgError):  # rounding has made it indefinite
                self.factor = linalg.cho_factor(matrix[0], lower=True, check_finite=False)
                self.matrix = None

    def solve(self, moments: Moments, prior: Array) -> tuple[Array, Array]:
        """Weights (groups, d, m) and biases (groups, m), float64.

        Args:
            moments: of the same inputs and of the outputs that are wanted.
            prior: weights (groups, d, m) to stay near where the data say nothing.
        """
        wanted = moments.cross + self.weight * prior
        if not self.intercept:
            wanted += moments.mean_x[:, :, None].astype(np.float64) * moments.mean_y[:, None, :]
        if self.matrix is None:
            solution = linalg.cho_solve(self.factor, wanted[0], check_finite=False)[None]
        else:
            solution = np.linalg.solve(self.matrix, wanted)
        offset = moments.mean_y - np.einsum("gd,gdm->gm", moments.mean_x, solution)
        return solution, offset if self.intercept else np.zeros_like(offset)


def ridge(moments: Moments, prior: Array, *, damping: float, intercept: bool) -> tuple[Array, Array]:
    """Weights and biases of one set of outputs, see `Equations`."""
    return Equations(moments, damping=damping, intercept=intercept).solve(moments, prior)
