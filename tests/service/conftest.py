"""Fixtures: a service over a fresh folder, with a quick child in the engine's place."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import flask
import pytest
from flask.testing import FlaskClient

from service.app import create_app
from service.settings import Settings
from service.store import Store

from . import servers

QUICK_CHILD = (sys.executable, str(Path(__file__).parent / "quick_child.py"))
PROFILE = "host-cpu-onnxruntime"
_WAIT_S = 30.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with short pauses; the broker is on files."""
    return Settings(
        data_dir=tmp_path / "data",
        cache_dir=tmp_path / "cache",
        child_command=QUICK_CHILD,
        poll_s=0.05,
        sweep_s=0.2,
        republish_s=0.5,
        lease_s=2.0,
        cancel_grace_s=1.0,
    )


@pytest.fixture
def app(settings: Settings) -> flask.Flask:
    """The web application."""
    return create_app(settings)


@pytest.fixture
def http(app: flask.Flask) -> FlaskClient:
    """A client of the web application."""
    return app.test_client()


@pytest.fixture
def url(app: flask.Flask, settings: Settings) -> Iterator[str]:
    """The application behind its web server; its address."""
    with servers.web(app, settings) as address:
        yield address


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        """Seconds since the epoch."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock under the test's control."""
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Store]:
    """An empty store, once on each database."""
    sqlite = f"sqlite:///{tmp_path / 'rows.db'}"
    url = sqlite if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    import sqlalchemy as sa

    from service.migrations import upgrade
    from service.tables import Base

    store = Store(url, clock)
    with store.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS alembic_version"))
        Base.metadata.drop_all(connection)
    upgrade(store.engine)
    yield store
    store.close()


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of our own, where the machine has the programs and Python the driver."""
    pytest.importorskip("psycopg", reason="no PostgreSQL driver (pip install psycopg[binary])")
    with contextlib.ExitStack() as stack:
        try:
            url = stack.enter_context(servers.postgres(tmp_path_factory.mktemp("postgres")))
        except servers.Missing as missing:
            skip_here(str(missing))
        yield url


def skip_here(reason: str) -> NoReturn:
    """Skip on a developer's machine; CI must have what the tests need."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def wait_for(ready: Callable[[], Any], timeout_s: float = _WAIT_S) -> Any:
    """Whatever true value `ready` comes to give; fails after `timeout_s`."""
    try:
        return servers.wait_for(ready, timeout_s)
    except TimeoutError as error:
        pytest.fail(str(error))


def plan(**behaviour: Any) -> bytes:
    """A model file that makes the quick child behave so."""
    return json.dumps(behaviour).encode()


def upload(http: FlaskClient, data: bytes, purpose: str = "model") -> str:
    """Upload bytes; the file's id."""
    answer = http.put(f"/v1/files?purpose={purpose}", data=data)
    assert answer.status_code in {200, 201}, answer.get_json()
    return str(answer.get_json()["id"])


def submit(http: FlaskClient, data: bytes | None = None, **fields: Any) -> dict[str, Any]:
    """Submit a job; its JSON."""
    body = {"model": upload(http, data or plan()), "profiles": [PROFILE], **fields}
    answer = http.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.get_json()
    job: dict[str, Any] = answer.get_json()
    return job


@contextlib.contextmanager
def secateur(*arguments: str, settings: Settings) -> Iterator[subprocess.Popen[str]]:
    """A `secateur` command as a process; stopped at the end."""
    command = [sys.executable, "-m", "service.cli", *arguments]
    environ = {**os.environ, **settings.to_env()}
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)
