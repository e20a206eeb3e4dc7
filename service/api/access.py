"""Who asks: the tenant behind a request."""

from __future__ import annotations

import flask

from service import keys
from service.api.context import of_application
from service.api.operations import OPEN_PATHS
from service.tables import LOCAL_TENANT


def admit() -> None:
    """Find the tenant of the request; everything the views ask for is that tenant's alone.

    Raises:
        Unauthorized: a key is needed.
        RateLimited: too many requests.
    """
    flask.g.tenant = LOCAL_TENANT
    context, path = of_application(), flask.request.path
    if not context.settings.keys_required or path in OPEN_PATHS or path.startswith("/static/"):
        return
    flask.g.tenant = keys.tenant_of(context.store, flask.request.headers.get("Authorization"))
    flask.g.rate_headers = context.rate_limit.spend(flask.g.tenant)
