"""The Celery side: a task that runs one attempt at a job, and the worker process around it."""

from __future__ import annotations

import logging
import multiprocessing.sharedctypes
import os
import socket
from collections.abc import Callable

import celery
from celery import signals

from service import logs, watchdog
from service.artifacts import BlobStore
from service.broker import TASK, Announcer, make_celery
from service.claims import claim
from service.jobs import Status
from service.settings import Settings
from service.store import Store
from service.supervisor import Attempt

_log = logging.getLogger(__name__)


def run_job(settings: Settings, job_id: str, stopping: Callable[[], bool]) -> Status | None:
    """Claim a job and run one attempt; None when there was nothing to take or another attempt took it over."""
    store = Store(settings.database)
    try:
        owner = f"{watchdog.owner(os.getppid())}{os.getpid()}"  # a pool process is a child of its consumer
        taken = claim(store, job_id, owner, settings.lease_s, settings.max_attempts)
        if taken is None:  # delivered twice, cancelled, or finished: the row says so, and that is all there is to do
            return None
        hold, job = taken
        with logs.bound(job_id=job.id, attempt=job.attempt, request_id=job.request_id):
            logs.audit.info("attempt begins")
            status = Attempt(settings, BlobStore.of(settings), hold, job, stopping).run()
            logs.audit.info("attempt ends: %s", status or "lost")
            return status
    finally:
        store.close()


def make_worker(settings: Settings) -> celery.Celery:
    """The Celery application with its task; start it with ``worker_main``."""
    app = make_celery(settings)
    announcer = Announcer(make_celery(settings))
    # Shared with the pool process by fork. No lock: a pool process killed while holding one would block the stop.
    stop_flag = multiprocessing.sharedctypes.RawValue("b", 0)

    def stop(**_: object) -> None:
        stop_flag.value = 1

    def run(job_id: str) -> None:
        try:
            status = run_job(settings, job_id, lambda: bool(stop_flag.value))
        except BaseException:  # noqa: BLE001 - one escaping MemoryError or SystemExit stops the worker at every redelivery
            _log.exception("job %s: the attempt broke off; its lease will end and it runs again", job_id)
        else:
            if status is Status.QUEUED and not stop_flag.value:
                announcer.announce(job_id)

    signals.worker_shutting_down.connect(stop, weak=False)
    app.task(run, name=TASK)
    return app


def consume(settings: Settings) -> None:
    """Take jobs until told to stop; a running job goes back to the queue with its finished units of work."""
    logs.configure(settings.log_format)
    name = f"secateur-{os.getpid()}@{socket.gethostname()}"
    arguments = ["worker", "--pool=prefork", "--concurrency=1", "--without-gossip", "--without-mingle"]
    make_worker(settings).worker_main([*arguments, "--without-heartbeat", "--loglevel=WARNING", f"--hostname={name}"])
