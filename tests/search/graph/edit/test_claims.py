"""New numbers find their way back to the tensors that the old ones came from: against formulas, and against numpy."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from search.graph.edit.claims import claims, unfolded
from search.graph.ir import Node
from search.graph.run.execute import apply_node
from search.graph.sources import (
    Dequantised,
    Entry,
    Moved,
    Norm,
    Source,
    Stored,
    Tensor,
    Unclaimable,
    element_ids,
)

Array = np.ndarray[Any, Any]
RANDOM = np.random.default_rng(0)
EPSILON = 1e-3


def _stored(name: str, value: Any) -> Stored:
    return Stored(Tensor(name), np.asarray(value))


def _moved(node: Node, *operands: Source | Array) -> Moved:
    sources = tuple(None if isinstance(operand, np.ndarray) else operand for operand in operands)
    values = tuple(o if isinstance(o, np.ndarray) else o.value for o in operands if isinstance(o, np.ndarray | Stored))
    return Moved(node, sources, values, 0, np.dtype(np.float32), lambda v: apply_node(node, v, 17))


def _norm(scale: Array, *, bias: bool) -> tuple[Norm, dict[str, Array]]:
    """A norm with positive variances, behind a weight (3, 2)."""
    held = {
        "w": RANDOM.standard_normal((3, 2)), "b": RANDOM.standard_normal(3), "scale": scale,
        "offset": RANDOM.standard_normal(3), "mean": RANDOM.standard_normal(3), "variance": RANDOM.uniform(0.5, 2, 3),
    }  # fmt: skip
    held = {name: value.astype(np.float32) for name, value in held.items()}
    pairs = {name: (value, _stored(name, value)) for name, value in held.items()}
    vectors = tuple(pairs[name] for name in ("scale", "offset", "mean", "variance"))
    return Norm(pairs["w"], pairs["b"] if bias else None, vectors, EPSILON, 0, 0, 1), held


def _folded(held: dict[str, Array], *, bias: bool) -> tuple[Array, Array]:
    """What weight and norm compute together, in float64."""
    wide = {name: value.astype(np.float64) for name, value in held.items()}
    gain = wide["scale"] / np.sqrt(wide["variance"] + EPSILON)
    own = wide["b"] if bias else 0.0
    return wide["w"] * gain[:, None], (own - wide["mean"]) * gain + wide["offset"]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gain", [1.3, -0.7, 0.0])
def test_a_folded_norm_gives_back_what_it_took_in(gain: float, *, bias: bool) -> None:
    """Weight and bias of both together are anything that was asked for, also where the norm had switched a channel off."""
    scale = np.array([0.9, gain, 1.1])
    norm, held = _norm(scale, bias=bias)
    weight, offset = (value.astype(np.float32) for value in _folded(held, bias=bias))
    stays = (np.array([False, True, True]), np.array([True, True]))
    wanted = (weight[1:] + np.float32(0.5), offset[1:] - np.float32(0.25))
    found = unfolded(
        norm,
        Entry(_stored("w'", weight), weight, wanted[0], stays, ((0, 1),)),
        Entry(_stored("b'", offset), offset, wanted[1], stays[:1], ((0, 2),)),
    )
    new = {entry.source.tensor.name: entry.new for entry in found if isinstance(entry.source, Stored)}
    assert new["w"].dtype == np.float32
    for got, expected in zip(_folded(new, bias=bias), wanted, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    if gain:
        assert np.array_equal(new["mean"], held["mean"][1:])
        assert np.array_equal(new["variance"], held["variance"][1:])


def test_a_folded_norm_that_is_only_cut_keeps_the_bits_of_the_file() -> None:
    """Every vector is a part of the old one, a gain of 0 included."""
    norm, held = _norm(np.array([0.9, 0.0, 1.1]), bias=True)
    weight, offset = (value.astype(np.float32) for value in _folded(held, bias=True))
    keep = np.array([False, True, True])
    found = unfolded(
        norm,
        Entry(_stored("w'", weight), weight, weight[keep], (keep, np.array([True, True])), ((0, 1),)),
        Entry(_stored("b'", offset), offset, offset[keep], (keep,), ((0, 2),)),
    )
    for entry in found:
        assert isinstance(entry.source, Stored)
        assert entry.new.tobytes() == held[entry.source.tensor.name][keep].tobytes()


def test_elements_are_followed_through_movements() -> None:
    """Transpose, Concat and Slice of two tensors: every element stands where numpy puts it."""
    a, b = _stored("a", RANDOM.random((2, 3))), _stored("b", RANDOM.random((1, 2)))
    turned = _moved(Node("t", "Transpose", ("a",), ("t",), {"perm": [1, 0]}), a)
    node = Node("c", "Concat", ("t", "b"), ("c",), {"axis": 0})
    values, kind = (a.value.T, b.value), np.dtype(np.float64)
    joined = Moved(node, (turned, b), values, 0, kind, lambda v: apply_node(node, v, 17))
    ids, tensors = element_ids(joined)
    everything = np.concatenate([leaf.value.reshape(-1) for leaf in tensors])
    assert np.array_equal(everything[ids], np.concatenate([a.value.T, b.value]))


def test_a_claim_names_what_goes_and_leaves_the_rest() -> None:
    """One column of a transposed tensor goes, one number changes; the others keep the file's double precision."""
    value = RANDOM.random((2, 3))
    turned = _moved(Node("t", "Transpose", ("a",), ("t",), {"perm": [1, 0]}), _stored("a", value))
    old = value.T.astype(np.float32)
    stays = (np.array([True, False, True]), np.array([True, True]))
    new = old[[0, 2]].copy()
    new[1, 0] = 7
    (claim,) = claims(turned, stays, new, old)
    assert np.array_equal(claim.gone.reshape(2, 3), [[False, True, False]] * 2)
    expected = value.copy()
    expected[0, 2] = 7
    assert np.array_equal(claim.content.reshape(2, 3)[:, [0, 2]], expected[:, [0, 2]])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.float8_e4m3fn])
@pytest.mark.parametrize(("axis", "block"), [(0, 0), (1, 0), (1, 2)])
def test_quantised_weights_stay_quantised(dtype: Any, axis: int, block: int) -> None:
    """What is only cut keeps its integers; a new number is the nearest step, or the last one."""
    sizes = (3, 4)
    lowest = {"uint8": 0, "uint4": 0}.get(np.dtype(dtype).name, -6)
    numbers = RANDOM.integers(lowest, 7, sizes).astype(np.int8).astype(dtype)
    blocks = [sizes[0], sizes[1] // block] if block else [sizes[axis]]
    scale = RANDOM.uniform(0.5, 1.5, blocks).astype(np.float32)
    spread = scale.repeat(block, 1) if block else scale.reshape([-1 if i == axis else 1 for i in (0, 1)])
    old = numbers.astype(np.float32) * spread
    source = Dequantised(
        _stored("q", numbers), _stored("s", scale), None, axis, block, (numbers, scale, None), np.dtype(np.float32)
    )
    stays = (np.array([True, False, True]), np.array([True, True, False, False]))
    new = old[np.ix_(*stays)].copy()
    new[0, 0] = 3 * np.broadcast_to(spread, sizes)[0, 0] * 1.01
    of_numbers, of_scale = claims(source, stays, new, old)
    expected = numbers.astype(np.float32)
    expected[0, 0] = 3
    got = of_numbers.content.reshape(sizes)[np.ix_(*stays)].astype(np.float32)
    np.testing.assert_allclose(got, expected[np.ix_(*stays)], rtol=0.02)
    assert of_numbers.content.dtype == numbers.dtype
    assert of_scale.read.sum() == 2


def test_half_a_block_cannot_go() -> None:
    """The numbers of one scale go together."""
    numbers, scale = np.ones((2, 4), np.int8), np.ones((2, 2), np.float32)
    raw = (numbers, scale, None)
    source = Dequantised(_stored("q", numbers), _stored("s", scale), None, 1, 2, raw, np.dtype(np.float32))
    stays = (np.array([True, True]), np.array([True, False, True, True]))
    with pytest.raises(Unclaimable, match="half of a block"):
        claims(source, stays, np.ones((2, 3), np.float32), np.ones((2, 4), np.float32))
