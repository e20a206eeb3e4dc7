"""Who asks: the tenant behind a request."""

from __future__ import annotations

import contextlib

import flask

from service import keys
from service.api.context import of_application
from service.api.operations import DOCUMENT_PATH, OPEN_PATHS
from service.errors import Unauthorized
from service.tables import LOCAL_TENANT, NOBODY


def admit() -> None:
    """Find the tenant of the request; everything the views ask for is that tenant's alone.

    Raises:
        Unauthorized: a key is needed.
        RateLimited: too many requests.
    """
    flask.g.tenant = LOCAL_TENANT
    context, path = of_application(), flask.request.path
    if not context.settings.keys_required:
        return
    given = flask.request.headers.get("Authorization")
    if path.startswith("/static/") or path in OPEN_PATHS:
        flask.g.tenant = NOBODY
        if path == DOCUMENT_PATH and given is not None:  # it lists the targets of whoever says who it is
            with contextlib.suppress(Unauthorized):
                flask.g.tenant = keys.tenant_of(context.store, given)
        return
    flask.g.tenant = keys.tenant_of(context.store, given)
    flask.g.rate_headers = context.rate_limit.spend(flask.g.tenant)
