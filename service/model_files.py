"""A model of several files: the .onnx file, and data files beside it that its tensors name by relative paths (locations).

They come one by one, or all in one .zip. Nothing of either is believed: a location stays inside the model's folder, and an
archive is looked through before anything of it is read.
"""

from __future__ import annotations

import contextlib
import shutil
import stat
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO

from search.wire.errors import ExternalDataRefused, InvalidModel, ResourceLimit
from search.wire.foreign import foreign

MOST_FILES = 1024
"""Exporters write one data file, or one a tensor."""
LONGEST_LOCATION = 255
MODEL_NAME = "model.onnx"
_MAGIC = b"PK\x03\x04"
"""No ONNX file starts so: it would be a field 10, which a model does not have."""
_TAKEN = frozenset(
    {
        *(MODEL_NAME, "model.zip", "data.npz", "request.json", "error.json", "events.jsonl", "files.json"),
        *("child.log", "child.pid", "units", "out", "tmp", "cache", "profiles"),
    }
)
"""What a job's directory holds beside the model's files."""
_NOT_OURS = ("__MACOSX/",)
"""Finder adds such a folder to every archive."""
_BROKEN = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError)
"""What the standard library raises on a broken archive, as in `search.input.data`."""


def check_location(location: str) -> str:
    """A location that is safe below a job's directory.

    Raises:
        ExternalDataRefused: it leads outside the model's folder, or to a file of the job's own.
    """
    parts = location.split("/")
    unsafe = any(part in {"", ".", ".."} for part in parts) or "\\" in location or not location.isprintable()
    if unsafe or len(location.encode()) > LONGEST_LOCATION:
        raise ExternalDataRefused(
            f"the data file {location[:LONGEST_LOCATION]!r} lies outside the model's folder; save the model with its data "
            "files in one folder: a location is a relative path without `..`",
            location=location[:LONGEST_LOCATION],
        )
    if parts[0] in _TAKEN:
        raise ExternalDataRefused(
            f"the data file {location!r} has the name of a file of the job's own; save the model with another "
            "location, model.onnx.data for example",
            location=location,
        )
    return location


def check_locations(locations: Collection[str]) -> None:
    """Refuse locations that are unsafe, too many, or at once a file and the folder of another.

    Raises:
        ExternalDataRefused, ResourceLimit: as said.
    """
    if len(locations) > MOST_FILES:
        raise ResourceLimit(
            f"the model has {len(locations)} data files; at most {MOST_FILES} are taken: save its tensors in one"
        )
    for location in locations:
        check_location(location)
        folders = (str(folder) for folder in PurePosixPath(location).parents)
        if clash := next((folder for folder in folders if folder in locations), None):
            raise ExternalDataRefused(f"the data file {clash!r} is also the folder of {location!r}; rename one of them")


def is_archive(file: IO[bytes]) -> bool:
    """Whether a file starts as a .zip does; it is read from where it stands."""
    return file.read(len(_MAGIC)) == _MAGIC


def check_archive(file: IO[bytes], max_bytes: int) -> None:
    """Look through a .zip of a model by its directory alone.

    Raises:
        InvalidModel: it is broken, or does not hold exactly one .onnx file.
        ExternalDataRefused: members that are links, encrypted, twice there or outside the model's folder.
        ResourceLimit: more than `max_bytes` unpacked, or too many members.
    """
    with _opened(file) as archive:
        _members(archive, max_bytes)


def unpack(archive_path: Path, directory: Path, max_bytes: int) -> None:
    """Write what a .zip of a model holds to `directory`: the .onnx file as model.onnx, its data files by their locations.

    Raises:
        InvalidModel, ExternalDataRefused, ResourceLimit: as `check_archive`.
    """
    with archive_path.open("rb") as file, _opened(file) as archive:
        for location, member in _members(archive, max_bytes).items():
            target = directory / location
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("wb") as sink:
                shutil.copyfileobj(
                    source, sink, 2**20
                )  # never more than the member declares; its checksum is looked at


@contextlib.contextmanager
def _opened(file: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except _BROKEN as error:
        raise InvalidModel(
            f"the .zip of the model cannot be read ({error}); pack the .onnx file and its data files anew"
        ) from error


def _members(archive: zipfile.ZipFile, max_bytes: int) -> Mapping[str, zipfile.ZipInfo]:
    """The files by where they go; `model.onnx` is the model."""
    infos = [info for info in archive.infolist() if not info.is_dir() and not info.filename.startswith(_NOT_OURS)]
    if len(infos) > MOST_FILES:
        raise ResourceLimit(f"the .zip has {len(infos)} files; at most {MOST_FILES} are taken")
    _check_members(infos)
    unpacked = sum(info.file_size for info in infos)
    if unpacked > max_bytes:
        raise ResourceLimit(f"the .zip holds {unpacked:,} bytes unpacked; at most {max_bytes:,} are taken")
    models = [info for info in infos if info.filename.endswith(".onnx")]
    if not models and (words := foreign(b"", [info.filename for info in infos])):
        raise InvalidModel(f"the file is not an ONNX model: it is {words}")
    if len(models) != 1:
        raise InvalidModel(
            f"the .zip holds {len(models)} files that end in .onnx; pack exactly one, with its data files beside it"
        )
    folder = models[0].filename.rpartition("/")[0]
    start = f"{folder}/" if folder else ""
    outside = [info.filename for info in infos if not info.filename.startswith(start)]
    if outside:
        raise ExternalDataRefused(
            f"the .zip holds {outside[0]!r} outside the folder of {models[0].filename!r}; pack that folder alone"
        )
    data = {info.filename.removeprefix(start): info for info in infos if info is not models[0]}
    check_locations(data.keys())
    return {MODEL_NAME: models[0], **data}


def _check_members(infos: list[zipfile.ZipInfo]) -> None:
    names = [info.filename for info in infos]
    if len(set(names)) != len(names):
        raise ExternalDataRefused(
            f"the .zip holds {next(name for name in names if names.count(name) > 1)!r} twice; pack each file once"
        )
    for info in infos:
        if info.flag_bits & 1:
            raise ExternalDataRefused(f"{info.filename!r} in the .zip is encrypted; pack it without a password")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise ExternalDataRefused(f"{info.filename!r} in the .zip is a link; pack the file itself")
    spans = sorted((info.header_offset, info.header_offset + info.compress_size) for info in infos)
    if any(start < end for (_, end), (start, _) in zip(spans, spans[1:], strict=False)):
        raise ExternalDataRefused("files in the .zip overlap; pack them anew")
