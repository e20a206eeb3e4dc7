"""Every answer that is not 2xx or 3xx is RFC 9457 problem+json, the framework's own too."""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import flask
import sqlalchemy.exc
from werkzeug.exceptions import HTTPException, RequestTimeout

from hwprofiles.errors import ProfileError, UnknownProfile
from search.wire import errors as job_errors
from search.wire.errors import SecateurError
from service.errors import BadRequest, InsufficientStorage, OutOfMemory, ServiceError, Unavailable, WorkerLost

MEDIA_TYPE = "application/problem+json"
_log = logging.getLogger(__name__)

_TYPES = {404: "not-found", 409: "conflict-state", 410: "expired", 413: "too-large", 503: "service-unavailable"}
_JOB_STATUS: dict[str, int] = {
    **{error.type: error.status for error in (WorkerLost, OutOfMemory)},
    job_errors.InternalError.type: 500,
    job_errors.DeadlineExceeded.type: 503,
}


def register(app: flask.Flask) -> None:
    """Turn every error of `app` into a problem."""
    app.register_error_handler(HTTPException, _from_http)
    app.register_error_handler(SecateurError, _from_ours)
    app.register_error_handler(ProfileError, _from_profile)
    app.register_error_handler(sqlalchemy.exc.OperationalError, _from_database)
    app.register_error_handler(OSError, _from_os)
    app.register_error_handler(Exception, _from_fault)


def answer(status: int, problem: dict[str, Any], headers: Mapping[str, str] | None = None) -> flask.Response:
    """A problem as a response."""
    body = {"status": status, **problem, "request_id": flask.g.get("request_id", "")}
    return flask.Response(json.dumps(body), status, dict(headers or {}), content_type=MEDIA_TYPE)


def _from_http(error: HTTPException) -> flask.Response:
    if error.response is not None:  # a redirect
        return flask.make_response(error.response)
    status = error.code or 500
    detail = error.description or HTTPStatus(status).phrase
    if status == 404:
        detail = (
            f"there is nothing at {flask.request.path}; GET /openapi.json lists what there is, GET /docs explains it"
        )
    kind = _TYPES.get(status, "internal" if status >= 500 else "validation-error")
    problem = {
        "type": kind,
        "title": HTTPStatus(status).phrase,
        "detail": detail,
    }
    kept = {name: value for name, value in error.get_headers() if name in {"Allow", "Retry-After", "Content-Range"}}
    return answer(status, problem, kept)


def _from_ours(error: SecateurError) -> flask.Response:
    if isinstance(error, ServiceError):
        return answer(error.status, error.to_dict(), error.headers)
    return answer(status_of(error.type), error.to_dict())


def status_of(kind: str) -> int:
    """The HTTP status of an error of a job by its type: 422 where the upload or the request is to blame."""
    return _JOB_STATUS.get(kind, 422)


def _from_profile(error: ProfileError) -> flask.Response:
    known = {"known": list(error.known)} if isinstance(error, UnknownProfile) else {}
    return _from_ours(BadRequest(str(error), **known))


def _from_database(error: sqlalchemy.exc.OperationalError) -> flask.Response:
    _log.error("request %s: %s", flask.g.get("request_id", ""), error)
    if "full" in str(error.orig):
        return _from_ours(InsufficientStorage("the disk of the database is full; free some space, then try again"))
    return _from_ours(Unavailable("the database does not answer; try again shortly"))


def _from_os(error: OSError) -> flask.Response:
    if error.errno == errno.EAGAIN:  # the receive timeout of `service.web_server`
        return _from_http(RequestTimeout("the client fell silent in the middle of its request; send it again"))
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return _from_ours(
            InsufficientStorage("the disk is full; delete jobs that are no longer needed, then try again")
        )
    return _from_fault(error)


def _from_fault(error: Exception) -> flask.Response:
    _log.error("request %s failed", flask.g.get("request_id", ""), exc_info=error)
    problem = {
        "type": "internal",
        "title": "Internal error",
        "detail": "The service made a mistake; please report it with the request_id.",
        "retryable": False,
    }
    return answer(500, problem)
