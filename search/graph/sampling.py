"""How samples stand in a network's inputs and outputs: along which axis, and how many of them a file takes at once.

Inside the engine arrays are samples first, (N, ...), whatever the file does. A file that takes any number of samples on axis 0 of
everything runs on them as they are: it is *native*. Any other is a function of one *chunk*, the samples of its own batch (one
where that is free), and stays as it is: samples are divided into chunks, (K, the model's own shape), and the function is mapped
over them. Loads no JAX, and works on its arrays as on numpy's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

Shape = tuple[int, ...]


class Declared(Protocol):
    """An input or output as a file, or a runtime, declares it."""

    @property
    def name(self) -> str:
        """Of the value."""

    @property
    def shape(self) -> Sequence[int | str | None]:
        """Numbers are fixed sizes, anything else is free."""


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Which axis of which input and output is the samples'. What is not named has them on axis 0."""

    inputs: Mapping[str, int | None] = dataclasses.field(default_factory=dict)
    """None: the whole input belongs to one sample, or is the same for all (a picture without a batch, a state, a rate)."""
    outputs: Mapping[str, int | None] = dataclasses.field(default_factory=dict)
    """None: the whole output is what the file says of a chunk."""
    batch: int | None = None
    """Samples that the file takes at once; None: any number."""

    @classmethod
    def declared(cls, inputs: Sequence[Declared], outputs: Sequence[Declared]) -> Sampling:
        """What the declared shapes say by themselves: axis 0, and a batch that is fixed where the first input's is a number."""
        sizes = [info.shape[0] for info in inputs if info.shape]
        batch = sizes[0] if sizes and isinstance(sizes[0], int) and sizes[0] > 0 else None

        def axis(info: Declared) -> int | None:
            fixed = info.shape[0] if info.shape and isinstance(info.shape[0], int) else batch
            return 0 if fixed == batch else None

        given = {info.name: axis(info) if info.shape else None for info in inputs}
        return cls(given, {info.name: axis(info) for info in outputs} if batch else {}, batch)

    @classmethod
    def of_chunks(cls, inputs: Sequence[Declared], outputs: Sequence[Declared]) -> Sampling:
        """Of a graph whose samples are whole chunks, (K, the model's own shape)."""
        return cls(dict.fromkeys(info.name for info in inputs), dict.fromkeys(info.name for info in outputs))

    @property
    def native(self) -> bool:
        """Whether the graph as it is runs on samples-first arrays of any number of samples."""
        return self.batch is None and not any(axis != 0 for axis in (*self.inputs.values(), *self.outputs.values()))

    @property
    def chunk(self) -> int:
        """Samples of a chunk."""
        return self.batch or 1

    @property
    def joins(self) -> bool:
        """Whether one run may take any number of samples, wherever they stand."""
        return self.batch is None and None not in (*self.inputs.values(), *self.outputs.values())

    def whole(self, size: int) -> int:
        """The next number of samples down from ``size`` that chunks divide; one chunk at least."""
        return max(self.chunk, size - size % self.chunk)

    def shapes(self, samples: Mapping[str, Sequence[int]], count: int = 1) -> dict[str, Shape]:
        """Shapes of the inputs of one run.

        Args:
            samples: input name to the shape of one sample.
            count: samples of the run where the file takes any number.
        """
        size = count if self.joins else self.chunk
        return {name: _inserted(shape, self.inputs.get(name, 0), size) for name, shape in samples.items()}

    def sample_shape(self, name: str, shape: Sequence[Any]) -> tuple[Any, ...]:
        """Shape of one sample of an input that the model takes, or declares, in this shape."""
        axis = self.inputs.get(name, 0)
        return tuple(size for i, size in enumerate(shape) if i != axis)

    def at_once(self, feeds: Mapping[str, Any], count: int) -> dict[str, Any]:
        """The first samples as the model takes them in one run: at most ``count`` where it takes any number."""
        size = min(count, samples_of(feeds)) if self.joins else self.chunk
        first = {name: value[:size] for name, value in feeds.items()}
        return {name: np.asarray(v[0]) for name, v in dataclasses.replace(self, batch=size).chunks(first).items()}

    def chunks(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Samples (N, ...) to chunks (K, the model's own shape); the last sample is repeated to fill up the last chunk."""
        size, count = self.chunk, samples_of(feeds)
        if count % size:
            index = np.minimum(np.arange(count + -count % size), count - 1)
            feeds = {name: value[index] for name, value in feeds.items()}
        return {name: self._chunked(value, self.inputs.get(name, 0)) for name, value in feeds.items()}

    def _chunked(self, value: Any, axis: int | None) -> Any:
        if axis is None:
            return value[:: self.chunk]
        return _moved(value.reshape(-1, self.chunk, *value.shape[1:]), 1, 1 + axis)

    def samples(self, name: str, made: Any, count: int) -> Any:
        """What chunks gave for a value, (K, ...), for the first ``count`` samples, (N, ...).

        Args:
            name: an output; what is none, an inner value, is joined along its own first axis.
            made: (K, the value's own shape).
            count: N.
        """
        if name not in self.outputs and not self.native:
            return joined(made)
        axis = self.outputs.get(name, 0)
        if axis is None or made.ndim <= 1 + axis:  # said of the chunk as a whole, and so of each of its samples
            return made.repeat(self.chunk, 0)[:count] if self.chunk > 1 else made[:count]
        first = _moved(made, 1 + axis, 1)
        return first.reshape(-1, *first.shape[2:])[:count]


def joined(made: Any) -> Any:
    """Chunks of a value, (K, n, ...), joined along the value's own first axis, (K n, ...); one number a chunk stays so."""
    return made.reshape(-1, *made.shape[2:]) if made.ndim > 1 else made


def samples_of(feeds: Mapping[str, Any]) -> int:
    """Number of samples of samples-first arrays."""
    return len(next(iter(feeds.values())))


def _moved(value: Any, source: int, target: int) -> Any:
    order = [axis for axis in range(value.ndim) if axis != source]
    order.insert(target, source)
    return value.transpose(order)


def _inserted(shape: Sequence[int], axis: int | None, size: int) -> Shape:
    return tuple(shape) if axis is None else (*shape[:axis], size, *shape[axis:])


def samples_first(
    array: np.ndarray[Any, Any], declared: Sequence[Any], axis: int | None, count: int | None = None
) -> np.ndarray[Any, Any] | None:
    """A client's array as samples (N, ...): it is that already, or as the model takes it, or the same for all samples.

    Args:
        array: of an input.
        declared: the input's shape; what is no number is free.
        axis: of its samples.
        count: N, where labels or other inputs tell.

    Returns:
        None where the array fits in none of these ways, or gives another number of samples.
    """
    rest = [size for i, size in enumerate(declared) if i != axis]
    readings = []
    if array.ndim == len(rest) + 1 and _fits(array.shape[1:], rest):
        readings.append(array)
    if axis and array.ndim == len(declared) and _fits([n for i, n in enumerate(array.shape) if i != axis], rest):
        readings.append(np.moveaxis(array, axis, 0))
    if count is not None and array.ndim == len(rest) and _fits(array.shape, rest):
        readings.append(np.broadcast_to(array, (count, *array.shape)))
    return next((value for value in readings if count is None or len(value) == count), None)


def placed(
    arrays: Mapping[str, np.ndarray[Any, Any]],
    declared: Mapping[str, Sequence[Any]],
    sampling: Sampling,
    count: int | None = None,
) -> dict[str, np.ndarray[Any, Any] | None]:
    """`samples_first` of every input's array; without a ``count`` the largest one tells it."""
    found: dict[str, np.ndarray[Any, Any] | None] = {}
    for name, array in sorted(arrays.items(), key=lambda item: -item[1].size):
        value = samples_first(array, declared[name], sampling.inputs.get(name, 0), count)
        count = len(value) if count is None and value is not None else count
        found[name] = value
    return found


def _fits(shape: Sequence[int], declared: Sequence[Any]) -> bool:
    return all(not isinstance(size, int) or size in (n, 0, -1) for n, size in zip(shape, declared, strict=True))
