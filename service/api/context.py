"""What a view needs: the settings, the rows, the blobs and the broker of the application it runs in."""

from __future__ import annotations

import dataclasses
import threading
from typing import cast

import flask

from service.artifacts import BlobStore
from service.broker import Announcer
from service.metrics import Metrics
from service.ratelimit import RateLimit
from service.settings import Settings
from service.store import Store


@dataclasses.dataclass(frozen=True)
class Context:
    """Made once an application, by `service.app.create_app`."""

    settings: Settings
    store: Store
    blobs: BlobStore
    announcer: Announcer
    inspections: threading.BoundedSemaphore
    """Dry runs at once; more would starve the jobs."""
    sandbox: dict[str, bool]
    rate_limit: RateLimit
    metrics: Metrics


def current() -> Context:
    """The context of the running application; its store shows what the tenant of this request owns, and nothing else."""
    context = of_application()
    return dataclasses.replace(context, store=context.store.of(flask.g.tenant))


def of_application() -> Context:
    """The context before it is known who asks."""
    return cast("Context", flask.current_app.extensions["secateur"])
