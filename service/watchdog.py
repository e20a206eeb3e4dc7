"""Sees that the consumer consumes: after a longer absence of Redis, Celery's may be connected and yet never ask for messages.

Measured: of a worker whose Redis was away for 30 s, no blocking read arrived again, though its timers did.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable

import sqlalchemy as sa

from service.broker import Announcer, make_celery
from service.database import Database
from service.jobs import ACTIVE, Status
from service.settings import Settings
from service.tables import Job

_LOOK_S = 1.0
_STALL_S = 4.0
"""An idle consumer takes a waiting job at once; restarting one without need costs two seconds and no job."""
_START_S = 15.0
"""What a fresh consumer is given to start in, on a busy machine."""
_log = logging.getLogger(__name__)


def owner(consumer_pid: int) -> str:
    """How the leases of a consumer's jobs begin."""
    return f"{socket.gethostname()}:{consumer_pid}:"


def watch(settings: Settings, stop: threading.Event, pid: Callable[[], int], restart: Callable[[], None]) -> None:
    """Restart the consumer when jobs have waited beside it, idle, while the broker answered all the time.

    Args:
        settings: of the worker.
        stop: ends it.
        pid: of the consumer that runs now.
        restart: ends the consumer, which holds no job; another one is started.
    """
    database, announcer = Database(settings.database), Announcer(make_celery(settings))
    since, watched = time.monotonic(), 0
    while not stop.wait(_LOOK_S):
        try:
            stalled = _waits_beside(database, owner(pid())) and announcer.reachable()
        except sa.exc.OperationalError as error:
            _log.warning("the watchdog waits: %s", error)
            stalled = False
        if watched != pid():
            watched, since = pid(), time.monotonic() + _START_S
        elif not stalled:
            since = max(since, time.monotonic())
        elif time.monotonic() - since > _STALL_S:
            _log.warning("jobs wait, the broker answers, and the consumer takes none: it is started again")
            restart()
    database.close()


def _waits_beside(database: Database, mine: str) -> bool:
    """Whether a job waits while the consumer whose leases begin with `mine` has none."""
    queued = sa.select(sa.literal(1)).where(Job.status == Status.QUEUED)
    held = sa.select(sa.literal(1)).where(Job.status.in_(ACTIVE), Job.lease_owner.startswith(mine, autoescape=True))
    with database.reading() as session:
        return session.scalar(queued.limit(1)) is not None and session.scalar(held.limit(1)) is None
