"""Resumable uploads: tus 1.0 (https://tus.io) with creation, termination, checksum and expiration.

Every PATCH becomes a part in the storage, so that the next one may come to another web server. The row's compare-and-set
on the offset decides which of two concurrent ones counts.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import email.utils
import hashlib
import secrets
import tempfile
from pathlib import Path
from typing import cast

import flask
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import ClientDisconnected, UnsupportedMediaType

from service import resumable
from service.api.context import current
from service.api.operations import BINARY, JSON, Answer, Operation
from service.api.parsing import query
from service.api.schemas import NoQuery, Purpose, UploadView
from service.api.uploads import PURPOSES, body_chunks, keep
from service.errors import BadRequest, ChecksumMismatch, TooLarge, UnknownChecksum, WrongTusVersion
from service.tables import Upload

_VERSION = "1.0.0"
_CHUNK_BYTES = 2**20
_OFFSET_TYPE = "application/offset+octet-stream"
_ALGORITHMS = ("md5", "sha1", "sha256")


def tus_options() -> ResponseReturnValue:
    """What this server can do."""
    query(NoQuery)
    return (
        "",
        204,
        {
            "Tus-Resumable": _VERSION,
            "Tus-Version": _VERSION,
            "Tus-Extension": "creation,termination,checksum,expiration",
            "Tus-Checksum-Algorithm": ",".join(_ALGORITHMS),
            "Tus-Max-Size": str(current().settings.max_upload_bytes),
        },
    )


def create_upload() -> ResponseReturnValue:
    """Begin."""
    query(NoQuery)
    _require_version()
    context, size = current(), _number("Upload-Length")
    if size > context.settings.max_upload_bytes:
        raise TooLarge(f"Upload-Length is {size}; at most {context.settings.max_upload_bytes} are allowed")
    metadata = flask.request.headers.get("Upload-Metadata", "")
    lifetime_s, most = 3600 * context.settings.upload_hours, context.settings.quotas[1]
    upload = resumable.begin(context.store, _purpose(metadata), size, metadata, lifetime_s, most)
    response = _answer(upload, 201)
    response.headers["Location"] = flask.url_for("getUpload", upload_id=upload.id)
    return response


def get_upload(upload_id: str) -> ResponseReturnValue:
    """How far it is. HEAD is what tus clients ask; GET also says which file it became."""
    query(NoQuery)
    if "Tus-Resumable" in flask.request.headers:
        _require_version()
    upload = _finished(resumable.find(current().store, upload_id))
    view = UploadView(id=upload.id, bytes=upload.bytes, received=upload.received, file=upload.file_id)
    response = _answer(upload, 200, view.model_dump_json())
    response.headers["Upload-Length"] = str(upload.bytes)
    response.headers["Upload-Metadata"] = upload.upload_metadata
    return response


def patch_upload(upload_id: str) -> ResponseReturnValue:
    """Go on: what arrived is kept, also when the connection breaks."""
    query(NoQuery)
    _require_version()
    if flask.request.mimetype != _OFFSET_TYPE:
        raise UnsupportedMediaType(f"found {flask.request.mimetype or 'no Content-Type'}; send {_OFFSET_TYPE}")
    context, offset = current(), _number("Upload-Offset", least=0)
    upload = resumable.find(context.store, upload_id)
    resumable.require_offset(upload, offset)
    part, size = _receive(upload.bytes - offset)
    try:
        if size:
            key = f"uploads/{upload.id}/{offset:020d}-{secrets.token_hex(4)}"
            context.blobs.storage.adopt(part, key)
            upload = resumable.advance(context.store, context.blobs.storage, upload.id, offset, size, key)
    finally:
        part.unlink(missing_ok=True)
    return _answer(_finished(upload), 204)


def delete_upload(upload_id: str) -> ResponseReturnValue:
    """Give up: what arrived is removed."""
    query(NoQuery)
    _require_version()
    context = current()
    resumable.drop(context.store, context.blobs.storage, resumable.find(context.store, upload_id))
    return "", 204, {"Tus-Resumable": _VERSION}


def _receive(most: int) -> tuple[Path, int]:
    """The body in a file of its own, at most `most` bytes, and how many there are."""
    checksum, wanted = _checksum()
    received = 0
    with tempfile.NamedTemporaryFile(dir=current().blobs.incoming, delete=False) as file:
        path = Path(file.name)
        try:
            for chunk in body_chunks(most):
                file.write(chunk)
                checksum.update(chunk)
                received += len(chunk)
        except (ClientDisconnected, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None and received == 0:
                raise
            wanted = wanted and b""  # half a part has another checksum: then it does not count
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    if wanted is not None and checksum.digest() != wanted:
        path.unlink(missing_ok=True)
        raise ChecksumMismatch("Upload-Checksum is not that of the bytes that arrived; send them again")
    return path, received


def _finished(upload: Upload) -> Upload:
    """Make the file of an upload whose bytes are all here."""
    context = current()
    if upload.file_id is not None or upload.received < upload.bytes:
        return upload
    with context.blobs.writer() as writer:
        for key in upload.parts:
            with context.blobs.storage.open(key) as part:
                while chunk := part.read(_CHUNK_BYTES):
                    writer.write(chunk)
        name = _metadata(upload.upload_metadata).get("filename")
        file, _ = keep(writer, cast("Purpose", upload.purpose), "the upload", name, reserved=upload.bytes)
    return resumable.finish(context.store, context.blobs.storage, upload.id, file.id)


def _answer(upload: Upload, status: int, body: str = "") -> flask.Response:
    response = flask.Response(body, status, content_type=JSON if body else None)
    response.headers["Tus-Resumable"] = _VERSION
    response.headers["Upload-Offset"] = str(upload.received)
    response.headers["Upload-Expires"] = email.utils.formatdate(upload.expires_at, usegmt=True)
    response.headers["Cache-Control"] = "no-store"
    return response


def _require_version() -> None:
    found = flask.request.headers.get("Tus-Resumable", "")
    if found != _VERSION:
        raise WrongTusVersion(f"Tus-Resumable is {found!r}; send {_VERSION}")


def _number(header: str, least: int = 1) -> int:
    text = flask.request.headers.get(header, "")
    if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) >= least):
        raise BadRequest(f"{header} is {text!r}; send a number of bytes, {least} or more")
    return int(text)


def _purpose(metadata: str) -> Purpose:
    purpose = _metadata(metadata).get("purpose")
    if purpose not in PURPOSES:
        known = ", ".join(f"{base64.b64encode(name.encode()).decode()} ({name})" for name in PURPOSES)
        raise BadRequest(f"Upload-Metadata needs `purpose`: {known}")
    return cast("Purpose", purpose)


def _metadata(text: str) -> dict[str, str]:
    """Upload-Metadata, ``key <base64>`` and commas, as far as it can be read as text."""
    found = {}
    for key, _, value in (pair.strip().partition(" ") for pair in text.split(",")):
        with contextlib.suppress(binascii.Error, UnicodeDecodeError):
            found[key] = base64.b64decode(value, validate=True).decode()
    return found


def _checksum() -> tuple[hashlib._Hash, bytes | None]:
    text = flask.request.headers.get("Upload-Checksum")
    if text is None:
        return hashlib.sha256(), None
    algorithm, _, digest = text.partition(" ")
    if algorithm not in _ALGORITHMS:
        raise UnknownChecksum(f"Upload-Checksum names {algorithm!r}; use {', '.join(_ALGORITHMS)}")
    checksum = hashlib.new(algorithm, usedforsecurity=False)
    with contextlib.suppress(binascii.Error):
        wanted = base64.b64decode(digest, validate=True)
        if len(wanted) == checksum.digest_size:
            return checksum, wanted
    raise UnknownChecksum(f"Upload-Checksum is not {algorithm} and its {checksum.digest_size} bytes in base64")


_TUS = {"Tus-Resumable": "Version of tus"}
_OFFSET = ("Tus-Resumable", "Upload-Offset", "Upload-Expires")
OPERATIONS = (
    Operation(
        "OPTIONS",
        "/v1/uploads",
        "describeUploads",
        "What the tus server can do",
        tus_options,
        {204: Answer("In its headers", headers=("Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Max-Size"))},
        (422,),
    ),
    Operation(
        "POST",
        "/v1/uploads",
        "createUpload",
        "Begin a resumable upload (tus 1.0)",
        create_upload,
        {201: Answer("Send the bytes to Location", headers=("Location", *_OFFSET))},
        (412, 413, 422, 507),
        headers={
            **_TUS,
            "Upload-Length": "Bytes of the whole file",
            "Upload-Metadata": "`purpose` and its base64, then what you like",
        },
    ),
    Operation(
        "GET",
        "/v1/uploads/{upload_id}",
        "getUpload",
        "How far an upload is, and which file it became",
        get_upload,
        {200: Answer("The upload", {JSON: UploadView}, (*_OFFSET, "Upload-Length"))},
        (404, 410, 412, 422, 507),
    ),
    Operation(
        "PATCH",
        "/v1/uploads/{upload_id}",
        "continueUpload",
        "Send the bytes from Upload-Offset on",
        patch_upload,
        {204: Answer("They are kept", headers=_OFFSET)},
        (404, 409, 410, 412, 413, 415, 460, 507),
        body={_OFFSET_TYPE: BINARY},
        headers={**_TUS, "Upload-Offset": "Where these bytes start"},
        description="An Upload-Checksum header (md5, sha1 or sha256, and the base64 digest of these bytes) is checked: "
        "bytes that do not fit it answer 460 and do not count.",
    ),
    Operation(
        "DELETE",
        "/v1/uploads/{upload_id}",
        "deleteUpload",
        "Give an upload up",
        delete_upload,
        {204: Answer("Gone")},
        (404, 410, 412, 422),
        headers=_TUS,
    ),
)
