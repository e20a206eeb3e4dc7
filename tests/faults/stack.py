"""A service as production runs it: its parts are processes of their own, started again when they die."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import requests

from service.broker import private_redis
from service.settings import Settings
from tests.faults import processes
from tests.service.servers import Missing, free_port, postgres, wait_for

BACKENDS = ("sqlite+files", "sqlite+redis", "postgres+redis")
QUICK_CHILD = (sys.executable, str(Path(__file__).parents[1] / "service" / "quick_child.py"))
_REVIVE_S = 0.3
_WORKERS = 2


@dataclasses.dataclass
class Stack:
    """The parts of a running service by name."""

    settings: Settings
    commands: dict[str, Sequence[str]]
    logs: Path
    parts: dict[str, subprocess.Popen[bytes]] = dataclasses.field(default_factory=dict)
    absent: set[str] = dataclasses.field(default_factory=set)
    """Parts that stay away for now."""
    _down: threading.Event = dataclasses.field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Where the service answers."""
        return f"http://127.0.0.1:{self.settings.port}"

    def start(self, name: str) -> None:
        """Start one part; it writes to its log."""
        self.logs.mkdir(parents=True, exist_ok=True)
        with (self.logs / f"{name}.log").open("ab") as log:
            self.parts[name] = subprocess.Popen(
                self.commands[name],
                env={**os.environ, **self.settings.to_env()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def keep(self) -> None:
        """Start again whatever dies, until the stop."""
        while not self._down.wait(_REVIVE_S):
            for name, part in list(self.parts.items()):
                if part.poll() is not None and name not in self.absent and not self._down.is_set():
                    self.start(name)

    def ready(self) -> bool:
        """Whether the web server and all it needs answer."""
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"{self.url}/readyz", timeout=5).ok
        return False

    def family(self, name: str) -> list[int]:
        """The processes of a part, job children left out."""
        pids = [self.parts[name].pid, *processes.descendants(self.parts[name].pid)]
        return [pid for pid in pids if str(self.settings.jobs_dir) not in processes.command_line(pid)]

    def job_children(self) -> list[int]:
        """The processes that run a job now."""
        pids = [pid for part in self.parts.values() for pid in processes.descendants(part.pid)]
        return [pid for pid in pids if str(self.settings.jobs_dir) in processes.command_line(pid)]

    def kill(self, name: str) -> None:
        """Kill -9 of every process of a part, and of the job that it runs."""
        for pid in [self.parts[name].pid, *processes.descendants(self.parts[name].pid)]:
            processes.signal_safely(pid, signal.SIGKILL)
        self.parts[name].wait()

    def said(self, text: str) -> int:
        """How many lines of all logs contain `text`."""
        logs = [*self.logs.glob("*.log"), *(self.settings.data_dir / "logs").glob("*.log")]
        return sum(text in line for log in logs for line in log.read_text(errors="replace").splitlines())

    def stop(self) -> None:
        """End every part, the stopped ones too."""
        self._down.set()
        for name, part in reversed(self.parts.items()):
            for pid in self.family(name):
                processes.signal_safely(pid, signal.SIGCONT)
            part.terminate()
        for part in self.parts.values():
            try:
                part.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(part.pid, signal.SIGKILL)
                part.wait()


@contextlib.contextmanager
def running(
    backend: str, folder: Path, child: Sequence[str] = QUICK_CHILD, workers: int = _WORKERS, **options: Any
) -> Iterator[Stack]:
    """A service on one of `BACKENDS` with its data in `folder`; `options` are settings.

    Raises:
        Missing: the machine lacks a server.
    """
    defaults: dict[str, Any] = {"lease_s": 5.0, "sweep_s": 0.5, "republish_s": 2.0, "poll_s": 0.1}
    settings = Settings(
        **{
            **defaults,
            "data_dir": folder / "data",
            "cache_dir": folder / "cache",
            "port": free_port(),
            "child_command": tuple(child),
            "cancel_grace_s": 2.0,
            **options,
        }
    )
    command = [sys.executable, "-m", "service.cli"]
    commands: dict[str, Sequence[str]] = {"web": [*command, "web"]}
    commands |= {f"worker-{i + 1}": [*command, "worker"] for i in range(workers)}
    with contextlib.ExitStack() as stack:
        if backend.startswith("postgres"):
            url = stack.enter_context(postgres(folder / "postgres"))
            settings = dataclasses.replace(settings, database_url=url)
        if backend.endswith("redis"):
            settings.data_dir.mkdir(parents=True, exist_ok=True)
            found = private_redis(settings.data_dir)
            if found is None:
                raise Missing("no redis-server on PATH")
            settings, commands = dataclasses.replace(settings, redis_url=found[1]), {"redis": found[0], **commands}
        service = Stack(settings, commands, folder / "logs")
        stack.callback(service.stop)
        for name in commands:
            service.start(name)
        threading.Thread(target=service.keep, name="keeper", daemon=True).start()
        wait_for(service.ready, 120)
        yield service
