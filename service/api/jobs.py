"""Jobs: submit, look at, list, cancel, delete."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from http import HTTPStatus
from typing import Any

import flask
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import FileStorage

from search.wire.request import JobSpec
from service import files, user_profiles
from service.api import models, problems
from service.api.context import current
from service.api.follow import Again, Mark, follow
from service.api.operations import BINARIES, BINARY, JSON, Answer, Operation
from service.api.parsing import from_json, idempotency_key, json_body, query
from service.api.schemas import (
    FileName,
    JobCreate,
    JobList,
    JobOptions,
    JobQuery,
    JobsQuery,
    JobView,
    NoQuery,
    Progress,
    Purpose,
    Urls,
)
from service.api.uploads import accept_form, read_part, received
from service.errors import BadRequest
from service.jobs import TERMINAL, Status
from service.reconciler import drop_directory
from service.retention import remove_orphans
from service.store import NewJob, Page
from service.tables import File, Job
from service.webhooks import require_public_name

_RETRY_AFTER_S = "1"


def post_job() -> ResponseReturnValue:
    """Submit: from uploaded files, or with the files in the same request."""
    query(NoQuery)
    key = idempotency_key()
    new = _from_form() if flask.request.mimetype == "multipart/form-data" else _from_json()
    context = current()
    job, created = context.store.submit(new, key, context.settings.quotas[0])
    if created:
        context.announcer.announce(
            job.id
        )  # the row is committed: without the message it only starts some seconds later
    response = _respond(job, 202)
    response.headers["Location"] = _url("getJob", job)
    response.headers["Retry-After"] = _RETRY_AFTER_S
    return response


def _from_json() -> NewJob:
    body, store = json_body(JobCreate, or_form=True), current().store
    model = models.from_ids(body.model, body.model_data)
    dataset = files.find(store, body.dataset, "dataset") if body.dataset is not None else None
    return _new(body, model, dataset)


def _from_form() -> NewJob:
    accept_form({"model", "model_data", "dataset", "spec"}, repeatable={"model_data"})
    parts, spec = flask.request.files, _spec_part()
    if "model" not in parts:
        raise BadRequest("the form has no file in a part called `model`; with curl: -F model=@model.onnx")
    if spec is None:
        raise BadRequest(
            """the form has no part called `spec`; with curl: -F 'spec={"profiles": ["host-cpu-onnxruntime"]}'"""
        )
    if "dataset" in flask.request.form:
        raise BadRequest("`dataset` is text, not a file; with curl: -F dataset=@data.npz")
    options = from_json(JobOptions, spec, "the part `spec`")
    _own_profiles(options)  # an unknown one is told before the files are kept
    model = models.from_form()
    dataset = received(parts["dataset"], "dataset") if "dataset" in parts else None
    return _new(options, model, dataset)


def _spec_part() -> str | bytes | None:
    """The part `spec`, as text or as a file."""
    given: FileStorage | None = flask.request.files.get("spec")
    if given is None:
        return flask.request.form.get("spec")
    if "spec" in flask.request.form:
        raise BadRequest("the form has the part `spec` as text and as a file; send it once")
    return read_part(given)


def _new(options: JobOptions, model: models.Model, dataset: File | None) -> NewJob:
    spec = json.loads(options.spec().to_json())
    return NewJob(
        spec=spec,
        metadata=options.metadata,
        model_sha256=model.file.sha256,
        model_data=model.data,
        user_profiles=_own_profiles(options),
        model_name=model.file.name,
        dataset_sha256=dataset.sha256 if dataset is not None else None,
        dataset_name=dataset.name if dataset is not None else None,
        request_id=flask.g.request_id,
        webhook_url=_webhook(options.webhook_url),
    )


def _webhook(url: str | None) -> str | None:
    if url is not None and current().settings.webhooks != "on":
        raise BadRequest("`webhook_url`: webhooks are off here; leave it out, or set SECATEUR_WEBHOOKS=on")
    if url is not None:
        require_public_name(url)
    return url


def _own_profiles(options: JobOptions) -> dict[str, dict[str, Any]]:
    context = current()
    return user_profiles.among(context.store, context.settings, options.profiles)


def list_jobs() -> ResponseReturnValue:
    """A page of jobs."""
    wanted = query(JobsQuery)
    start = _read_cursor(wanted.cursor) if wanted.cursor is not None else None
    rows, more = current().store.jobs(
        Page(status=wanted.status, profile=wanted.profile, limit=wanted.limit, after=start)
    )
    cursor = _cursor(rows[-1]) if more else None
    positions = current().store.queue_positions(rows)
    views = [view(job, positions.get(job.id)) for job in rows]
    return flask.Response(
        JobList(data=views, has_more=more, next_cursor=cursor).model_dump_json(),
        content_type=JSON,
    )


def get_job(job_id: str) -> ResponseReturnValue:
    """One job; 304 when it has not changed, at once or after the time that the client would wait."""
    wait_s = query(JobQuery).wait_s
    job, position = current().store.job_and_position(job_id)
    response = _answer(job, position, 200)
    if job.status not in TERMINAL:
        response.headers["Retry-After"] = _RETRY_AFTER_S
    response.make_conditional(flask.request)
    if response.status_code == HTTPStatus.NOT_MODIFIED and job.status not in TERMINAL and wait_s:
        follow(Again(job.id, Mark(job.last_seq, position, with_position=True), wait_s))
    return response


def cancel_job(job_id: str) -> ResponseReturnValue:
    """Cancel: what was found so far is kept."""
    query(NoQuery)
    store = current().store
    already = store.job(job_id).status == Status.CANCELLED
    return _respond(store.cancel(job_id), 200 if already else 202)


def delete_job(job_id: str) -> ResponseReturnValue:
    """Delete a finished job with its files."""
    query(NoQuery)
    context = current()
    context.store.delete(job_id)
    drop_directory(context.settings, context.blobs, job_id)
    remove_orphans(context.store, context.blobs.remove)
    return "", 204


def view(job: Job, queue_position: int | None) -> JobView:
    """The row as the wire shows it."""
    spec = JobSpec.from_json(json.dumps(job.spec))
    return JobView(
        id=job.id,
        model=_named(job, "model", job.model_sha256, job.model_name),
        dataset=_named(job, "dataset", job.dataset_sha256, job.dataset_name) if job.dataset_sha256 else None,
        status=Status(job.status),
        stage=job.stage,  # type: ignore[arg-type]  # only stages of the protocol reach the row
        progress=Progress(**job.progress),
        attempt=job.attempt,
        queue_position=queue_position,
        profiles=list(spec.profiles),
        objective=spec.objective,
        constraints=spec.constraints,
        search=spec.search,
        best=job.best,  # type: ignore[arg-type]  # pydantic reads the Point from JSON
        warnings=job.warnings,
        error=_error(job),  # type: ignore[arg-type]
        metadata=job.job_metadata,
        seed=spec.search.seed,
        created_at=timestamp(job.created_at),
        started_at=timestamp(job.started_at) if job.started_at is not None else None,
        finished_at=timestamp(job.finished_at) if job.finished_at is not None else None,
        expires_at=timestamp(job.expires_at) if job.expires_at is not None else None,
        urls=Urls(
            self=_url("getJob", job),
            events=_url("listEvents", job),
            cancel=_url("cancelJob", job),
            front=_url("getFront", job),
            artifacts=_url("listArtifacts", job),
        ),
    )


def _error(job: Job) -> dict[str, Any] | None:
    """What an answer with this problem would be: its status is that of its type."""
    if job.error is None:
        return None
    known = {"status": problems.status_of(job.error["type"]), "request_id": job.request_id or ""}
    return {**known, **job.error}


def _named(job: Job, purpose: Purpose, sha256: str, name: str | None) -> FileName:
    return FileName(id=files.id_of(job.tenant, purpose, sha256), name=name)


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _url(operation: str, job: Job) -> str:
    return flask.url_for(operation, job_id=job.id)


def _respond(job: Job, status: int) -> flask.Response:
    return _answer(job, current().store.queue_position(job), status)


def _answer(job: Job, queue_position: int | None, status: int) -> flask.Response:
    response = flask.Response(view(job, queue_position).model_dump_json(), status, content_type=JSON)
    response.set_etag(hashlib.sha256(response.get_data()).hexdigest())
    return response


def _cursor(job: Job) -> str:
    return f"{job.created_at!r}-{job.id}"


def _read_cursor(text: str) -> tuple[float, str]:
    """Whatever has the form that the document gives is a place between two jobs; nothing else comes so far."""
    moment, _, job_id = text.partition("-")
    return float(moment), job_id


_TAGGED = {JSON: JobView}
_FORM = {
    "type": "object",
    "properties": {"model": BINARY, "model_data": BINARIES, "dataset": BINARY, "spec": JobOptions},
    "required": ["model", "spec"],
    "additionalProperties": False,
}
OPERATIONS = (
    Operation(
        "POST",
        "/v1/jobs",
        "submitJob",
        "Start a job from uploaded files, or upload and start in one request",
        post_job,
        {202: Answer("Accepted; it will reach exactly one end", _TAGGED, ("Location", "Retry-After", "ETag"))},
        (404, 413, 415, 507),
        body={JSON: JobCreate, "multipart/form-data": _FORM},
        description="With an Idempotency-Key header (1 to 255 of A-Z a-z 0-9 . _ : -; a UUID, say) the same request "
        "again gives the same job for 24 hours; with another body it is refused.",
    ),
    Operation(
        "GET",
        "/v1/jobs",
        "listJobs",
        "Jobs, newest first",
        list_jobs,
        {200: Answer("A page", {JSON: JobList})},
        query=JobsQuery,
    ),
    Operation(
        "GET",
        "/v1/jobs/{job_id}",
        "getJob",
        "A job: where it is, what it found",
        get_job,
        {200: Answer("The job", _TAGGED, ("ETag",)), 304: Answer("Unchanged", headers=("ETag",))},
        (404, 422),
        query=JobQuery,
        headers={"If-None-Match": "ETag of the copy you have"},
    ),
    Operation(
        "POST",
        "/v1/jobs/{job_id}/cancel",
        "cancelJob",
        "Cancel; what was found so far is kept",
        cancel_job,
        {
            202: Answer("It ends within seconds", _TAGGED, ("ETag",)),
            200: Answer("Cancelled before", _TAGGED, ("ETag",)),
        },
        (404, 409, 422),
    ),
    Operation(
        "DELETE",
        "/v1/jobs/{job_id}",
        "deleteJob",
        "Delete a finished job and its files",
        delete_job,
        {204: Answer("Gone")},
        (404, 409, 422),
    ),
)
