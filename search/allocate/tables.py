"""Latency of choices from tables: what every option of an element would change, for many choices at once.

A kernel's time depends on its input and output channels, on whether a block's setting leaves it in the network at all, and
on the zeros in its weight. Each of these is a matter of few elements, mostly one or two: kernels of the same two elements
are summed into one table over both their options, so that c_in x c_out is priced exactly and a price is a look-up.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from search.graph.ir import Array

Choices = Mapping[str, Array]
"""Element to the position of the option taken in each of B choices, (B,)."""


@dataclasses.dataclass(frozen=True)
class Part:
    """What one element does to a kernel, option by option."""

    channels: Array
    """(options,) complex: channels that it gives to the input, and i times those that it gives to the output."""
    factor: Array
    """(options,) what is left of the kernel's time: 0 where it is gone, less than 1 where zeros are skipped."""


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel as a function of the options of some elements."""

    fixed: complex
    """Channels that no element decides. One complex number is a pair of counts, which can then be sorted and searched."""
    parts: Mapping[str, Part]
    seconds_at: Callable[[Array, Array], Array]
    """Seconds at input and output channels, arrays of one length."""

    @functools.cached_property
    def _known(self) -> tuple[Array, Array]:
        """Every pair of channel counts that the options lead to, sorted, and its seconds."""
        reached = np.array([self.fixed])
        for part in self.parts.values():
            reached = _distinct(np.add.outer(reached, _distinct(part.channels)))
        pairs = _distinct(_counts(reached))
        return pairs, self.seconds_at(pairs.real.astype(np.int64), pairs.imag.astype(np.int64))

    def seconds(self, choices: Choices, *, along: Sequence[str] = ()) -> Array:
        """Seconds of the kernel, (B,), with an axis of options behind for each of the elements ``along``."""
        channels, factor = np.asarray(self.fixed), np.ones(())
        for element, part in self.parts.items():
            if element not in along:
                chosen = choices[element]
                channels, factor = channels + part.channels[chosen], factor * part.factor[chosen]
        for element in along:
            part = self.parts[element]
            channels, factor = channels[..., None] + part.channels, factor[..., None] * part.factor
        channels, left = np.broadcast_arrays(channels, factor)
        pairs, seconds = self._known
        there = left != 0  # most stand-ins are in no network but a few
        total = np.zeros(left.shape)
        total[there] = seconds[np.searchsorted(pairs, _counts(channels[there]))] * left[there]
        return total

    def at(self, kept: Mapping[str, Array]) -> Kernel:
        """The kernel with some of the options alone."""
        parts = {e: Part(part.channels[kept[e]], part.factor[kept[e]]) for e, part in self.parts.items()}
        return dataclasses.replace(self, parts=parts)


class Tables:
    """Prices of the choices of one problem."""

    def __init__(self, options: Mapping[str, int], base_s: float, kernels: Sequence[Kernel]) -> None:
        """Sum kernels of the same one or two elements; those of more are looked up one by one.

        Args:
            options: element to its number of options.
            base_s: seconds of the network with every element's first option.
            kernels: everything that options change.
        """
        self.own = {element: np.zeros(count) for element, count in options.items()}
        self.pairs: dict[tuple[str, str], Array] = {}
        self.wide: list[Kernel] = []
        for kernel in kernels:
            match list(kernel.parts):
                case []:
                    continue
                case [one]:
                    self.own[one] += kernel.seconds({}, along=[one])
                case [one, other]:
                    self._add((one, other), kernel.seconds({}, along=[one, other]))
                case _:
                    self.wide.append(kernel)
        self._index()
        self._offset_s = 0.0
        self._offset_s = base_s - float(self.seconds(dict.fromkeys(options, np.zeros(1, np.int64)))[0])

    def _add(self, pair: tuple[str, str], seconds: Array) -> None:
        """One table a pair, whichever element comes first."""
        if pair[::-1] in self.pairs:
            pair, seconds = pair[::-1], seconds.T
        self.pairs[pair] = self.pairs.get(pair, 0.0) + seconds

    def _index(self) -> None:
        self._beside: dict[str, list[tuple[str, Array]]] = collections.defaultdict(list)
        for (one, other), table in self.pairs.items():
            self._beside[one].append((other, np.ascontiguousarray(table.T)))
            self._beside[other].append((one, table))
        self._around = {element: [k for k in self.wide if element in k.parts] for element in self.own}

    def seconds(self, choices: Choices) -> Array:
        """(B,) seconds of the network of each choice."""
        total = np.full(len(next(iter(choices.values()), np.zeros(1))), self._offset_s)
        for element, own in self.own.items():
            total += own[choices[element]]
        for (one, other), table in self.pairs.items():
            total += table[choices[one], choices[other]]
        for kernel in self.wide:
            total += kernel.seconds(choices)
        return np.asarray(total)

    def changes(self, element: str, choices: Choices) -> Array:
        """(B, options) seconds with each option of an element put into a choice, minus those of the choice."""
        total = self.own[element] + np.zeros((len(choices[element]), 1))
        for other, table in self._beside[element]:
            total += table[choices[other]]
        for kernel in self._around[element]:
            total += kernel.seconds(choices, along=[element])
        return np.asarray(total - np.take_along_axis(total, choices[element][:, None], 1))

    def alone(self, element: str) -> Array:
        """(options,) seconds that each option costs more than the first, the other elements at their first."""
        return np.asarray(self.changes(element, dict.fromkeys(self.own, np.zeros(1, np.int64)))[0])

    @functools.cached_property
    def neighbours(self) -> dict[str, frozenset[str]]:
        """Element to those whose options change what its own cost, in time."""
        found: dict[str, set[str]] = {element: set() for element in self.own}
        for scope in (*self.pairs, *(kernel.parts for kernel in self.wide)):
            for element in scope:
                found[element].update(set(scope) - {element})
        return {element: frozenset(others) for element, others in found.items()}

    def at(self, kept: Mapping[str, Array]) -> Tables:
        """The tables of some of the options alone, by their positions; the first of each must be 0."""
        narrowed = object.__new__(Tables)
        narrowed.own = {element: own[kept[element]] for element, own in self.own.items()}
        narrowed.pairs = {(a, b): table[np.ix_(kept[a], kept[b])] for (a, b), table in self.pairs.items()}
        narrowed.wide = [kernel.at(kept) for kernel in self.wide]
        narrowed._offset_s = self._offset_s
        narrowed._index()
        return narrowed


def _counts(channels: Array) -> Array:
    """Whole numbers of channels, at least one on each side."""
    return np.asarray(np.maximum(1, np.rint(channels.real)) + 1j * np.maximum(1, np.rint(channels.imag)))


def _distinct(values: Array) -> Array:
    """Sorted, each once; ``np.unique`` hashes complex numbers, which takes four times as long."""
    ordered = np.sort(values, axis=None)
    return np.asarray(ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])])
