"""The message broker. A message only says "look at this job"; the row is the truth, so a lost message costs seconds."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

import celery
import kombu.exceptions
import redis

from service.settings import Settings

TASK = "secateur.run"
_QUEUE = "secateur"
_LONGEST_JOB_S = 25 * 3600
_PUBLISH_S = 0.8
_LONGEST_SOCKET_PATH = 100
"""Unix allows 107 bytes."""
_log = logging.getLogger(__name__)


def make_celery(settings: Settings) -> celery.Celery:
    """The Celery application, on Redis when `settings` has one, on files in the data directory otherwise."""
    url = settings.redis_url or "filesystem://"
    app = celery.Celery("secateur", broker=_celery_url(url), set_as_current=False)
    app.conf.update(
        task_default_queue=_QUEUE,
        task_ignore_result=True,  # the row holds the result
        accept_content=["json"],  # a message never carries code
        task_acks_late=True,  # a worker that dies gives the message back; a duplicate finds the row taken
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,  # no job waits behind another in a worker's memory
        worker_concurrency=1,  # one job a device
        worker_cancel_long_running_tasks_on_connection_loss=False,  # True lost the running job at a Redis restart
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a worker waits for its broker for ever
        broker_connection_timeout=1.0,
        broker_transport_options=_transport_options(settings),
        worker_enable_remote_control=False,  # cancelling is a flag on the row, not a broadcast
        worker_hijack_root_logger=False,
    )
    return app


class Announcer:
    """Tells workers that a job waits.

    Args:
        app: the Celery application. It is used for nothing else: a publisher waits for a hanging Redis only so long.
    """

    def __init__(self, app: celery.Celery) -> None:
        self._app = app
        if "socket_timeout" in app.conf.broker_transport_options:
            app.conf.broker_transport_options |= {"socket_timeout": _PUBLISH_S, "socket_connect_timeout": _PUBLISH_S}

    def announce(self, job_id: str) -> bool:
        """Publish within about two seconds or not at all; the reconciler announces again what stays queued."""
        try:
            self._app.send_task(TASK, args=[job_id], retry=False, ignore_result=True)
        except (kombu.exceptions.KombuError, redis.RedisError, OSError) as error:
            _log.warning("job %s: the broker did not take the message (%s); it is announced again later", job_id, error)
            return False
        return True

    def reachable(self) -> bool:
        """Whether the broker answers."""
        try:
            with self._app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, timeout=2)
        except (kombu.exceptions.KombuError, redis.RedisError, OSError):
            return False
        return True


def private_redis(data_dir: Path) -> tuple[list[str], str] | None:
    """The command of a Redis of our own on a unix socket, and its URL; None where no redis-server is on PATH."""
    program = shutil.which("redis-server")
    if program is None:
        return None
    directory = data_dir / "redis"
    directory.mkdir(parents=True, exist_ok=True)
    socket = directory / "redis.sock"
    if len(str(socket)) > _LONGEST_SOCKET_PATH:
        socket = Path(tempfile.mkdtemp(prefix="secateur-")) / "redis.sock"
    socket.unlink(missing_ok=True)
    options = {
        "--port": "0",
        "--unixsocket": str(socket),
        "--unixsocketperm": "700",
        "--dir": str(directory),
        "--appendonly": "yes",  # without it a restart loses what waits
        "--appendfsync": "everysec",
        "--maxmemory-policy": "noeviction",
        "--loglevel": "warning",
    }
    return [program, *(word for option in options.items() for word in option)], f"unix://{socket}"


def _celery_url(url: str) -> str:
    return url.replace("unix://", "redis+socket://", 1)


def _transport_options(settings: Settings) -> dict[str, object]:
    if settings.redis_url:
        return {
            "visibility_timeout": _LONGEST_JOB_S,  # a longer job would be started again beside itself
            "unacked_restore_interval": 10,  # with throttle 1 a killed worker's message is back in 20 s instead of 90 s
            "unacked_restore_throttle": 1,
            "socket_connect_timeout": 1.0,
            "socket_timeout": 5.0,
            "socket_keepalive": True,
            "max_retries": 1,  # publishing must not hang when Redis is away
            "interval_start": 0.0,
            "interval_step": 0.1,
        }
    folder = settings.data_dir / "broker"
    for name in ("messages", "control"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return {
        "data_folder_in": str(folder / "messages"),
        "data_folder_out": str(folder / "messages"),
        "control_folder": str(folder / "control"),
        "polling_interval": 0.2,
    }
