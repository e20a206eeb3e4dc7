"""What ONNX Runtime says of every value of a file: its type, its shape, and whether data or only sizes decide that shape."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from search.graph.ir import Array
from search.graph.run.runtime import Runner
from search.wire.errors import ResourceLimit

SIZES = ((2, 3, 64, 96), (2, 3, 16, 24), (2, 3, 8, 12), (1, 1, 64, 64))
"""Batches and other free sizes of the first and the second look; what a file accepts depends on its strides and tables."""
HIGHEST = (1000, 100, 8, 2)
"""Above the integers that are tried: they may be rows of a table, sizes, or a mask."""
LOW = 8
WIDE = 2**31
LONGEST_LOOK_S = 5.0
"""Of a run on two or three samples."""
FETCHED = frozenset(
    (
        "float", "float16", "double", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool",
        "string", "complex64", "complex128",
    )
)  # fmt: skip
"""Element types that numpy has; a value of another one leaves ONNX Runtime as float32."""
Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Observation:
    """What was seen of every value that a node makes or the file is given."""

    types: Mapping[str, int]
    """Value to its element type; those that are no tensors are missing."""
    looks: tuple[Mapping[str, Shape], Mapping[str, Shape], Mapping[str, Shape]]
    """Value to its shape: two looks at the same sizes on other data, one at other sizes, or at the same where none is free."""
    wide: frozenset[str]
    """Values with integers that 32 bits do not hold."""
    failure: str = ""
    """Why there are no looks."""

    def is_number(self, name: str) -> bool:
        """Whether a value is a tensor of real numbers."""
        return self.types.get(name, TensorProto.STRING) not in (
            TensorProto.STRING,
            TensorProto.COMPLEX64,
            TensorProto.COMPLEX128,
        )

    def dtype(self, name: str) -> np.dtype[Any]:
        """Element type of a tensor."""
        return np.dtype(helper.tensor_dtype_to_np_dtype(self.types[name]))

    def moved(self, name: str) -> bool:
        """Whether a value's shape was another one on other data."""
        return self.looks[0].get(name) != self.looks[1].get(name)

    def shape(self, name: str) -> tuple[int | str, ...]:
        """Sizes that are the same in all looks, and names for the others."""
        first, other = self.looks[0][name], self.looks[2].get(name, ())
        if len(first) != len(other):
            return first
        return tuple(a if a == b else f"{name}_{axis}" for axis, (a, b) in enumerate(zip(first, other, strict=True)))


ELEMENTS, ELEMENT_SIZE = 3, 4
"""Of a sequence that is an input, for a look: its length, and the free sizes of its elements."""


def observe(
    proto: onnx.ModelProto, samples: Sequence[Mapping[str, Array]] = (), runs: Sequence[Mapping[str, Shape]] = ()
) -> Observation:
    """Run a model whose functions are inlined, every value exposed, on samples where there are some, else on random data.

    Args:
        proto: the model.
        samples: two sets of inputs of the same shapes, as the model takes them.
        runs: shapes of the inputs of two runs that the model is known to take; where they are missing, some are tried.

    Returns:
        What was seen; only the types, and why, where ONNX Runtime fails at all sizes that are tried.

    Raises:
        NotImplementedError: ONNX Runtime refuses the model.
        ResourceLimit: a run takes too long; names the node.
    """
    given = inputs_of(proto)
    runner, fetched, types = _exposed(proto)
    names, failure = list(fetched.values()), ""
    integers = any(info.type.tensor_type.elem_type in (TensorProto.INT32, TensorProto.INT64) for info in given)
    for first, second in _tried(given, runs):
        for high in (0, *HIGHEST) if samples else HIGHEST:
            pair = samples if high == 0 else [_feeds(given, first, high, seed=seed) for seed in (0, 1)]
            try:
                a, b = (runner(dict(feeds), names, longest_s=LONGEST_LOOK_S) for feeds in pair)
            except NotImplementedError as error:
                failure = failure or str(error)
                continue
            except ResourceLimit:
                if high <= LOW or not integers:
                    raise
                continue  # integers may name sizes, or turns of a loop
            c = a
            with contextlib.suppress(NotImplementedError):  # sizes that are named apart and yet must agree
                c = runner(_feeds(given, second, high or HIGHEST[0], seed=0), names, longest_s=LONGEST_LOOK_S)
            looks = [dict(_shapes(fetched, values)) for values in (a, b, c)]
            at_first = {name: np.shape(value) for name, value in pair[0].items()}
            for look, sizes in zip(looks, (at_first, at_first, second), strict=True):
                look |= {info.name: sizes[info.name] for info in given if info.type.HasField("tensor_type")}
            wide = frozenset(name for values in (a, b) for name in _wide(fetched, values))
            return Observation(types, (looks[0], looks[1], looks[2]), wide)
    return Observation(types, ({}, {}, {}), frozenset(), failure)


def _tried(
    given: Sequence[onnx.ValueInfoProto], runs: Sequence[Mapping[str, Shape]]
) -> Iterator[tuple[Mapping[str, Shape], Mapping[str, Shape]]]:
    """Shapes of the first and of the second look."""
    if runs:
        yield runs[0], runs[-1]
    for first, second, free, other in SIZES:
        yield (
            {info.name: _sizes(info, first, free) for info in given},
            {info.name: _sizes(info, second, other) for info in given},
        )


def inputs_of(proto: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """What a caller must give: inputs without a default."""
    defaults = {tensor.name for tensor in proto.graph.initializer}
    return [info for info in proto.graph.input if info.name not in defaults]


def element_type(written: str) -> int | None:
    """ONNX's number for a type as ONNX Runtime writes it; None for what is no tensor."""
    if not written.startswith("tensor("):
        return None
    return int(TensorProto.DataType.Value(written[len("tensor(") : -1].upper()))


def _exposed(proto: onnx.ModelProto) -> tuple[Runner, dict[str, str], dict[str, int]]:
    """A session that gives every value, the name under which it gives each, and the types."""
    names = list(dict.fromkeys(name for node in proto.graph.node for name in node.output if name))
    typed = _with_outputs(proto, names, {})
    written = Runner(typed.SerializeToString()).types
    found = {name: element_type(written[name]) for name in names}
    narrow = {
        name: f"{name}/float" for name in names if written[name].startswith("tensor(") and not _fetched(written[name])
    }
    fetched = {name: narrow.get(name, name) for name in names}
    types = {name: code for name, code in found.items() if code is not None}
    for info in proto.graph.input:
        if info.type.HasField("tensor_type"):
            types[info.name] = info.type.tensor_type.elem_type
    types |= {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    return Runner(_with_outputs(proto, list(fetched.values()), narrow).SerializeToString()), fetched, types


def _fetched(written: str) -> bool:
    return written[len("tensor(") : -1] in FETCHED


def _with_outputs(proto: onnx.ModelProto, names: list[str], narrow: Mapping[str, str]) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    made.graph.node.extend(
        helper.make_node("Cast", [name], [alias], to=TensorProto.FLOAT) for name, alias in narrow.items()
    )
    del made.graph.output[:]
    made.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return made


def _feeds(
    given: Sequence[onnx.ValueInfoProto], shapes: Mapping[str, Shape], high: int, *, seed: int
) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {info.name: _random(info.type, shapes[info.name], high, random) for info in given}


def _sizes(info: onnx.ValueInfoProto, batch: int, free: int) -> Shape:
    return _dims(info.type.tensor_type, batch, free)


def _dims(tensor: onnx.TypeProto.Tensor, batch: int, free: int) -> Shape:
    dims = tensor.shape.dim
    return tuple(dim.dim_value if dim.dim_value > 0 else batch if axis == 0 else free for axis, dim in enumerate(dims))


def _inner(kind: onnx.TypeProto) -> onnx.TypeProto | None:
    """What a sequence or an optional is of; None of a tensor."""
    name = kind.WhichOneof("value")
    return getattr(kind, name).elem_type if name in {"sequence_type", "optional_type"} else None


def _random(kind: onnx.TypeProto, shape: Shape, high: int, random: np.random.Generator) -> Any:
    inner = _inner(kind)
    if inner is not None:  # a sequence has elements, an optional its value
        sizes = _dims(inner.tensor_type, 1, ELEMENT_SIZE)
        found = [_random(inner, sizes, high, random) for _ in range(ELEMENTS)]
        return found if kind.HasField("sequence_type") else found[0]
    code = kind.tensor_type.elem_type
    if code == TensorProto.STRING:
        return np.asarray(random.integers(0, 10, shape)).astype(str).astype(object)
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(code))
    if dtype.kind in "iu":
        return np.asarray(random.integers(0, min(high, np.iinfo(dtype).max), shape), dtype)
    values = np.asarray(random.standard_normal(shape))
    return values > 0 if dtype.kind == "b" else values.astype(dtype)


def _shapes(fetched: Mapping[str, str], values: list[Any]) -> Iterator[tuple[str, Shape]]:
    for name, value in zip(fetched, values, strict=True):
        if isinstance(value, np.ndarray):
            yield name, value.shape


def _wide(fetched: Mapping[str, str], values: list[Any]) -> Iterator[str]:
    for name, value in zip(fetched, values, strict=True):
        if isinstance(value, np.ndarray) and value.dtype in (np.int64, np.uint64) and value.size and _reaches(value):
            yield name


def _reaches(value: Array) -> bool:
    return int(value.max()) >= WIDE or int(value.min()) < -WIDE
