"""Where the numbers of a derived graph's weights stand in the upload, and how new numbers get back there.

Every initializer has a source: a tensor of the file, or what a pass made of such tensors. A source is asked two things: which
tensors an initializer came from, and, for new numbers at fewer positions, what each of these tensors must hold then. Movements
(Transpose, Reshape, Slice, Concat ...) are followed by running the operators on element ids, so none needs an inverse.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from search.graph.ir import Array, Node, Source


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of the file: an initializer by its name, or an attribute of the node at a position (a Constant)."""

    name: str
    node: int | None = None


@dataclasses.dataclass(frozen=True)
class Stored:
    """The initializer is a tensor of the file, in ``dtype`` there."""

    tensor: Tensor
    value: Array

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type in the file."""
        return np.dtype(self.value.dtype)


@dataclasses.dataclass(frozen=True)
class Moved:
    """Elements of other sources at other places, perhaps in another type."""

    node: Node
    operands: tuple[Source | None, ...]
    """Sources of the data, in the node's order; None for operands that only name sizes, axes or indices."""
    values: tuple[Array | None, ...]
    output: int
    dtype: np.dtype[Any]
    run: Callable[[Sequence[Array | None]], Sequence[Array]]
    """Moves ids as the node moves data."""


@dataclasses.dataclass(frozen=True)
class Dequantised:
    """(numbers - zero point) * scale; one scale and zero point, or one for each position, or ``block`` positions, of ``axis``."""

    numbers: Source
    scale: Source
    zero: Source | None
    axis: int
    block: int
    """0: none."""
    raw: tuple[Array, Array, Array | None]
    dtype: np.dtype[Any]


@dataclasses.dataclass(frozen=True)
class Norm:
    """A batch norm that was folded into the weighted operator before it: its vectors, and what that operator had."""

    weight: tuple[Array, Source]
    bias: tuple[Array, Source] | None
    vectors: tuple[tuple[Array, Source], ...]
    """Scale, offset, mean, variance."""
    epsilon: float
    axis: int
    """Of the output channels in the weight."""
    operator: int | None
    """Position of the weighted node in the (flat) file."""
    node: int | None
    """Position of the batch norm."""

    @property
    def gain(self) -> Array:
        """(C,) what an output channel is multiplied with."""
        scale, _, _, variance = (value.astype(np.float64) for value, _ in self.vectors)
        return np.asarray(scale / np.sqrt(variance + self.epsilon))


@dataclasses.dataclass(frozen=True)
class Folded:
    """The weight or the bias of an operator that took a batch norm in."""

    norm: Norm
    part: str
    """``weight`` or ``bias``."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the weight in the file."""
        return self.norm.weight[1].dtype


@dataclasses.dataclass(frozen=True)
class Computed:
    """Arithmetic made it of others: new numbers cannot be put where the old ones came from."""

    dtype: np.dtype[Any]


@dataclasses.dataclass(frozen=True)
class Claim:
    """What an initializer needs of a tensor of the file: which elements go, and what the others hold."""

    tensor: Tensor
    gone: Array
    """(size,) True for elements that the initializer read and reads no more."""
    read: Array
    """(size,) True for elements that it still reads."""
    content: Array
    """(size,) their numbers, in the type of the file."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """Numbers that stand, or stood, in one source: what they were, what they become, and which nodes of the file read them."""

    source: Source
    old: Array
    new: Array
    stays: tuple[Array, ...]
    """For each axis a boolean vector over the old positions."""
    sites: tuple[tuple[int | None, int], ...]
    """(position of a node in the flat file, its input)."""

    @functools.cached_property
    def changed(self) -> bool:
        """Whether the file has to change."""
        return self.new.shape != self.old.shape or not same(self.new, self.old).all()

    def stored(self, value: Array) -> Array:
        """What a tensor of the file that is this initializer must hold: its own bits where the numbers did not change."""
        left = take(value, self.stays)
        if left.dtype == self.new.dtype:
            return self.new
        return np.where(same(self.new, take(self.old, self.stays)), left, self.new.astype(left.dtype))


class Unclaimable(Exception):
    """New numbers cannot stand where the old ones stood."""


def leaves(source: Source) -> Iterator[Stored]:
    """The tensors of the file that a source reads."""
    match source:
        case Stored():
            yield source
        case Moved():
            for operand in source.operands:
                if operand is not None:
                    yield from leaves(operand)
        case Dequantised():
            for part in (source.numbers, source.scale, source.zero):
                if part is not None:
                    yield from leaves(part)
        case Folded():
            for _, part in _parts(source.norm):
                yield from leaves(part)


def nodes_of(source: Source) -> Iterator[int | None]:
    """Positions of the nodes between the file's tensors and the initializer."""
    match source:
        case Moved():
            yield source.node.origin
            for operand in source.operands:
                if operand is not None:
                    yield from nodes_of(operand)
        case Dequantised():
            for part in (source.numbers, source.scale, source.zero):
                if part is not None:
                    yield from nodes_of(part)
        case Folded():
            for _, part in _parts(source.norm):
                yield from nodes_of(part)


def _parts(norm: Norm) -> list[tuple[Array, Source]]:
    return [norm.weight, *([norm.bias] if norm.bias is not None else []), *norm.vectors]


def same(a: Array, b: Array) -> Array:
    """Where two arrays of one shape hold the same number, or none."""
    equal = np.asarray(a == b)
    return equal if equal.all() else np.asarray(equal | ((a != a) & (b != b)))  # noqa: PLR0124  # what is no number


def take(value: Array, stays: Sequence[Array]) -> Array:
    """The positions that stay, of every axis."""
    for axis, keep in enumerate(stays):
        if not keep.all():
            value = np.compress(keep, value, axis)
    return value


def element_ids(source: Stored | Moved) -> tuple[Array, list[Stored]]:
    """For each element of an initializer its position among all elements of the tensors it came from, and these tensors.

    Raises:
        Unclaimable: arithmetic lies in between.
    """
    if isinstance(source, Stored):
        return np.arange(source.value.size, dtype=np.int64).reshape(source.value.shape), [source]
    operands: list[Array | None] = list(source.values)
    stored: list[Stored] = []
    for position, inner in enumerate(source.operands):
        if inner is None:
            continue
        if not isinstance(inner, Stored | Moved):
            raise Unclaimable("its numbers are computed from those of the file")
        ids, more = element_ids(inner)
        operands[position] = ids + sum(leaf.value.size for leaf in stored)
        stored += more
    return np.asarray(source.run(operands)[source.output]), stored
