"""Starts the parts of the service as processes, keeps them running, and stops them cleanly."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self, cast

import redis
import requests

from service import logs
from service.broker import private_redis
from service.errors import LaunchError
from service.reconciler import reconcile
from service.sandbox import Limits, Policy, launched, policies
from service.settings import Settings
from service.watchdog import watch
from service.webhooks import keep_delivering

_START_S = 60.0
_STOP_S = 20.0
_POLL_S = 0.1
_RESTART_PAUSE_S = 1.0
_UNLIMITED = Limits(open_files=0, network="off", files="off")


@dataclasses.dataclass
class Processes:
    """Child processes by name, in the order they were started; one that dies is started again."""

    log_dir: Path
    environ: Mapping[str, str]
    _commands: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    _running: dict[str, subprocess.Popen[bytes]] = dataclasses.field(default_factory=dict)

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start `command`; it writes to ``<name>.log``."""
        self._commands[name] = list(command)
        self.log_dir.mkdir(parents=True, exist_ok=True)
        with (self.log_dir / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                launched(command, _UNLIMITED),  # dies with us even when we are killed
                env=dict(self.environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches us alone; we stop the parts in order
            )

    def wait_until(self, name: str, ready: Callable[[], bool]) -> None:
        """Wait until the process `name` is ready.

        Raises:
            LaunchError: it died or took too long; names its log.
        """
        deadline = time.monotonic() + _START_S
        while not ready():
            if self._running[name].poll() is not None or time.monotonic() > deadline:
                raise LaunchError(f"the {name} did not start; see {self.log_dir / name}.log")
            time.sleep(_POLL_S)

    def pid(self, name: str) -> int:
        """Of the process `name`."""
        return self._running[name].pid

    def end(self, name: str) -> None:
        """SIGKILL to the process `name` and its group; it is then started again. For one that no longer does its work."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._running[name].pid, signal.SIGKILL)

    def keep(self, stop: threading.Event) -> None:
        """Start again whatever dies, until `stop`."""
        while not stop.wait(_POLL_S):
            for name, process in list(self._running.items()):
                if process.poll() is not None and not stop.wait(_RESTART_PAUSE_S):
                    self.start(name, self._commands[name])

    def stop(self) -> None:
        """SIGTERM in the order opposite to the start, SIGKILL to what does not end in time."""
        for process in reversed(self._running.values()):
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def up(settings: Settings, stop: threading.Event, ready: Callable[[str], None]) -> None:
    """Run web, worker and broker on this machine until `stop`; `ready` is told the address.

    Raises:
        LaunchError: another service runs on the same data, the port is taken, or a part does not start.
    """
    require_protections(settings)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    settings = dataclasses.replace(
        settings,
        data_dir=settings.data_dir.resolve(),
        cache_dir=settings.cache_dir.resolve(),
        port=_free_port(settings),
    )
    with _alone(settings.data_dir):
        own_redis = None if settings.redis_url else private_redis(settings.data_dir)
        if own_redis is not None:
            settings = dataclasses.replace(settings, redis_url=own_redis[1])
        with Processes(settings.data_dir / "logs", {**os.environ, **settings.to_env()}) as processes:
            if own_redis is not None:
                processes.start("redis", own_redis[0])
                processes.wait_until("redis", lambda: _redis_answers(settings.redis_url))
            processes.start("web", web_command())
            processes.start("worker", [sys.executable, "-m", "service.cli", "worker"])
            processes.wait_until("web", lambda: _web_answers(address(settings)))
            ready(address(settings))
            processes.keep(stop)


def work(settings: Settings, stop: threading.Event) -> None:
    """Run a worker and the reconciler until `stop`.

    The reconciler has this process to itself: a thread beside Celery's would be copied, locks and all, by its forks.
    """
    require_protections(settings)
    environ = {**os.environ, **settings.to_env()}
    with Processes(settings.data_dir / "logs", environ) as processes:
        processes.start("consumer", [sys.executable, "-m", "service.cli", "worker", "--consume"])
        logs.configure(settings.log_format)
        keepers = [threading.Thread(target=reconcile, args=(settings, stop), name="reconciler")]
        if settings.redis_url:
            consumer = functools.partial(processes.pid, "consumer"), functools.partial(processes.end, "consumer")
            keepers.append(threading.Thread(target=watch, args=(settings, stop, *consumer), name="watchdog"))
        if settings.webhooks == "on":
            keepers.append(threading.Thread(target=keep_delivering, args=(settings, stop), name="webhooks"))
        for keeper in keepers:
            keeper.start()
        processes.keep(stop)
        for keeper in keepers:
            keeper.join()


def require_protections(settings: Settings) -> None:
    """Refuse to take jobs where this machine does not protect itself as it must.

    Raises:
        Unprotected: says what is missing.
    """
    policies(cast("Policy", settings.sandbox_network), cast("Policy", settings.sandbox_files))


def web_command() -> list[str]:
    """The command line of the web server; its settings come with the environment."""
    return [sys.executable, "-m", "service.web_server"]


def address(settings: Settings) -> str:
    """Where the service answers."""
    return f"http://{f'[{settings.host}]' if ':' in settings.host else settings.host}:{settings.port}"


def stop_on_signals() -> threading.Event:
    """An event that SIGINT and SIGTERM set."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


@contextlib.contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    with (data_dir / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LaunchError(f"another `secateur up` runs on {data_dir}; stop it or give --data-dir") from None
        yield


def _free_port(settings: Settings) -> int:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise LaunchError(
                f"port {settings.port} is taken; give another with --port, or 0 for a free one"
            ) from error
        return int(probe.getsockname()[1])


def _redis_answers(url: str) -> bool:
    try:
        with contextlib.closing(redis.Redis.from_url(url)) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def _web_answers(url: str) -> bool:
    try:
        requests.get(f"{url}/livez", timeout=2)  # whatever it answers: 0.0.0.0 is no host that it trusts
    except requests.RequestException:
        return False
    return True
