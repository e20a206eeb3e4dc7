"""Where a file's samples stand, found by running it in ONNX Runtime: loads no JAX.

What a file declares is a hint: a batch that is said to be free may be written into a Reshape, samples may stand behind the time,
an output may have none. So an axis is the samples' if an output axis follows its size, and if what lies along it does not meet:
changing one sample changes that sample of the output alone. Sizes that are free come from the client's data, or by name;
otherwise from a search for sizes, all different, at which the file runs.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx

from search.graph.ir import Array, Graph
from search.graph.onnx.trial import Trial
from search.graph.sampling import Sampling, Shape, placed
from search.wire.errors import InvalidModel, InvalidRequest

SIZES = (64, 96, 48, 32, 128, 160, 224, 256, 16, 24, 8, 320, 384, 512, 4, 2, 1)
"""Tried for a free size that nobody named, near the first where it can be: as images and sequences often are."""
MOST_RUNS, MOST_RUNS_EACH = 240, 120
"""Of the search for sizes: of all guesses together, of one."""
MOST_ELEMENTS = 1 << 22
"""Of the inputs of a run whose sizes nobody named."""
OTHERWISE = (32, 64, 16, 8, 1)
"""Added to a free size to see whether the file runs at another as well."""
FIXED_BATCHES = (1, 2, 4, 8, 16, 32)
"""Tried for a batch that is said to be free and is not."""
MOST_LEAK = 0.02
"""Of what changes in one sample of an output, that may be seen in another: rounding in common (quantised activations) leaves
1e-2 at most, a recurrence or a convolution along the axis much more."""
MOST_COMBINATIONS = 32
Key = str | tuple[str, int]
"""A free size: its name, or where it stands."""


@dataclasses.dataclass(frozen=True)
class Found:
    """What running a file has shown."""

    sampling: Sampling
    samples: Mapping[str, Shape]
    """Shape of one sample of every input."""
    runs: tuple[Mapping[str, Shape], ...]
    """Shapes of the inputs, as the model takes them, in two runs whose free sizes differ wherever the file allows it."""
    guessed: Mapping[str, Shape]
    """Inputs with sizes that neither data nor the client named, and their shapes in a run."""
    examples: tuple[Mapping[str, Array], ...] = ()
    """Inputs of two runs on different samples of the client's, as the model takes them; none where there is no data set."""


@dataclasses.dataclass(frozen=True)
class _Guess:
    """Where samples may stand: an axis of each input, or None."""

    axes: Mapping[str, int | None]
    fixed: int | None
    """The batch that is declared; None: it is declared free."""


def find_samples(
    model: bytes,
    graph: Graph,
    *,
    asked: Mapping[str, Sequence[int]] | None = None,
    arrays: Mapping[str, Array] | None = None,
    count: int | None = None,
) -> Found:
    """Run a file to see where its samples stand, and at which sizes it runs.

    Args:
        model: the file.
        graph: the same, as it was read.
        asked: input name to the whole shape, batch included, that the client wants it to be looked at with.
        arrays: input name to the client's array of it; left out of account where they fit no guess.
        count: number of samples, where labels tell it.

    Raises:
        InvalidModel: ONNX Runtime does not open the file, or runs it at no size that was tried.
        InvalidRequest: an asked shape does not fit the file.
    """
    search = _Search(model, graph, asked or {}, arrays or {}, count)
    best: Found | None = None
    for guess in search.guesses():
        found, sure = search.test(guess)
        if found is not None and sure:
            return found
        if best is None or best.sampling.chunk > 1:  # several samples that no output tells apart are one
            best = found or best
    if best is None and arrays:
        return find_samples(model, graph, asked=asked)  # the check of the data says what does not fit
    if best is None:
        raise search.refusal()
    return best


class _Search:
    """Everything that is asked of one file."""

    def __init__(
        self,
        model: bytes,
        graph: Graph,
        asked: Mapping[str, Sequence[int]],
        arrays: Mapping[str, Array],
        count: int | None,
    ) -> None:
        self.proto = onnx.ModelProto.FromString(model)
        self.graph, self.asked, self.arrays, self.count = graph, asked, arrays, count
        self.runs = Trial(self.proto, graph)
        self._left = MOST_RUNS
        unknown = {v.name for v in self.proto.graph.input if not v.type.tensor_type.HasField("shape")}
        self.declared: dict[str, tuple[int | Key, ...]] = {}
        for info in graph.inputs:
            rank = len(info.shape)
            if info.name in unknown:  # a rank is declared by nobody but the client
                rank = len(asked[info.name]) if info.name in asked else np.ndim(arrays.get(info.name, np.zeros(1)))
            sizes = info.shape or (None,) * rank
            self.declared[info.name] = tuple(_key(info.name, axis, size) for axis, size in enumerate(sizes))
        self._refuse_unfit()

    def _refuse_unfit(self) -> None:
        for name, shape in self.asked.items():
            declared = self.declared.get(name)
            if declared is None:
                raise InvalidRequest(f"input_shapes names `{name}`; the model's inputs are {', '.join(self.declared)}")
            fits = len(declared) == len(shape) and all(
                not isinstance(d, int) or d == n for d, n in zip(declared, shape, strict=True)
            )
            if not fits:
                free = ",".join(str(d) if isinstance(d, int) else "?" for d in declared)
                raise InvalidRequest(
                    f"input_shapes gives `{name}` the shape {','.join(map(str, shape))}, but the model takes {free}; "
                    f"write the whole shape, batch included, with a number for each ?: {name}:{free.replace('?', '1')}"
                )

    def guesses(self) -> Iterator[_Guess]:
        """Where samples may stand, the likelier first."""
        lead = next((name for name in (*self.arrays, *self.declared) if self.declared[name]), None)
        for axis, size in enumerate(self.declared[lead] if lead else ()):
            fixed = size if isinstance(size, int) else None
            if fixed is not None and (axis > 1 or (axis == 1 and self.declared[lead or ""][0] == 1)):
                continue  # a fixed 1 on axis 0 is one sample
            options = [[axis] if name == lead else _partners(sizes, size) for name, sizes in self.declared.items()]
            for axes in itertools.islice(itertools.product(*options), MOST_COMBINATIONS):
                yield _Guess(dict(zip(self.declared, axes, strict=True)), fixed)
        yield _Guess(dict.fromkeys(self.declared), None)

    def test(self, guess: _Guess) -> tuple[Found | None, bool]:
        """What the file is under a guess, None where it does not run so, and whether its outputs confirm it."""
        known = self._known(guess)
        if known is None:
            return None, False
        batches = (guess.fixed,) if guess.fixed else FIXED_BATCHES
        batch, sizes = next(((b, s) for b in batches if (s := self._sizes(guess, known, b)) is not None), (0, None))
        if sizes is None:
            return None, False
        outputs, free, sure = self._outputs(guess, sizes, batch)
        sampling = Sampling(guess.axes, outputs, None if free else batch)
        others = self._other_sizes(guess, sizes, batch)
        shapes = [self._shapes(guess, s, b if sampling.joins else batch) for s, b in ((sizes, 2), (others, 3))]
        samples = {name: sampling.sample_shape(name, shape) for name, shape in shapes[0].items()}
        guessed = {name for name, dims in self.declared.items() if set(dims) & (sizes.keys() - known.keys())}
        whole = self._shapes(guess, sizes, batch)
        return Found(sampling, samples, tuple(shapes), {name: whole[name] for name in sorted(guessed)}), sure

    def _outputs(self, guess: _Guess, sizes: Mapping[Key, int], batch: int) -> tuple[dict[str, int | None], bool, bool]:
        """The axis of each output, whether the batch is free, and whether an output confirms the guess."""
        shapes = self._shapes(guess, sizes, batch)
        made = self.runs(self.runs.feeds(shapes)) or {}
        has_batch = {name: [axis for axis, size in enumerate(v.shape) if size == batch] for name, v in made.items()}
        if not _any(guess.axes):
            return (
                {name: 0 if 0 in has_batch.get(name, []) else None for name in self.runs.names},
                True,
                bool(self.arrays),
            )
        axes = self._following(self.runs if guess.fixed is None else self._freed(guess), guess, sizes)
        if axes is not None and guess.fixed is None:
            return axes, True, _any(axes)
        if axes is not None:  # a copy of the file; where the file itself is another, what it does counts
            axes = {name: axis if axis in has_batch.get(name, []) else None for name, axis in axes.items()}
            if _any(axes):
                return axes, False, True
        if batch == 1:
            return {name: 0 if 0 in has_batch.get(name, []) else None for name in self.runs.names}, False, False
        axes = self._apart(self.runs, guess, shapes, has_batch)
        return axes, False, _any(axes)

    def _following(self, runs: Trial | None, guess: _Guess, sizes: Mapping[Key, int]) -> dict[str, int | None] | None:
        """The axis of each output that follows the batch; None where there is no running two or three samples."""
        if runs is None:
            return None
        made = [runs(runs.feeds(self._shapes(guess, sizes, batch))) for batch in (2, 3)]
        if made[0] is None or made[1] is None:
            return None
        both = {name: (made[0][name].shape, made[1][name].shape) for name in made[0].keys() & made[1].keys()}
        follow = {name: _two_and_three(*shapes) for name, shapes in both.items()}
        return self._apart(runs, guess, self._shapes(guess, sizes, 3), follow)

    def _apart(
        self, runs: Trial, guess: _Guess, shapes: Mapping[str, Shape], candidates: Mapping[str, Sequence[int]]
    ) -> dict[str, int | None]:
        """Of each output the first of some axes along which a change of one sample is seen in that sample alone."""
        feeds, other = runs.feeds(shapes), runs.feeds(shapes, seed=1)
        before = runs(feeds)
        size = next(shapes[name][axis] for name, axis in guess.axes.items() if axis is not None)
        found = {name: list(candidates.get(name, [])) for name in self.runs.names}
        for row in (0, size - 1):
            changed = dict(feeds)
            for name, axis in guess.axes.items():
                if axis is not None:
                    index = (slice(None),) * axis + (row,)
                    changed[name] = feeds[name].copy()
                    changed[name][index] = other[name][index]
            after = runs(changed)
            for name, axes in found.items():
                if before is None or after is None:
                    axes.clear()
                else:
                    found[name] = [a for a in axes if _alone(before[name], after[name], a, row)]
        return {name: axes[0] if axes else None for name, axes in found.items()}

    def _freed(self, guess: _Guess) -> Trial | None:
        """A copy of the file whose batch is declared free; None where the runtime does not open it."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        del proto.graph.value_info[:]
        for value in proto.graph.input:
            axis = guess.axes.get(value.name)
            if axis is not None:
                value.type.tensor_type.shape.dim[axis].Clear()
        for value in proto.graph.output:
            if value.type.HasField("tensor_type"):
                value.type.tensor_type.ClearField("shape")
        try:
            return Trial(proto, self.graph)
        except InvalidModel:
            return None

    def _known(self, guess: _Guess) -> dict[Key, int] | None:
        """Free sizes that the client or the data name; None where the data contradict the guess."""
        known: dict[Key, int] = {}
        for name, shape in self.asked.items():
            known.update(self._read(name, guess.axes[name], shape, taken=True))
        declared = {n: [d if isinstance(d, int) else None for d in dims] for n, dims in self.declared.items()}
        for name, value in placed(self.arrays, declared, Sampling(guess.axes), self.count).items():
            if value is None:
                return None
            for key, size in self._read(name, guess.axes[name], value.shape[1:]).items():
                if known.setdefault(key, size) != size:
                    return None
        return known

    def _read(self, name: str, axis: int | None, shape: Sequence[int], *, taken: bool = False) -> dict[Key, int]:
        """Free sizes in the shape of a sample, or in one that the model takes."""
        dims = [d for a, d in enumerate(self.declared[name]) if a != axis]
        sizes = [n for a, n in enumerate(shape) if not taken or a != axis]
        return {d: n for d, n in zip(dims, sizes, strict=True) if not isinstance(d, int)}

    def _shapes(self, guess: _Guess, sizes: Mapping[Key, int], batch: int) -> dict[str, Shape]:
        return {
            name: tuple(
                batch if axis == guess.axes[name] else size if isinstance(size, int) else sizes[size]
                for axis, size in enumerate(dims)
            )
            for name, dims in self.declared.items()
        }

    def _sizes(self, guess: _Guess, known: Mapping[Key, int], batch: int) -> dict[Key, int] | None:
        """All free sizes but the batch, such that the file runs; None where none were found."""
        free = [d for name, dims in self.declared.items() for a, d in enumerate(dims) if a != guess.axes[name]]
        missing = list(dict.fromkeys(d for d in free if not isinstance(d, int) and d not in known))
        for tried in itertools.islice(_different(len(missing)), MOST_RUNS_EACH):
            sizes = {**known, **dict(zip(missing, tried, strict=True))}
            shapes = self._shapes(guess, sizes, batch)
            if missing and sum(map(math.prod, shapes.values())) > MOST_ELEMENTS:
                continue
            self._left -= 1
            if self._left < 0:
                return None
            if self.runs(self.runs.feeds(shapes)) is not None:
                return sizes
        return None

    def _other_sizes(self, guess: _Guess, sizes: Mapping[Key, int], batch: int) -> dict[Key, int]:
        """The same with each size changed that may be, all different where they were."""
        changed = dict(sizes)
        for key, size in sizes.items():
            for more in OTHERWISE:
                tried = {**changed, key: size + more}
                if size + more in changed.values():
                    continue
                if self.runs(self.runs.feeds(self._shapes(guess, tried, batch))) is not None:
                    changed = tried
                    break
        return changed

    def refusal(self) -> InvalidModel:
        """Why nothing was found."""
        free = next((n for n, dims in self.declared.items() if any(not isinstance(d, int) for d in dims)), None)
        ask = f"; name its sizes, e.g. --input-shape {free}:1,3,48,320" if free else ""
        return InvalidModel(f"ONNX Runtime does not run the model at any size that was tried: {self.runs.said}{ask}")


def _key(name: str, axis: int, size: int | str | None) -> int | Key:
    """A fixed size, or the key of a free one: 0, -1, '' and '?' are no names."""
    if isinstance(size, int):
        return size if size > 0 else (name, axis)
    return size if size and size.strip("? ") else (name, axis)


def _partners(dims: Sequence[int | Key], size: int | Key) -> list[int | None]:
    """Axes of another input that may be the samples' where ``size`` is those of the first, the likelier first."""
    same = [axis for axis, other in enumerate(dims) if other == size]
    if same or isinstance(size, int):
        return [same[0] if same else None]
    return [*(axis for axis, other in enumerate(dims) if not isinstance(other, int)), None]


def _different(count: int) -> Iterator[tuple[int, ...]]:
    """Sizes for so many dimensions: all different, then any."""
    if count > 2:  # one ladder for all, each dimension on a rung of its own
        yield from (tuple(SIZES[(start + i) % len(SIZES)] for i in range(count)) for start in range(len(SIZES)))
        yield from ((size,) * count for size in SIZES)
        return
    every = sorted(itertools.product(SIZES, repeat=count), key=lambda sizes: sum(map(SIZES.index, sizes)))
    yield from (sizes for sizes in every if len(set(sizes)) == count)
    yield from (sizes for sizes in every if len(set(sizes)) < count)


def _any(axes: Mapping[str, int | None]) -> bool:
    return any(axis is not None for axis in axes.values())


def _two_and_three(first: Shape, second: Shape) -> list[int]:
    """Axes that are 2 in a run of two samples and 3 in a run of three."""
    if len(first) != len(second):
        return []
    return [axis for axis, pair in enumerate(zip(first, second, strict=True)) if pair == (2, 3)]


def _alone(before: Array, after: Array, axis: int, row: int) -> bool:
    """Whether two outputs differ in one row of an axis and, compared with that, hardly elsewhere."""
    if before.shape != after.shape:
        return False
    if before.dtype.kind not in "fiub":
        return True
    moved = np.abs(np.moveaxis(after.astype(np.float64) - before.astype(np.float64), axis, 0))
    moved = moved.reshape(len(moved), -1)
    others = np.delete(moved, row, axis=0)
    return bool(np.nan_to_num(others).max(initial=0) <= MOST_LEAK * np.nan_to_num(moved[row]).max(initial=0))
