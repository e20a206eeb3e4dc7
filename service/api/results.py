"""What a job says while it runs and what it gives back: events, front, files."""

from __future__ import annotations

import base64
import csv
import functools
import io
import json
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import flask
from flask.typing import ResponseReturnValue
from werkzeug.wsgi import FileWrapper

from service.api.context import Context, current
from service.api.follow import Mark, Stream, follow
from service.api.jobs import timestamp
from service.api.operations import BINARY, JSON, Answer, Operation
from service.api.parsing import query
from service.api.schemas import ArtifactList, ArtifactView, EventList, EventsQuery, EventView, Fronts, NoQuery
from service.errors import BadRequest, Conflict, NotFound
from service.jobs import TERMINAL
from service.store import Store
from service.tables import Artifact, Event

_EVENT_STREAM, _CSV = "text/event-stream", "text/csv"
_STREAM_EVENTS = 1000
_CHUNK_BYTES = 2**18
_MEDIA_TYPES = {
    ".json": JSON,
    ".html": "text/html",
    ".svg": "image/svg+xml",
    ".csv": _CSV,
    ".onnx": "application/octet-stream",
}
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_CSV_COLUMNS = (
    *("profile", "id", "best", "metric", "accuracy", "accuracy_low", "accuracy_high", "accuracy_delta", "n"),
    *("latency_ms", "latency_low_ms", "latency_high_ms", "latency_kind", "predicted_latency_ms", "speedup"),
    *(
        "predicted_speedup",
        "parameters",
        "macs",
        "bytes",
        "peak_memory_bytes",
        "compression_ratio",
        "theoretical_speedup",
        "artifact",
        "sha256",
    ),
)


def list_events(job_id: str) -> ResponseReturnValue:
    """Events as a JSON page, or as a stream for whoever accepts one."""
    wanted = query(EventsQuery)
    context, last = current(), _last_event_id()
    context.store.job(job_id)
    if flask.request.accept_mimetypes.best_match([JSON, _EVENT_STREAM]) == _EVENT_STREAM:
        return _stream(context, job_id, max(wanted.after, last))
    rows, more = context.store.events(job_id, wanted.after, wanted.limit)
    page = EventList(data=[_event(row) for row in rows], has_more=more)
    return flask.Response(page.model_dump_json(), content_type=JSON)


def _stream(context: Context, job_id: str, after: int) -> ResponseReturnValue:
    job = context.store.job(job_id)
    if job.status in TERMINAL and job.last_seq <= after:
        return "", 204  # tells an EventSource not to connect again
    more = functools.partial(_events_after, context.store, job_id)
    text, last, ended = more(after)
    if not ended:
        follow(Stream(job_id, Mark(last), more))
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return flask.Response(text, headers=headers, content_type=_EVENT_STREAM)


def _events_after(store: Store, job_id: str, after: int) -> tuple[bytes, int, bool]:
    """Events numbered above `after` as a stream has them, the number of the last one, and whether none will follow."""
    try:
        ended = store.job(job_id).status in TERMINAL  # before the events: those of its end are among them then
        rows, more = store.events(job_id, after, _STREAM_EVENTS)
    except NotFound:  # deleted meanwhile
        return b"", after, True
    lines = (f"id: {row.seq}\nevent: {row.body['type']}\ndata: {_event(row).model_dump_json()}\n\n" for row in rows)
    return "".join(lines).encode(), rows[-1].seq if rows else after, ended and not more


def _event(row: Event) -> EventView:
    return EventView(seq=row.seq, at=timestamp(row.at), **row.body)


def _last_event_id() -> int:
    text = flask.request.headers.get("Last-Event-ID", "0")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise BadRequest(f"Last-Event-ID is {text!r}; it is the number of the last event you have")
    return int(text)


def get_front(job_id: str) -> ResponseReturnValue:
    """Every target's points."""
    query(NoQuery)
    context = current()
    report = next((row for row in context.store.artifacts(job_id) if row.name == "report.json"), None)
    if report is None:
        status = context.store.job(job_id).status
        raise Conflict(f"the job is {status} and has no front; it has one when it succeeded", job_status=status)
    with context.blobs.open(report.sha256) as file:
        fronts = json.load(file)["fronts"]
    if flask.request.accept_mimetypes.best_match([JSON, _CSV]) == _CSV:
        return flask.Response(to_csv(fronts), content_type=f"{_CSV}; charset=utf-8")
    return flask.jsonify(fronts)


def to_csv(fronts: dict[str, Any]) -> str:
    """A row a point, the dense model first; text that a spreadsheet would take for a formula is quoted."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _CSV_COLUMNS)
    writer.writeheader()
    for front in fronts.values():
        second = front.get("rewrites")
        controls = [front["dense"], *([second] if second and second not in front["points"] else [])]
        for point in [*controls, *front["points"]]:
            writer.writerow({key: _inert(value) for key, value in _flat(point, front["best"]).items()})
    return text.getvalue()


def _flat(point: dict[str, Any], best: str | None) -> dict[str, Any]:
    accuracy, latency = point["accuracy"], point["latency_ms"]
    return {name: point[name] for name in _CSV_COLUMNS if name in point} | {
        "best": "yes" if point["id"] == best else "",
        "metric": accuracy["metric"],
        "accuracy": accuracy["value"],
        "accuracy_low": accuracy["low"],
        "accuracy_high": accuracy["high"],
        "accuracy_delta": accuracy["delta"],
        "n": accuracy["n"],
        "latency_ms": latency["value"],
        "latency_low_ms": latency["low"],
        "latency_high_ms": latency["high"],
        "latency_kind": latency["kind"],
        "predicted_latency_ms": point["predicted_latency_ms"]["value"],
    }


def _inert(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value


def list_artifacts(job_id: str) -> ResponseReturnValue:
    """The files of a job."""
    query(NoQuery)
    rows = current().store.artifacts(job_id)
    return ArtifactList(data=[_artifact(row) for row in rows]).model_dump()


def _artifact(row: Artifact) -> ArtifactView:
    url = flask.url_for("getArtifact", job_id=row.job_id, name=row.name)
    return ArtifactView(name=row.name, kind=row.kind, bytes=row.bytes, sha256=row.sha256, url=url)  # type: ignore[arg-type]


def get_artifact(job_id: str, name: str) -> ResponseReturnValue:
    """One file, whole or in parts. The name is looked up in the rows; it is never a path here."""
    query(NoQuery)
    context = current()
    row = next((row for row in context.store.artifacts(job_id) if row.name == name), None)
    if row is None:
        raise NotFound(f"job {job_id} has no file {name!r}; GET /v1/jobs/{job_id}/artifacts lists them")
    path = PurePosixPath(name)
    response = flask.Response(
        FileWrapper(context.blobs.open(row.sha256), _CHUNK_BYTES),
        content_type=_MEDIA_TYPES.get(path.suffix, "application/octet-stream"),
        direct_passthrough=True,
    )
    response.content_length = row.bytes
    response.set_etag(row.sha256)
    response.headers.set("Content-Disposition", "attachment", filename=path.name)
    environ = dict(flask.request.environ)
    if not _one_range():
        environ.pop("HTTP_RANGE", None)
    response.make_conditional(environ, accept_ranges=True, complete_length=row.bytes)
    response.headers["Repr-Digest"] = f"sha-256=:{base64.b64encode(bytes.fromhex(row.sha256)).decode()}:"
    return response


def _one_range() -> bool:
    """Whether there is a Range header that is served; others are ignored, as RFC 9110, 14.2, has it."""
    wanted = flask.request.range
    return flask.request.method == "GET" and wanted is not None and wanted.units == "bytes" and len(wanted.ranges) == 1


def _media(kinds: Sequence[str]) -> dict[str, Any]:
    return dict.fromkeys(kinds, BINARY)


_FILE = Answer("The file", _media(sorted(set(_MEDIA_TYPES.values()))), ("ETag", "Repr-Digest", "Content-Disposition"))
OPERATIONS = (
    Operation(
        "GET",
        "/v1/jobs/{job_id}/events",
        "listEvents",
        "What happened, numbered: a JSON page, or a stream by Accept",
        list_events,
        {
            200: Answer("Events in order", {JSON: EventList, _EVENT_STREAM: {"type": "string"}}),
            204: Answer("The stream is at its end"),
        },
        (404,),
        query=EventsQuery,
        headers={"Last-Event-ID": "Where a broken stream goes on"},
    ),
    Operation(
        "GET",
        "/v1/jobs/{job_id}/front",
        "getFront",
        "The accuracy/latency front of every target: JSON, or CSV by Accept",
        get_front,
        {200: Answer("Fronts by profile id", {JSON: Fronts, _CSV: {"type": "string"}})},
        (404, 409, 410, 422),
    ),
    Operation(
        "GET",
        "/v1/jobs/{job_id}/artifacts",
        "listArtifacts",
        "The files of a job",
        list_artifacts,
        {200: Answer("By name", {JSON: ArtifactList})},
        (404, 410, 422),
    ),
    Operation(
        "GET",
        "/v1/jobs/{job_id}/artifacts/{name}",
        "getArtifact",
        "Download a file",
        get_artifact,
        {200: _FILE, 206: _FILE, 304: Answer("Unchanged", headers=("ETag",))},
        (404, 410, 416, 422),
        headers={"Range": "Part of the file", "If-None-Match": "ETag of the copy you have"},
    ),
)
