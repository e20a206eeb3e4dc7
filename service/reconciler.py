"""Repairs what messages and dead workers leave: announces waiting jobs again, takes back jobs whose lease ended."""

from __future__ import annotations

import logging
import shutil
import threading

import sqlalchemy.exc

from service import checkpoints, resumable, retention
from service.artifacts import BlobStore
from service.broker import Announcer, make_celery
from service.claims import settle_lost
from service.settings import Settings
from service.store import Store

_DAY_S = 86_400.0
_log = logging.getLogger(__name__)


def sweep(store: Store, blobs: BlobStore, announcer: Announcer, settings: Settings) -> None:
    """One round. Several may run at once: every step is one transaction, and a message too many does no harm."""
    again = settle_lost(store, settings.max_attempts, settings.retention_days * _DAY_S)
    for job_id in [*again, *retention.unannounced(store, settings.republish_s)]:
        if not announcer.announce(job_id):
            break  # the broker is away; the next round tries again
    for job_id in retention.expire(store, settings.file_retention_days * _DAY_S):
        drop_directory(settings, blobs, job_id)
    retention.remove_orphans(store, blobs.remove)
    resumable.drop_overdue(store, blobs.storage)


def drop_directory(settings: Settings, blobs: BlobStore, job_id: str) -> None:
    """Remove a job's directory and checkpoints."""
    shutil.rmtree(settings.jobs_dir / job_id, ignore_errors=True)
    checkpoints.drop(blobs.storage, job_id)


def reconcile(settings: Settings, stop: threading.Event) -> None:
    """Sweep every ``sweep_s`` seconds until `stop`."""
    store, blobs = Store.open(settings), BlobStore.of(settings)
    announcer = Announcer(make_celery(settings))
    while not stop.wait(settings.sweep_s):
        try:
            sweep(store, blobs, announcer, settings)
        except sqlalchemy.exc.OperationalError as error:  # the database is away or busy; nothing is lost by waiting
            _log.warning("the reconciler waits: %s", error)
    store.close()
