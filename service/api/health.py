"""Whether the process answers, and whether everything it needs does."""

from __future__ import annotations

import flask
import sqlalchemy as sa
import sqlalchemy.exc
from flask.typing import ResponseReturnValue

from service.api.context import Context, current
from service.api.operations import JSON, Answer, Operation
from service.api.parsing import query
from service.api.schemas import Alive, Health, NoQuery
from service.errors import Unavailable

_EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


def livez() -> ResponseReturnValue:
    """The process answers."""
    query(NoQuery)
    return Alive(status="ok").model_dump()


def readyz() -> ResponseReturnValue:
    """Everything the service needs answers."""
    query(NoQuery)
    context = current()
    checks = {
        "database": _database_answers(context),
        "broker": context.announcer.reachable(),
        "storage": context.blobs.storage.works(),
    }
    if not all(checks.values()):
        away = ", ".join(name for name, works in checks.items() if not works)
        raise Unavailable(f"not ready: {away} does not answer", checks=checks)
    return flask.jsonify(Health(status="ok", checks=checks, sandbox=context.sandbox).model_dump())


def metrics() -> ResponseReturnValue:
    """For Prometheus."""
    query(NoQuery)
    return flask.Response(current().metrics.text(), content_type=_EXPOSITION)


def _database_answers(context: Context) -> bool:
    try:
        with context.store.reading() as session:
            session.execute(sa.text("SELECT 1"))
    except sqlalchemy.exc.OperationalError:
        return False
    return True


OPERATIONS = (
    Operation(
        "GET", "/livez", "isAlive", "Whether the process answers", livez, {200: Answer("Yes", {JSON: Alive})}, (422,)
    ),
    Operation(
        "GET",
        "/readyz",
        "isReady",
        "Whether database, broker and storage answer, and which protections hold around a job",
        readyz,
        {200: Answer("Yes", {JSON: Health})},
        (422,),
    ),
    Operation(
        "GET",
        "/metrics",
        "getMetrics",
        "Jobs by status, queue depth and age, attempts, expired leases, durations, requests",
        metrics,
        {200: Answer("The exposition format of Prometheus", {"text/plain": {"type": "string"}})},
        (422,),
    ),
)
