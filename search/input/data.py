"""The client's data set: opened carefully, checked against the model."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from search.graph.draw import drawn
from search.graph.ir import Array, Graph, TensorInfo
from search.graph.sampling import Shape, placed
from search.input.task import Task, decide
from search.wire.errors import DatasetShapeMismatch, InvalidDataset, ResourceLimit

LARGEST_ARRAY_BYTES = 8 << 30
LARGEST_REPEATED_BYTES, MOST_TIMES_PACKED = 1 << 30, 200
"""Bytes that a member may unpack to, where it takes less than one of so many of them: real samples do not shrink like that,
zeros shrink a thousandfold, and gigabytes of them take minutes before they turn out to say nothing."""
SYNTHETIC_SAMPLES = 512
FEWEST_SAMPLES = 8
_LONGEST_HEADER_BYTES = 2**16 + 10
"""Of an array of numbers, written by numpy; a header may claim 4 GiB, and compression makes that cheap."""
_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, OSError, EOFError, ValueError, RuntimeError)
"""What the standard library raises on a broken archive (`NotImplementedError` is a RuntimeError); found by fuzzing."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Some samples: input name to array (N, ...), and labels (N,), (N, ...) or None."""

    feeds: dict[str, Array]
    labels: Array | None
    task: Task | None = None
    """What the labels mean, which then are in normal form (`search.input.task`); None as long as nobody has asked."""
    given: dict[str, Array] | None = None
    """Inputs of the file, where it has a head that makes ``feeds`` of them."""

    @property
    def file_feeds(self) -> dict[str, Array]:
        """Inputs of the file."""
        return self.feeds if self.given is None else self.given

    def __len__(self) -> int:
        """Number of samples."""
        return len(next(iter(self.feeds.values())))

    def take(self, index: Any) -> Part:
        """The samples at these positions."""
        return Part(
            {name: value[index] for name, value in self.feeds.items()},
            None if self.labels is None else self.labels[index],
            self.task,
            None if self.given is None else {name: value[index] for name, value in self.given.items()},
        )

    def understood(self, outputs: Sequence[Array], counted: Sequence[int] | None = None, **seen: Any) -> Part:
        """The same with a task and labels in normal form; itself where it has them, so that the whole decides for its parts.

        Args:
            outputs: the dense network's outputs for some samples, (M, ...).
            counted: positions of those that say something of the weights; None: all.
            **seen: how the network makes them, see `search.input.task.decide`.

        Raises:
            InvalidDataset: labels that fit no output.
        """
        if self.task is not None:
            return self
        task, labels = decide(outputs, self.labels, counted, **seen)
        return dataclasses.replace(self, labels=labels, task=task)


def read_npz(path: Path) -> dict[str, Array]:
    """Open an .npz file without trusting it: no pickles, no duplicate members, sizes known before anything is read.

    Raises:
        InvalidDataset: not an .npz, or members that we do not open.
        ResourceLimit: an array larger than `LARGEST_ARRAY_BYTES`.
    """
    with _opened(path) as (archive, members):
        return {info.filename.removesuffix(".npy"): _read_member(archive, info) for info in members}


def check_npz(path: Path) -> None:
    """What `read_npz` refuses by its headers, without reading the arrays.

    Raises:
        InvalidDataset, ResourceLimit: as `read_npz`.
    """
    with _opened(path):
        return


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]]:
    """The archive and its members, all their headers checked."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(members)
            for info in members:
                _check_header(archive, info)
            yield archive, members
    except _BROKEN as error:
        raise InvalidDataset("the data set is not an .npz file; write it with numpy.savez(file, x=x, y=y)") from error


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    names = [info.filename for info in members]
    if not names:
        raise InvalidDataset("the .npz is empty; it needs an array `x` (samples first)")
    if len(set(names)) != len(names):
        raise InvalidDataset(f"the .npz has two members called {next(n for n in names if names.count(n) > 1)!r}")
    for info in members:
        if info.flag_bits & 1:
            raise InvalidDataset(f"member {info.filename!r} is encrypted; write the data set with numpy.savez")
        if not info.filename.endswith(".npy"):
            raise InvalidDataset(f"member {info.filename!r} is not an array; write the data set with numpy.savez")
    spans = sorted((info.header_offset, info.header_offset + info.compress_size) for info in members)
    if any(start < end for (_, end), (start, _) in zip(spans, spans[1:], strict=False)):
        raise InvalidDataset("members of the .npz overlap; write the data set with numpy.savez")


def _check_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    with archive.open(info) as file:
        head = io.BytesIO(file.read(_LONGEST_HEADER_BYTES))
        try:
            version = np.lib.format.read_magic(head)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = header(head)
        except (ValueError, EOFError) as error:
            raise InvalidDataset(f"member {info.filename!r} is not a numpy array: {error}") from error
    if dtype.hasobject or dtype.names is not None or dtype.kind not in "biufcU":
        raise InvalidDataset(
            f"member {info.filename!r} has dtype {dtype}; objects (pickles) and records are not opened: "
            "use numbers, or text of a fixed width (dtype U)"
        )
    declared = int(np.prod(shape, dtype=object)) * dtype.itemsize if shape else dtype.itemsize
    if declared > LARGEST_ARRAY_BYTES:
        raise ResourceLimit(
            f"array {info.filename!r} declares {declared} bytes; at most {LARGEST_ARRAY_BYTES} are read",
            declared=declared,
        )
    if declared > max(LARGEST_REPEATED_BYTES, MOST_TIMES_PACKED * info.compress_size):
        raise ResourceLimit(
            f"array {info.filename!r} unpacks {info.compress_size} bytes to {declared}, so it repeats the same values; at most "
            f"{LARGEST_REPEATED_BYTES} bytes of such data are read; leave out samples that are the same",
            declared=declared,
        )
    if declared > info.file_size:
        raise InvalidDataset(
            f"array {info.filename!r} declares {declared} bytes but holds {info.file_size}; the file is truncated"
        )


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    try:
        with archive.open(info) as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except _BROKEN as error:
        raise InvalidDataset(f"array {info.filename!r} cannot be read: {error}") from error


def arrays_of(arrays: Mapping[str, Array], graph: Graph) -> dict[str, Array]:
    """Input name to the client's array of it, where there is one: ``x`` where the others are missing or look like states."""
    found = {info.name: arrays[info.name] for info in graph.given if info.name in arrays}
    states = graph.states()
    main = [info.name for info in graph.given if info.name not in states]
    if "x" in arrays and len(main) == 1:
        found[main[0]] = arrays["x"]
    return found


def count_of(arrays: Mapping[str, Array]) -> int | None:
    """Number of samples that labels tell."""
    return len(arrays["y"]) if "y" in arrays and arrays["y"].ndim else None


def check(arrays: Mapping[str, Array], graph: Graph, samples: Mapping[str, Shape] | None = None) -> Part:
    """Match arrays to the model's inputs: ``x`` for a single input, else arrays named as the inputs; ``y`` for labels.

    Inputs that look like states (`Graph.states`) are zeros where there is no array of them.

    Args:
        arrays: as they were read.
        graph: the model, whose sampling says which axis of which input is the samples'.
        samples: shape of one sample of every input, for states; where they are missing, what is declared.

    Raises:
        InvalidDataset: missing arrays, no samples, NaN. What labels mean `Part.understood` finds out.
        DatasetShapeMismatch: samples of another shape than the model's input.
    """
    mine = arrays_of(arrays, graph)
    missing = [info for info in graph.given if info.name not in mine]
    states = graph.states() if mine else frozenset()
    if unknown := [info.name for info in missing if info.name not in states]:
        wanted = "`x`" if len(graph.given) == 1 else f"`{unknown[0]}`"
        raise InvalidDataset(
            f"the .npz has arrays {sorted(arrays)} but not {wanted}, the samples of the model's input `{unknown[0]}`"
        )
    labels, declared = arrays.get("y"), {info.name: info.shape for info in graph.given}
    found = placed(mine, declared, graph.sampling, count_of(arrays))
    unplaced = any(value is None for value in found.values())
    loose = placed(mine, declared, graph.sampling) if unplaced else found  # labels may be what does not fit
    feeds = {
        info.name: _input(info, mine[info.name], loose[info.name], graph) for info in graph.given if info.name in mine
    }
    counts = {name: len(value) for name, value in feeds.items()}
    count = next(iter(counts.values()))
    if labels is not None:
        counts["y"] = len(labels) if labels.ndim else 0
    if len(set(counts.values())) != 1:
        raise InvalidDataset(f"arrays have different numbers of samples: {counts}; {_advice(graph)}")
    if count < FEWEST_SAMPLES:
        raise InvalidDataset(
            f"the data set has {count} samples; at least {FEWEST_SAMPLES} are needed, some hundreds serve well; {_advice(graph)}"
        )
    for info in missing:
        feeds[info.name] = np.zeros((count, *_sample(info, graph, samples)), info.dtype)
    return Part({info.name: feeds[info.name] for info in graph.given}, None if labels is None else _labels(labels))


def _sample(info: TensorInfo, graph: Graph, samples: Mapping[str, Shape] | None) -> Shape:
    """Shape of one sample; a free size that is not known is 1."""
    if samples is not None:
        return samples[info.name]
    return tuple(
        size if isinstance(size, int) and size > 0 else 1 for size in graph.sampling.sample_shape(info.name, info.shape)
    )


def _expected(info: TensorInfo, graph: Graph) -> list[int | str]:
    sample = graph.sampling.sample_shape(info.name, info.shape)
    return ["N", *[size if isinstance(size, int) and size > 0 else "?" for size in sample]]


def _advice(graph: Graph) -> str:
    """Which axis is the samples', for a message."""
    shapes = "; ".join(f"`{info.name}` as {_expected(info, graph)}" for info in graph.given)
    return f"samples stand on the first axis of every array: write {shapes}"


def _input(info: TensorInfo, given: Array, value: Array | None, graph: Graph) -> Array:
    if value is None:
        expected, axis = _expected(info, graph), graph.sampling.inputs.get(info.name, 0)
        raise DatasetShapeMismatch(
            f"the array of the model's input `{info.name}` has shape {list(given.shape)}; it needs {expected} (samples first"
            + (f"; the model has them on axis {axis})" if axis else ")"),
            found=list(given.shape),
            expected=expected,
        )
    if info.dtype.kind == "f" and value.dtype.kind == "f" and not np.isfinite(value).all():
        raise InvalidDataset(f"the array of `{info.name}` has values that are not finite (NaN or infinity)")
    return value.astype(info.dtype, copy=False)


def _labels(labels: Array) -> Array:
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all():
            raise InvalidDataset("array `y` has values that are not finite (NaN or infinity)")
        return labels
    if labels.dtype.kind not in "iub":
        raise InvalidDataset(f"array `y` has dtype {labels.dtype}; class labels are integers, targets are floats")
    return labels.astype(np.int64)


def synthetic(graph: Graph, samples: int, rng: np.random.Generator, shapes: Mapping[str, Shape] | None = None) -> Part:
    """Values for every input, zeros for states, for a job without a data set.

    Args:
        graph: the model.
        samples: how many.
        rng: draws them.
        shapes: of one sample of every input; where they are missing, what is declared.
    """
    states = graph.states()
    feeds = {}
    for info in graph.given:
        shape = (samples, *_sample(info, graph, shapes))
        feeds[info.name] = np.zeros(shape, info.dtype) if info.name in states else drawn(graph, info, shape, rng)
    return Part(feeds, None)
