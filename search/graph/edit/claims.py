"""What the tensors of a file must hold so that an initializer that came from them has new numbers at fewer positions.

Movements are followed on element ids; integers are rounded to the old scale; a folded batch norm gives back what it took in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

from search.graph.ir import Array, Source
from search.graph.sources import (
    Claim,
    Dequantised,
    Entry,
    Moved,
    Norm,
    Stored,
    Unclaimable,
    element_ids,
    same,
    take,
)

FLAT_GAIN = 1e-6
"""Gains of a batch norm below this share of its largest are no divisors: a float32 has seven digits."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Numbers that elements of the file's tensors are, only moved: an initializer, or what it is dequantised from."""

    source: Source
    stays: Sequence[Array]
    new: Array
    old: Array


def claims(source: Source, stays: Sequence[Array], new: Array, old: Array) -> list[Claim]:
    """What the file's tensors must hold so that an initializer has a new value.

    Args:
        source: of the initializer.
        stays: for each axis a boolean vector over its positions.
        new: numbers at the positions that stay.
        old: numbers at all positions.

    Raises:
        Unclaimable: arithmetic lies between the file and the initializer, or half a block of numbers with one scale goes.
    """
    found: list[Claim] = []
    for part in parts(source, stays, new, old):
        if not isinstance(part.source, Stored | Moved):
            raise Unclaimable("its numbers are computed from those of the file")
        found += _moved(part.source, part)
    return found


def parts(source: Source, stays: Sequence[Array], new: Array, old: Array) -> list[Part]:
    """What an initializer consists of; of a quantised one the integers at the old scale, clipped to their range.

    Raises:
        Unclaimable: half a block goes.
    """
    if not isinstance(source, Dequantised):
        return [Part(source, stays, new, old)]
    numbers, scale, zero = source.raw
    factor = _picked(source, scale, stays).astype(np.float64)
    offset = 0 if zero is None else _picked(source, zero, stays).astype(np.float64)
    steps = new.astype(np.float64) / np.where(factor == 0, 1, factor) + offset
    left = take(numbers, stays)
    requantised = np.where(same(new, take(old, stays)), left, _rounded(steps, numbers.dtype))
    found = [Part(source.numbers, stays, requantised, numbers)]
    for part, array in ((source.scale, scale), (source.zero, zero)):
        if part is not None and array is not None:
            mine = _stays_of_scale(source, array, stays)
            found.append(Part(part, mine, take(array, mine), array))
    return found


def _rounded(steps: Array, dtype: np.dtype[Any]) -> Array:
    whole = not dtype.name.startswith("float")
    limits = (ml_dtypes.iinfo if whole else ml_dtypes.finfo)(dtype)
    inside = np.clip(steps, float(limits.min), float(limits.max))
    if not whole:
        return inside.astype(dtype)
    wide = np.round(inside).astype(np.int64)
    return wide.astype(dtype) if dtype.kind in "iu" else wide.astype(np.int8).astype(dtype)


def _picked(source: Dequantised, array: Array, stays: Sequence[Array]) -> Array:
    """Scales or zero points of the positions that stay, as they broadcast against these."""
    sizes = source.raw[0].shape
    if array.size == 1:
        return array.reshape(())
    axis = source.axis % len(sizes)
    if array.ndim == 1:
        array = array.reshape([-1 if i == axis else 1 for i in range(len(sizes))])
    elif source.block:
        array = np.repeat(array, source.block, axis).take(np.arange(sizes[axis]), axis)
    whole = [keep if n == len(keep) else np.ones(n, bool) for keep, n in zip(stays, array.shape, strict=True)]
    return take(array, whole)


def _stays_of_scale(source: Dequantised, array: Array, stays: Sequence[Array]) -> list[Array]:
    sizes = source.raw[0].shape
    axis = source.axis % max(len(sizes), 1)
    if array.size == 1 or array.ndim == 0:
        return [np.ones(n, bool) for n in array.shape]
    if array.ndim == 1:
        return [stays[axis]]
    found = list(stays)
    if source.block:
        starts = np.arange(0, sizes[axis], source.block)
        found[axis] = np.maximum.reduceat(stays[axis], starts)
        if (found[axis] != np.minimum.reduceat(stays[axis], starts)).any():
            raise Unclaimable("half of a block of numbers with one scale goes")
    return found


def _moved(source: Stored | Moved, part: Part) -> list[Claim]:
    ids, stored = element_ids(source)
    kept = take(ids, part.stays)
    moved = ~same(part.new, take(part.old, part.stays))
    total = sum(leaf.value.size for leaf in stored)
    read, gone = np.zeros(total, bool), np.zeros(total, bool)
    read[kept.reshape(-1)] = True
    gone[ids.reshape(-1)] = True
    gone &= ~read
    found, start = [], 0
    for leaf in stored:
        end = start + leaf.value.size
        content = leaf.value.reshape(-1)
        mine = moved & (kept >= start) & (kept < end)
        if mine.any():
            content = content.copy()
            content[kept[mine] - start] = part.new[mine].astype(content.dtype)
        found.append(Claim(leaf.tensor, gone[start:end], read[start:end], content))
        start = end
    return found


def unfolded(norm: Norm, weight: Entry, bias: Entry) -> list[Entry]:
    """What operator and batch norm must hold so that together they have a weight and a bias.

    W = W' / g and B = b' - (b - mean) g, with g = scale / sqrt(variance + epsilon): mean and variance stay. Where a gain is
    nothing the norm becomes neutral (scale sqrt(1 + epsilon), variance 1, mean 0, offset b') and the operator's own bias 0.
    Numbers that did not change stay the file's own, to the bit.

    Args:
        norm: as it was folded.
        weight: of operator and norm together.
        bias: alike.
    """
    keep = weight.stays[norm.axis]
    scale, offset, mean, variance = (value.astype(np.float64)[keep] for value, _ in norm.vectors)
    gain = norm.gain[keep]
    own = np.zeros(len(gain)) if norm.bias is None else norm.bias[0].astype(np.float64)[keep]
    new_weight = take(norm.weight[0], weight.stays)
    shape = [-1 if i == norm.axis else 1 for i in range(new_weight.ndim)]
    same_weight = same(weight.new, take(weight.old, weight.stays))
    neutral = np.zeros(len(gain), bool)
    if not same_weight.all():
        rows = tuple(i for i in range(new_weight.ndim) if i != norm.axis)
        neutral = ~same_weight.all(rows) & (np.abs(gain) <= FLAT_GAIN * float(np.abs(norm.gain).max(initial=0)))
        divisor = np.where(neutral | (gain == 0), 1.0, gain).reshape(shape)
        kept = same_weight & ~neutral.reshape(shape)
        new_weight = np.where(kept, new_weight, weight.new / divisor)
    new_mean, new_own = np.where(neutral, 0.0, mean), np.where(neutral, 0.0, own)
    solved = bias.new.astype(np.float64) - (new_own - new_mean) * np.where(neutral, 1.0, gain)
    new_offset = np.where(same(bias.new, bias.old[keep]) & ~neutral, offset, solved)
    new_scale = np.where(neutral, np.sqrt(1 + norm.epsilon), scale)
    vectors = (new_scale, new_offset, new_mean, np.where(neutral, 1.0, variance))
    found = [_entry(norm.weight, new_weight, weight.stays, (norm.operator, 1))]
    if norm.bias is not None:
        found.append(_entry(norm.bias, new_own, (keep,), (norm.operator, 2)))
    pairs = zip(norm.vectors, vectors, strict=True)
    return [*found, *(_entry(part, new, (keep,), (norm.node, i)) for i, (part, new) in enumerate(pairs, 1))]


def _entry(part: tuple[Array, Source], new: Array, stays: tuple[Array, ...], site: tuple[int | None, int]) -> Entry:
    old, source = part
    return Entry(source, old, new.astype(old.dtype), stays, (site,))
