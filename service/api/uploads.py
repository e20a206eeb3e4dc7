"""Files: streamed to disk, hashed as they arrive, capped. The same bytes again are the same file."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import IO, Any, cast, get_args

import flask
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import UnsupportedMediaType

from service import files
from service.api.context import current
from service.api.operations import BINARY, JSON, Answer, Operation
from service.api.parsing import query
from service.api.schemas import FileQuery, FileView, NoQuery, Purpose
from service.artifacts import BlobWriter
from service.errors import BadRequest, TooLarge
from service.retention import hold
from service.tables import File

_CHUNK_BYTES = 2**20
_LONGEST_NAME = 255
PURPOSES = get_args(Purpose)


class UploadRequest(flask.Request):
    """A request whose file parts go straight into the blob store, whatever their size."""

    def _get_file_stream(
        self,
        total_content_length: int | None,  # noqa: ARG002 - werkzeug's signature
        content_type: str | None,  # noqa: ARG002
        filename: str | None = None,  # noqa: ARG002
        content_length: int | None = None,  # noqa: ARG002
    ) -> IO[bytes]:
        writers = flask.g.setdefault("writers", [])
        for former in writers[-1:]:
            former.seal()  # parts come one after the other: a form of many files holds one open
        writer = current().blobs.writer()
        writers.append(writer)
        return cast("IO[bytes]", writer)


def drop_uncommitted(_: BaseException | None = None) -> None:
    """After a request: remove what was received and not kept."""
    for writer in flask.g.get("writers", ()):
        writer.close()


def accept_form(allowed: Collection[str], repeatable: Collection[str] = ()) -> None:
    """Raise the size limit to that of uploads and parse the form.

    Raises:
        UnsupportedMediaType: not a form.
        BadRequest: a part that is unknown or given twice.
    """
    if flask.request.mimetype != "multipart/form-data":
        found = flask.request.mimetype or "no Content-Type"
        raise UnsupportedMediaType(f"found {found}; send multipart/form-data")
    flask.request.max_content_length = current().settings.max_upload_bytes
    parts = [name for group in (flask.request.form, flask.request.files) for name, _ in group.items(multi=True)]
    for name in parts:
        if name not in allowed:
            raise BadRequest(f"the form has a part {name!r}; allowed are {', '.join(sorted(allowed))}")
        if name not in repeatable and parts.count(name) > 1:
            raise BadRequest(f"the form has the part {name!r} {parts.count(name)} times; send it once")


def received(part: FileStorage, purpose: Purpose) -> File:
    """Keep a file part.

    Raises:
        BadRequest: it is empty.
    """
    return keep(cast("BlobWriter", part.stream), purpose, f"the file in the part `{part.name}`", part.filename)[0]


def keep(
    writer: BlobWriter, purpose: Purpose, what: str, name: str | None = None, reserved: int = 0
) -> tuple[File, bool]:
    """Keep received bytes as a file; it, and whether it is new.

    Raises:
        BadRequest: there are none.
        QuotaExceeded: the tenant has too many.
    """
    if writer.size == 0:
        raise BadRequest(f"{what} is empty; send the bytes of the file")
    context, blob = current(), writer.seal()
    with hold(context.store, [blob.sha256]):
        writer.keep()
        return files.add(context.store, purpose, blob, context.settings.quotas[1], _shown(name), reserved)


def read_part(part: FileStorage) -> bytes:
    """The bytes of a file part that is no upload.

    Raises:
        TooLarge: more than a request may have beside its uploads.
    """
    most = current().settings.max_request_bytes
    writer = cast("BlobWriter", part.stream)
    if writer.size > most:
        raise TooLarge(f"the part `{part.name}` has {writer.size:,} bytes; at most {most:,} are taken")
    return writer.read_back()


def _shown(name: str | None) -> str | None:
    """A file's name as it is kept for people: the last part of a path, without what would break a line."""
    kept = "".join(letter for letter in re.split(r"[/\\]", name or "")[-1] if letter.isprintable())
    return kept[:_LONGEST_NAME] or None


def body_chunks(most: int) -> Iterator[bytes]:
    """The request's body piece by piece.

    Raises:
        TooLarge: there are more than `most` bytes. A request with exactly so many is good, also one without a length.
    """
    flask.request.max_content_length = most + 1
    received = 0
    while chunk := flask.request.stream.read(_CHUNK_BYTES):
        received += len(chunk)
        if received > most:
            break
        yield chunk
    if received > most or (flask.request.content_length or 0) > most:
        raise TooLarge(f"the body is larger than {most:,} bytes, the most that is taken here")


def post_file() -> ResponseReturnValue:
    """Multipart upload."""
    query(NoQuery)
    accept_form({"file", "purpose"})
    part, purpose = flask.request.files.get("file"), flask.request.form.get("purpose")
    if part is None:
        raise BadRequest("the form has no file in a part called `file`; with curl: -F file=@model.onnx")
    if purpose not in PURPOSES:
        raise BadRequest(f"`purpose` is {purpose!r}; it is {', '.join(PURPOSES)}")
    writer = cast("BlobWriter", part.stream)
    return _answer(*keep(writer, cast("Purpose", purpose), "the file in the part `file`", part.filename))


def put_file() -> ResponseReturnValue:
    """Raw upload: the body is the file."""
    wanted = query(FileQuery)
    with current().blobs.writer() as writer:
        for chunk in body_chunks(current().settings.max_upload_bytes):
            writer.write(chunk)
        return _answer(*keep(writer, wanted.purpose, "the body", wanted.filename))


def _answer(file: File, created: bool) -> ResponseReturnValue:
    view = FileView(
        id=file.id, sha256=file.sha256, bytes=file.bytes, purpose=cast("Purpose", file.purpose), name=file.name
    )
    return view.model_dump(), 201 if created else 200


_ANSWERS = {201: Answer("Kept", {JSON: FileView}), 200: Answer("The same bytes were here already", {JSON: FileView})}
_FORM: dict[str, Any] = {
    "type": "object",
    "properties": {"file": BINARY, "purpose": {"type": "string", "enum": list(PURPOSES)}},
    "required": ["file", "purpose"],
    "additionalProperties": False,
}
OPERATIONS = (
    Operation(
        "POST",
        "/v1/files",
        "uploadFile",
        "Upload a model or a data set as a form",
        post_file,
        _ANSWERS,
        (413, 415, 507),
        body={"multipart/form-data": _FORM},
    ),
    Operation(
        "PUT",
        "/v1/files",
        "putFile",
        "Upload a model or a data set as the request's body",
        put_file,
        _ANSWERS,
        (413, 507),
        body={"application/octet-stream": BINARY},
        query=FileQuery,
    ),
)
