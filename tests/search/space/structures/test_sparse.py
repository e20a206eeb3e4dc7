"""Sparse weights against exact OBS, brute force over masks, and row-by-row least squares."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.graph.ir import Array
from search.space.structures.block import block
from search.space.structures.nm import along_input_channels, nm
from search.space.structures.sparse import Sparse, damped, output_error, refit, spans_of, sweep
from search.space.structures.unstructured import unstructured

Seeds = st.integers(0, 2**32 - 1)


def layer(rows: int, columns: int, *, seed: int = 0, samples: int = 64) -> tuple[Array, Array]:
    """A random weight and the damped second moments of correlated inputs."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, columns)) @ (np.eye(columns) + 0.5 * rng.normal(size=(columns, columns)))
    return rng.normal(size=(rows, columns)), damped(x.T @ x / samples, 1e-2)


def exact_obs(weight: Array, hessian: Array, cut: int) -> Array:
    """One column cut by the textbook: W - w_q / (H^-1)_qq (H^-1)_q,: (Hassibi & Stork 1993, eq. 5)."""
    inverse = np.linalg.inv(hessian)
    return weight - weight[:, cut : cut + 1] / inverse[cut, cut] * inverse[cut]


def least_loss(weight: Array, hessian: Array, mask: Array) -> float:
    """Error of the best weights on a mask, by least squares on a square root of the Hessian."""
    root = np.linalg.cholesky(hessian).T
    best = np.zeros_like(weight)
    for row, keep in enumerate(mask):
        best[row, keep] = np.linalg.lstsq(root[:, keep], root @ weight[row], rcond=None)[0]
    return output_error(weight, best, hessian)


def test_cutting_the_first_column_is_exact_obs() -> None:
    """With all other columns still to come the sweep's update is the textbook's."""
    weight, hessian = layer(3, 6)
    mask = np.ones(6, bool)
    mask[0] = False
    swept = sweep(weight, hessian, [slice(0, 6)], lambda span, _: np.broadcast_to(mask, span.shape))
    assert np.allclose(swept.weight, exact_obs(weight, hessian, 0))


def test_cutting_columns_in_order_is_exact_obs_each_time() -> None:
    """Leading columns cut one after another, in several spans, give the best weights on what is left."""
    weight, hessian = layer(4, 7)
    swept = sweep(weight, hessian, spans_of(7, 2), lambda span, upper: np.zeros_like(span, bool) | (len(upper) == 1))
    assert swept.mask.tolist() == [[False] * 6 + [True]] * 4
    assert np.isclose(swept.error, least_loss(weight, hessian, swept.mask))
    assert np.allclose(swept.weight, refit(weight, hessian, swept.mask).weight)


@settings(max_examples=40, deadline=None)
@given(Seeds, st.sampled_from([0.25, 0.5, 0.75]))
def test_refit_is_row_by_row_least_squares(seed: int, share: float) -> None:
    """The refit on any mask has the error of numpy's least squares."""
    weight, hessian = layer(3, 6, seed=seed)
    mask = np.random.default_rng(seed).random(weight.shape) >= share
    assert np.isclose(refit(weight, hessian, mask).error, least_loss(weight, hessian, mask))


@settings(max_examples=40, deadline=None)
@given(Seeds)
def test_two_of_four_is_the_best_pattern_of_one_group(seed: int) -> None:
    """With one group the pattern of every row is the one of least loss over all six, by brute force."""
    weight, hessian = layer(5, 4, seed=seed)
    found = nm(weight, hessian, 2, 4).mask
    for row in range(5):
        patterns = [np.isin(range(4), kept) for kept in itertools.combinations(range(4), 2)]
        losses = [least_loss(weight[row : row + 1], hessian, pattern[None]) for pattern in patterns]
        assert found[row].tolist() == patterns[int(np.argmin(losses))].tolist()


@settings(max_examples=30, deadline=None)
@given(Seeds)
def test_no_mask_beats_brute_force(seed: int) -> None:
    """One row of six weights, three of them cut: not below the best of all twenty masks; refitting the mask never hurts."""
    weight, hessian = layer(1, 6, seed=seed)
    found = unstructured(weight, hessian, 0.5)
    polished = refit(weight, hessian, found.mask)
    best = min(
        least_loss(weight, hessian, np.isin(range(6), kept)[None]) for kept in itertools.combinations(range(6), 3)
    )
    assert best - 1e-12 <= polished.error <= found.error + 1e-12


def test_the_sweep_beats_magnitude_and_refitted_magnitude() -> None:
    """On average over layers of correlated inputs the sweep loses less than magnitude, and its mask is the better one."""
    ours, plain, magnitude = [], [], []
    for seed in range(20):
        weight, hessian = layer(16, 32, seed=seed)
        found = unstructured(weight, hessian, 0.6)
        mask = np.abs(weight) > np.quantile(np.abs(weight), 0.6)
        ours.append([found.error, refit(weight, hessian, found.mask).error])
        plain.append(output_error(weight, weight * mask, hessian))
        magnitude.append(refit(weight, hessian, mask).error)
    swept, refitted = np.mean(ours, 0)
    assert refitted < swept < np.mean(plain)
    assert refitted < np.mean(magnitude)


@pytest.mark.parametrize(
    "sparsify",
    [
        lambda w, h: unstructured(w, h, 0.7),
        lambda w, h: nm(w, h, 2, 4),
        lambda w, h: nm(w, h, 1, 4),
        lambda w, h: block(w, h, 0.6, (1, 4)),
        lambda w, h: block(w, h, 0.5, (4, 2)),
    ],
    ids=["unstructured", "2:4", "1:4", "1x4", "4x2"],
)
def test_zeros_are_exact_and_the_error_is_what_it_says(sparsify: Callable[[Array, Array], Sparse]) -> None:
    """Zeros stand exactly where the mask says, and the stated error is that of outputs on samples with these moments."""
    weight, hessian = layer(10, 100, samples=200)
    found = sparsify(weight, hessian)
    assert ((found.weight != 0) == found.mask).all()
    samples = np.linalg.cholesky(hessian).T  # rows whose second moments are the Hessian
    change, outputs = samples @ (found.weight - weight).T, samples @ weight.T
    assert np.isclose(found.error, (change**2).sum() / (outputs**2).sum())


@settings(max_examples=40, deadline=None)
@given(Seeds, st.floats(0, 1), st.integers(1, 12), st.integers(1, 100))
def test_unstructured_has_the_sparsity_asked_for(seed: int, share: float, rows: int, columns: int) -> None:
    """The number of zeros is the nearest to the share."""
    weight, hessian = layer(rows, columns, seed=seed)
    assert (~unstructured(weight, hessian, share).mask).sum() == round(share * weight.size)


@settings(max_examples=40, deadline=None)
@given(Seeds, st.sampled_from([(2, 4), (1, 4), (4, 8)]), st.integers(1, 6), st.integers(1, 40))
def test_nm_holds_in_every_group(seed: int, pattern: tuple[int, int], rows: int, columns: int) -> None:
    """Exactly n of every m stay; a last incomplete group stays whole."""
    n, m = pattern
    weight, hessian = layer(rows, columns, seed=seed)
    mask = nm(weight, hessian, n, m).mask
    whole = columns // m * m
    assert (mask[:, :whole].reshape(rows, -1, m).sum(2) == n).all()
    assert mask[:, whole:].all()


@settings(max_examples=40, deadline=None)
@given(
    Seeds, st.floats(0, 1), st.sampled_from([(1, 4), (4, 1), (2, 8), (8, 16)]), st.integers(1, 20), st.integers(1, 300)
)
def test_blocks_go_whole_and_as_many_as_asked(
    seed: int, share: float, shape: tuple[int, int], rows: int, columns: int
) -> None:
    """Every tile is all zero or all kept; the number of zero tiles is the nearest to the share."""
    weight, hessian = layer(rows, columns, seed=seed)
    mask = block(weight, hessian, share, shape).mask
    tiles = [
        mask[top : top + shape[0], left : left + shape[1]]
        for top in range(0, rows, shape[0])
        for left in range(0, columns, shape[1])
    ]
    assert all(tile.all() or not tile.any() for tile in tiles)
    assert sum(not tile.any() for tile in tiles) == round(share * len(tiles))


def test_a_single_tile_costs_what_exact_obs_says() -> None:
    """Of two tiles the one of almost no weight goes, at the exact cost w_S ((H^-1)_SS)^-1 w_S'."""
    weight, hessian = layer(4, 8, seed=5)
    weight[:, :4] *= 1e-3
    small, inverse = weight[:, :4], np.linalg.inv(hessian)[:4, :4]
    found = block(weight, hessian, 0.5, (4, 4))
    assert found.mask.tolist() == [[False] * 4 + [True] * 4] * 4
    loss = (small * np.linalg.solve(inverse, small.T).T).sum()
    assert np.isclose(found.error, loss / ((weight @ hessian) * weight).sum())


def test_a_convolution_is_cut_along_its_input_channels() -> None:
    """In the order given, every four neighbours are channels of one tap."""
    order = along_input_channels(8, 9)
    channels, taps = order // 9, order % 9
    for group in range(0, 72, 4):
        assert len(set(taps[group : group + 4].tolist())) == 1
        assert channels[group : group + 4].tolist() == list(range(channels[group], channels[group] + 4))


def test_patterns_that_are_none_are_refused() -> None:
    """4:4 keeps everything, 0:4 nothing: neither is a pattern."""
    weight, hessian = layer(2, 4)
    for n, m in ((4, 4), (0, 4)):
        with pytest.raises(ValueError, match="n must be at least 1 and below m"):
            nm(weight, hessian, n, m)
