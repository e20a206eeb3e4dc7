"""The files of a model on this machine: the engine says which data files its tensors name, and they lie beside it."""

from __future__ import annotations

import json
import mmap
import shutil
from pathlib import Path

from search.wire.errors import ExternalDataRefused, InvalidModel
from service import model_files, protocol, sandbox
from service.commands.scratch import scratch
from service.protocol import ExitCode
from service.settings import Settings

_KEY = b"location"
"""A tensor that lies elsewhere has an entry of this key: a file without the word needs no look by the engine."""
_ONLY_NAMES = sandbox.Limits(open_files=0, network="off", files="off")


def data_files(model: Path) -> dict[str, Path]:
    """The data files that the tensors of `model` name, by their locations.

    Raises:
        ExternalDataRefused: a location outside the model's folder, or a link.
        InvalidModel: a data file that is not there.
    """
    found = {}
    for location in _named(model):
        path = model.parent / model_files.check_location(location)
        steps = (model.parent / folder for folder in (location, *map(str, Path(location).parents)) if folder != ".")
        if any(step.is_symlink() for step in steps):
            raise ExternalDataRefused(
                f"the data file {location!r} of {model.name} is a link; copy the file itself there"
            )
        if not path.is_file():
            raise InvalidModel(
                f"{model.name} keeps weights in {location!r}, which is not in {model.parent}; put it there",
                location=location,
            )
        found[location] = path
    model_files.check_locations(found.keys())
    return found


def copy_model(model: Path, directory: Path) -> None:
    """Put `model` and its data files, or what it holds if it is a .zip, into a job's directory.

    Raises:
        SecateurError: as `data_files`, and as `service.protocol.unpack_model`.
    """
    for location, path in data_files(model).items():
        (directory / location).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, directory / location)
    copy = directory / model_files.MODEL_NAME
    shutil.copyfile(model, copy)
    protocol.unpack_model(copy, Settings.from_env().max_upload_bytes)


def _named(model: Path) -> list[str]:
    """The locations, in the order of the file. A file that cannot be read names none: whoever runs it will refuse it."""
    if not _mentions(model, _KEY):
        return []
    settings = Settings.from_env()
    with scratch() as directory:
        (directory / model_files.MODEL_NAME).symlink_to(model.resolve())
        child = sandbox.start([*settings.child_command, "files", str(directory)], directory, directory, _ONLY_NAMES)
        try:
            code = child.wait()
        finally:
            sandbox.kill(child)
        if code != ExitCode.DONE:
            return []
        named: list[str] = json.loads((directory / "files.json").read_text(encoding="utf-8"))
        return named


def _mentions(path: Path, word: bytes) -> bool:
    with path.open("rb") as file:
        if path.stat().st_size == 0 or model_files.is_archive(file):
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(word) >= 0
