"""The web application. Importing it does nothing; `create_app` makes one."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.resources
import re
import secrets
import threading
import time
from pathlib import Path

import flask
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import RequestURITooLarge

from service import logs, sandbox, user_profiles
from service.api import access, coding, health, jobs, problems, results, targets, tus, uploads
from service.api.context import Context, current, of_application
from service.api.operations import DOCUMENT_PATH, JSON, Answer, Operation, openapi
from service.api.parsing import query
from service.api.schemas import NoQuery
from service.artifacts import BlobStore
from service.broker import Announcer, make_celery
from service.errors import NotFound, UnknownCoding
from service.metrics import Metrics
from service.model_files import MOST_FILES
from service.ratelimit import RateLimit
from service.settings import Settings
from service.store import Store

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LONGEST_PATH = 8192
_WEB = Path(str(importlib.resources.files("service"))) / "web"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
}
OPERATIONS: tuple[Operation, ...] = (
    *uploads.OPERATIONS,
    *tus.OPERATIONS,
    *targets.OPERATIONS,
    *jobs.OPERATIONS,
    *results.OPERATIONS,
    *health.OPERATIONS,
)


def create_app(settings: Settings) -> flask.Flask:
    """The application over the rows and files of `settings`."""
    app = flask.Flask("service", static_folder=str(_WEB), static_url_path="/static")
    app.request_class = uploads.UploadRequest
    app.json.sort_keys = False  # type: ignore[attr-defined]  # fronts stay in the order of the request
    app.config.update(
        MAX_CONTENT_LENGTH=settings.max_request_bytes,  # routes that take uploads raise it
        MAX_FORM_MEMORY_SIZE=settings.max_request_bytes,
        MAX_FORM_PARTS=MOST_FILES + 16,
        TRUSTED_HOSTS=list(settings.trusted_hosts),
    )
    store = Store.open(settings)
    app.extensions["secateur"] = Context(
        settings,
        store,
        BlobStore.of(settings),
        Announcer(make_celery(settings)),
        threading.BoundedSemaphore(settings.max_waiting_inspections),
        sandbox.holds(),
        RateLimit(settings),
        Metrics(store),
    )
    problems.register(app)
    app.before_request(_admit)
    app.after_request(_finish)
    app.teardown_request(uploads.drop_uncommitted)
    for operation in OPERATIONS:
        app.add_url_rule(
            operation.rule, operation.id, operation.view, methods=[operation.method], provide_automatic_options=False
        )
    _add_pages(app, settings)
    return app


def of(app: flask.Flask) -> Context:
    """What the views of `app` work with."""
    context: Context = app.extensions["secateur"]
    return context


def _add_pages(app: flask.Flask, settings: Settings) -> None:
    def document() -> ResponseReturnValue:
        query(NoQuery)
        known = [profile.id for profile in user_profiles.listed(current().store, settings)]
        root = flask.request.root_path or "/"
        webhooks = settings.webhooks == "on"
        return openapi(table, _version(), known, root=root, secured=settings.keys_required, webhooks=webhooks)

    released = coding.release(_WEB)

    def page(name: str) -> ResponseReturnValue:
        text = (_WEB / name).read_text(encoding="utf-8").replace('="static/', f'="static/{released}/')
        response = flask.Response(text, content_type="text/html; charset=utf-8")
        response.headers["Cache-Control"] = "no-cache"
        response.set_etag(hashlib.sha256(text.encode()).hexdigest())
        return response.make_conditional(flask.request)

    def asset(release: str, name: str) -> ResponseReturnValue:
        response = flask.send_from_directory(_WEB, name)  # another release's page may still ask: it gets today's
        return coding.kept_for_good(response) if release == released else response

    operation = Operation(
        "GET",
        DOCUMENT_PATH,
        "getDocument",
        "This document",
        document,
        {200: Answer("OpenAPI 3.1", {JSON: {"type": "object"}})},
        (422,),
    )
    table = (*OPERATIONS, operation)
    app.add_url_rule(operation.rule, operation.id, document, methods=["GET"], provide_automatic_options=False)
    rule = "/static/<release>/<path:name>"
    app.add_url_rule(rule, "asset", asset, methods=["GET"], provide_automatic_options=False)
    app.add_url_rule("/", "index", lambda: page("index.html"), methods=["GET"], provide_automatic_options=False)
    app.add_url_rule("/docs", "docs", lambda: page("docs.html"), methods=["GET"], provide_automatic_options=False)


def _version() -> str:
    try:
        return importlib.metadata.version("secateur")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "0+checkout"


def _admit() -> None:
    given = flask.request.headers.get("X-Request-ID", "")
    flask.g.request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
    flask.g.began = time.monotonic()
    logs.bind(request_id=flask.g.request_id)
    if len(flask.request.full_path) > _LONGEST_PATH:
        raise RequestURITooLarge(f"paths and queries have up to {_LONGEST_PATH} characters here")
    if "\x00" in flask.request.path:  # no name has one, and PostgreSQL cannot be asked for it
        raise NotFound("nothing has such a name")
    coded = flask.request.headers.get("Content-Encoding", "identity").strip().lower()
    if coded not in {"", "identity"}:
        raise UnknownCoding(f"the body is coded as {coded!r}; send it as it is")
    coding.read_tags()
    access.admit()


def _finish(response: flask.Response) -> flask.Response:
    response.headers["X-Request-ID"] = flask.g.get("request_id", "")
    response.headers.update(flask.g.get("rate_headers", {}))
    _note(response.status_code)
    coding.compress(response)
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _note(status: int) -> None:
    """Count the request, and leave an audit line when it changed something or was refused for its key."""
    request, began = flask.request, flask.g.get("began")
    operation = request.endpoint or "unknown"
    if began is not None:
        of_application().metrics.answered(operation, request.method, status, time.monotonic() - began)
    if status == 401 or (request.method not in {"GET", "HEAD", "OPTIONS"} and status < 400):
        thing = " ".join(str(value) for value in (request.view_args or {}).values())
        tenant = flask.g.get("tenant", "")
        logs.audit.info("%s %s: %d, tenant %s, from %s", operation, thing, status, tenant, request.remote_addr)
