"""The model of a request: one file, a .zip, or a file with data files beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import flask
from werkzeug.datastructures import FileStorage

from service import files, model_files
from service.api.context import current
from service.api.uploads import received
from service.errors import BadRequest, TooLarge
from service.tables import File


@dataclasses.dataclass(frozen=True)
class Model:
    """What a job or a dry run is about; all of its files are kept."""

    file: File
    data: Mapping[str, str]
    """SHA-256 of each data file by its location."""


def from_ids(model_id: str, data_ids: Mapping[str, str]) -> Model:
    """A model of uploaded files.

    Raises:
        NotFound: a file that is not there, or was uploaded for another purpose.
        SecateurError: as `_checked`.
    """
    store = current().store
    model = files.find(store, model_id, "model")
    data = {location: files.find(store, file_id, "model_data", "model") for location, file_id in data_ids.items()}
    return _checked(model, data)


def from_form() -> Model:
    """The parts `model` and `model_data` of a form, kept; the file name of a data file is its location.

    Raises:
        BadRequest: a part that is no file, or a name that comes twice.
        SecateurError: as `_checked`.
    """
    parts: list[FileStorage] = flask.request.files.getlist("model_data")
    if "model_data" in flask.request.form:
        raise BadRequest("`model_data` is text, not a file; with curl: -F model_data=@model.onnx.data")
    names = [part.filename or "" for part in parts]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadRequest(f"two parts `model_data` are called {twice!r}; the name of each is its location in the model")
    model_files.check_locations(names)
    data = {name: received(part, "model_data") for name, part in zip(names, parts, strict=True)}
    return _checked(received(flask.request.files["model"], "model"), data)


def _checked(model: File, data: Mapping[str, File]) -> Model:
    """Refuse what cannot be laid out in a job's directory, or is too large there.

    Raises:
        ExternalDataRefused: locations outside the model's folder; data files beside a .zip.
        InvalidModel, ResourceLimit: as `service.model_files.check_archive`.
        TooLarge: more bytes than a model may have.
    """
    context = current()
    most = context.settings.max_upload_bytes
    model_files.check_locations(data.keys())
    total = model.bytes + sum(file.bytes for file in data.values())
    if total > most:
        raise TooLarge(f"the model and its data files have {total:,} bytes; at most {most:,} are taken")
    with context.blobs.open(model.sha256) as file:
        if model_files.is_archive(file):
            if data:
                raise BadRequest("the model is a .zip and there are data files beside it; pack them into the .zip")
            file.seek(0)
            model_files.check_archive(file, most)
    return Model(model, {location: data[location].sha256 for location in sorted(data)})
