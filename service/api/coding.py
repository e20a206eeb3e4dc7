"""Answers on their way out: text is compressed for whoever takes it, and the page's files may be kept for good."""

from __future__ import annotations

import gzip
import hashlib
from http import HTTPStatus
from pathlib import Path

import flask

_TEXT = ("text/", "application/json", "image/svg+xml")
_LEAST_BYTES = 1024
_LEVEL = 5
_MARK = '+gzip"'
"""Ends the tag of a compressed answer: its bytes are others than those of the tag alone."""
_FOR_GOOD_S = 365 * 86_400


def read_tags() -> None:
    """Take the tags of compressed answers for those of the answers, in the request's If-None-Match."""
    tags = flask.request.environ.get("HTTP_IF_NONE_MATCH", "")
    if _MARK in tags:
        flask.request.environ["HTTP_IF_NONE_MATCH"] = tags.replace(_MARK, '"')
        flask.g.coded = True


def compress(response: flask.Response) -> None:
    """Compress a text. Files of jobs stay as they are: their tag is a digest, and parts of them are served."""
    if response.status_code == HTTPStatus.NOT_MODIFIED and flask.g.get("coded"):
        _mark(response)
    kind = response.mimetype or ""
    if response.status_code != HTTPStatus.OK or not kind.startswith(_TEXT) or kind == "text/event-stream":
        return
    if flask.request.endpoint == "getArtifact":
        return
    response.vary.add("Accept-Encoding")
    if not flask.request.accept_encodings.quality("gzip"):
        return
    response.direct_passthrough = False
    data = response.get_data()
    if len(data) < _LEAST_BYTES:
        return
    response.set_data(gzip.compress(data, _LEVEL, mtime=0))
    response.headers["Content-Encoding"] = "gzip"
    _mark(response)


def _mark(response: flask.Response) -> None:
    tag, weak = response.get_etag()
    if tag is not None:
        response.set_etag(tag + _MARK[:-1], bool(weak))


def release(folder: Path) -> str:
    """What stands for the contents of all files of a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(path.name.encode() + path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()[:12]


def kept_for_good(response: flask.Response) -> flask.Response:
    """Let caches keep an answer whose address changes with its contents."""
    response.headers["Cache-Control"] = f"public, max-age={_FOR_GOOD_S}, immutable"
    return response
