"""Real servers for the tests, private to one test run: PostgreSQL and Redis."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flask
import sqlalchemy as sa
import uvicorn

from service import web_server
from service.app import of
from service.changes import Changes
from service.front import Front
from service.settings import Settings

_WAIT_S = 60.0


class Missing(Exception):
    """The machine has no such server; the message says which."""


def wait_for(ready: Callable[[], Any], timeout_s: float = _WAIT_S, pause_s: float = 0.05) -> Any:
    """Whatever true value `ready` comes to give.

    Raises:
        TimeoutError: it gave none within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := ready():
            return found
        time.sleep(pause_s)
    raise TimeoutError(f"waited {timeout_s} s in vain for {ready}")


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def web(app: flask.Flask, settings: Settings) -> Iterator[str]:
    """The web server over `app`, in a thread of this process; its address."""
    port = free_port()
    front = Front(app, settings, Changes(of(app).store))
    options = {**web_server.options(settings), "port": port, "timeout_graceful_shutdown": 1}
    server = uvicorn.Server(uvicorn.Config(front, **options))
    thread = threading.Thread(target=server.run, name="web")
    thread.start()
    wait_for(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
        front.close()


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL server with its data in `folder`; its SQLAlchemy URL.

    Raises:
        Missing: no server programs.
    """
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = str(programs[-1]) if programs else shutil.which("initdb")
    if initdb is None:
        raise Missing("no PostgreSQL server programs on this machine")
    folder.mkdir(parents=True, exist_ok=True)
    user = "nobody" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
    if user is not None:
        for path in (folder, *folder.parents):
            if path.stat().st_mode & 0o001 == 0:  # pytest's folders let nobody else through
                path.chmod(path.stat().st_mode | 0o011)
        shutil.chown(folder, user)
    port, data = free_port(), folder / "data"
    run = [initdb, "-D", str(data), "-U", "secateur", "--auth=trust", "--no-sync"]
    subprocess.run(run, check=True, capture_output=True, user=user, cwd=folder)
    command = [str(Path(initdb).with_name("postgres")), "-D", str(data), "-p", str(port), "-k", str(folder), "-F"]
    with subprocess.Popen(command, user=user, cwd=folder, stderr=subprocess.DEVNULL) as server:
        try:
            url = f"postgresql+psycopg://secateur@127.0.0.1:{port}/postgres"
            wait_for(lambda: _answers(url))
            yield url
        finally:
            server.terminate()


def _answers(url: str) -> bool:
    engine = sa.create_engine(url)
    try:
        with engine.connect():
            return True
    except sa.exc.OperationalError:
        return False
    finally:
        engine.dispose()
