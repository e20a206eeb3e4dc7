"""The client's file as it is: its bytes, the data files beside it, and fresh copies of its message to patch.

A parsed message gives the bytes of the file again, whatever is in it (names, order, metadata, functions, unknown fields), so
what is written for a client is the message with edits, never a graph that was read and written anew.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import google.protobuf.message  # type: ignore[import-untyped]
import onnx
import onnx.inliner
from onnx import TensorProto

from search.wire.errors import ExternalDataRefused, InvalidModel


@dataclasses.dataclass(frozen=True)
class Upload:
    """One model: the message, and the contents of its data files by the location that its tensors name."""

    data: bytes
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Upload:
        """A file and the data files beside it that its tensors name; none beside a file that is no model.

        Raises:
            ExternalDataRefused: a location outside the file's folder, or one behind a link.
            InvalidModel: a data file is missing or too short.
        """
        data = path.read_bytes()
        try:
            named = locations(data)
        except google.protobuf.message.DecodeError:  # who looks into the file says what it is
            named = []
        return cls(data, {location: _beside(path.parent, location) for location in named})

    def parse(self) -> onnx.ModelProto:
        """A fresh message whose tensors hold their numbers; it is the caller's to change."""
        proto: onnx.ModelProto = onnx.ModelProto.FromString(self.data)
        for tensor in tensors(proto):
            if tensor.data_location == TensorProto.EXTERNAL:
                tensor.raw_data = self._content(tensor)
                tensor.ClearField("data_location")
                tensor.ClearField("external_data")
        return proto

    def _content(self, tensor: TensorProto) -> bytes:
        entry = {item.key: item.value for item in tensor.external_data}
        content = self.files.get(entry.get("location", ""))
        if content is None:
            raise ExternalDataRefused(
                f"tensor `{tensor.name}` stands in the file `{entry.get('location', '')}`, which was not given; "
                "give the model's data file as well, or save the model with save_as_external_data=False",
                tensor=tensor.name,
            )
        start = int(entry.get("offset", 0))
        length = int(entry.get("length", len(content) - start))
        if start < 0 or length < 0 or start + length > len(content):
            raise InvalidModel(
                f"tensor `{tensor.name}` asks for bytes {start} to {start + length} of `{entry['location']}`, "
                f"which has {len(content)}; give the whole data file",
                tensor=tensor.name,
            )
        return bytes(content[start : start + length])

    @functools.cached_property
    def whole(self) -> bytes:
        """The model as one message, its data files within it; the file itself where it has none."""
        return self.parse().SerializeToString() if self.files else self.data

    def flat(self) -> onnx.ModelProto:
        """As `parse`, with local functions inlined; the same as `parse` where there are none."""
        proto = self.parse()
        return onnx.inliner.inline_local_functions(proto) if proto.functions else proto

    @functools.cached_property
    def positions(self) -> tuple[int | None, ...]:
        """Of every node of `flat`, its position in the file; None for one that stands in a local function."""
        proto = onnx.ModelProto.FromString(self.data)
        if not proto.functions:
            return tuple(range(len(proto.graph.node)))
        local = {(item.domain, item.name, item.overload): item for item in proto.functions}

        def count(node: onnx.NodeProto) -> int:
            """Nodes that the inliner writes for one."""
            body = local.get((node.domain, node.op_type, node.overload))
            return 1 if body is None else sum(count(inner) for inner in body.node)

        found: list[int | None] = []
        for position, node in enumerate(proto.graph.node):
            called = (node.domain, node.op_type, node.overload) in local
            found += [None if called else position] * count(node)
        return tuple(found)

    def packed(self, model: bytes, location: str) -> tuple[bytes, bytes | None]:
        """A patched model as its file and its data file: what stood outside the upload's file stands outside again.

        Args:
            model: a message whose tensors hold their numbers.
            location: name of the data file.

        Returns:
            The file, and the content of the data file, in the order of the upload's; None where the upload has none.
        """
        if not self.files:
            return model, None
        upload = onnx.ModelProto.FromString(self.data)
        outside = {key for key, tensor in _keyed(upload) if tensor.data_location == TensorProto.EXTERNAL}
        proto, content = onnx.ModelProto.FromString(model), bytearray()
        for key, tensor in _keyed(proto):
            if key in outside and tensor.HasField("raw_data"):
                content += bytes(-len(content) % _ALIGNMENT_BYTES)
                entries = {"location": location, "offset": len(content), "length": len(tensor.raw_data)}
                content += tensor.raw_data
                tensor.ClearField("raw_data")
                tensor.data_location = TensorProto.EXTERNAL
                for name, value in entries.items():
                    tensor.external_data.add(key=name, value=str(value))
        return proto.SerializeToString(), bytes(content)


OVERRIDABLE_FROM = 4
"""IR version from which an initializer need not be an input."""
LARGEST_SIZES = 1024
"""Elements of a tensor that may name sizes; what onnx's inference has no use for is not copied to it."""
_ALIGNMENT_BYTES = 64
"""Of a tensor in a data file: a cache line, so that it can be mapped and read as it is."""


def overridable(proto: onnx.ModelProto) -> frozenset[str]:
    """Initializers that callers may override: inputs with a default.

    Where every initializer is an input as well, that is an exporter's habit and no offer to callers: older IR versions
    demanded it, and PyTorch went on with it for some releases.
    """
    inputs = {info.name for info in proto.graph.input}
    names = {tensor.name for tensor in proto.graph.initializer}
    return frozenset() if proto.ir_version < OVERRIDABLE_FROM or names <= inputs else frozenset(names & inputs)


def without_numbers(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy for inference of types and sizes, which needs the numbers of small tensors only: those that name sizes."""
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    for tensor in bare.graph.initializer:
        if math.prod(tensor.dims) > LARGEST_SIZES:
            for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
                tensor.ClearField(field)
    return bare


def copy_model(source: Path, target: Path) -> None:
    """Copy a written model and its data file, if it has one, under another name."""
    data = source.with_name(f"{source.name}.data")
    model = source.read_bytes()
    if data.exists():
        proto = onnx.ModelProto.FromString(model)
        for tensor in tensors(proto):
            for item in tensor.external_data:
                if item.key == "location":
                    item.value = f"{target.name}.data"
        target.with_name(f"{target.name}.data").write_bytes(data.read_bytes())
        model = proto.SerializeToString()
    target.write_bytes(model)


def locations(data: bytes) -> list[str]:
    """The data files that a model's tensors name, in order, each once."""
    found: dict[str, None] = {}
    for tensor in tensors(onnx.ModelProto.FromString(data)) if _names_files(data) else ():
        for item in tensor.external_data if tensor.data_location == TensorProto.EXTERNAL else ():
            if item.key == "location":
                found[item.value] = None
    return list(found)


def _names_files(data: bytes) -> bool:
    """Whether a tensor may name a data file; a model without one, of a million tensors, need not be walked through."""
    return b"location" in data


def _beside(folder: Path, location: str) -> bytes:
    parts = PurePosixPath(location).parts
    path = folder / location
    if not parts or ".." in parts or PurePosixPath(location).is_absolute() or "\\" in location:
        raise ExternalDataRefused(
            f"the model names the data file `{location}`, outside its own folder; keep them together"
        )
    if any((folder / Path(*parts[: i + 1])).is_symlink() for i in range(len(parts))):
        raise ExternalDataRefused(f"the data file `{location}` is a link; give the file itself")
    if not path.is_file():
        raise ExternalDataRefused(
            f"the model keeps weights in `{location}`, which is not beside it; give the data file as well, "
            "or save the model with save_as_external_data=False"
        )
    return path.read_bytes()


def tensors(message: Any) -> Iterator[TensorProto]:
    """Every tensor anywhere below a protobuf message: initializers, constants, subgraphs, functions."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for item in value if field.is_repeated else [value]:
            if isinstance(item, TensorProto):
                yield item
            else:
                yield from tensors(item)


def _keyed(message: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], TensorProto]]:
    """Every tensor below a message, by the names on the way to it: edits move nodes, but none changes what they make."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for item in value if field.is_repeated else [value]:
            key = (*above, field.name, _name(item))
            if isinstance(item, TensorProto):
                yield key, item
            else:
                yield from _keyed(item, key)


def _name(item: Any) -> str:
    return "\0".join(item.output) if isinstance(item, onnx.NodeProto) else str(getattr(item, "name", ""))
