"""Attempts at jobs: one at a time in this process, and by real workers on both brokers."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.app import create_app
from service.artifacts import BlobStore
from service.broker import Announcer, make_celery, private_redis
from service.reconciler import sweep
from service.settings import Settings
from service.store import Store
from service.supervisor import end_leftover
from service.worker import run_job

from .conftest import plan, secateur, submit, wait_for


def run(settings: Settings, job: dict[str, Any]) -> str | None:
    """One attempt."""
    return run_job(settings, job["id"], lambda: False)


def state(http: FlaskClient, job: dict[str, Any]) -> dict[str, Any]:
    """The job now."""
    found: dict[str, Any] = http.get(job["urls"]["self"]).get_json()
    return found


def test_a_finished_job_leaves_no_directory(http: FlaskClient, settings: Settings) -> None:
    """What it gave is in the artifacts; a second delivery of its message does nothing."""
    job = submit(http)
    assert run(settings, job) == "succeeded"
    assert list(settings.jobs_dir.iterdir()) == []
    assert run(settings, job) is None
    assert state(http, job)["attempt"] == 1


def test_a_killed_child_is_resumed(http: FlaskClient, settings: Settings) -> None:
    """The second attempt does only what the first had not finished, and no event is told twice."""
    job = submit(http, plan(units=4, kill_at=2))
    assert run(settings, job) == "queued"
    assert run(settings, job) == "succeeded"
    done = state(http, job)
    assert (done["attempt"], done["warnings"]) == (2, ["=quick child"])
    report = http.get(f"{job['urls']['artifacts']}/report.json").get_json()
    assert report["warnings"] == ["2 processes"]
    progress = [event for event in http.get(job["urls"]["events"]).get_json()["data"] if event["type"] == "progress"]
    assert [event["done"] for event in progress] == [1, 2, 1, 2, 3, 4]


def test_a_job_that_always_dies_fails(http: FlaskClient, settings: Settings) -> None:
    """After three attempts it is worker-lost, retryable, and says how many attempts there were."""
    job = submit(http, plan(kill_at=0, kill_always=True))
    assert [run(settings, job) for _ in range(3)] == ["queued", "queued", "failed"]
    error = state(http, job)["error"]
    assert (error["type"], error["retryable"], error["attempts"]) == ("worker-lost", True, 3)
    assert run(settings, job) is None


def test_a_refusal_is_passed_on(http: FlaskClient, settings: Settings) -> None:
    """The engine's problem object is the job's error, member by member."""
    problem = {"type": "unsupported-operator", "title": "t", "detail": "d", "retryable": False, "node": "conv3"}
    job = submit(http, plan(refuse=problem))
    assert run(settings, job) == "failed"
    error = state(http, job)["error"]
    assert {name: error[name] for name in problem} == problem


def test_a_child_without_a_report_is_our_fault(http: FlaskClient, settings: Settings) -> None:
    """Exit code 0 and nothing to show is `internal`."""
    job = submit(http, plan(silent=True))
    assert run(settings, job) == "failed"
    assert state(http, job)["error"]["type"] == "internal"


@pytest.mark.parametrize("deaf", [False, True])
def test_cancelling_a_running_job_keeps_its_front(http: FlaskClient, settings: Settings, deaf: bool) -> None:
    """It ends cancelled, a child that ignores SIGTERM is killed, and what was found can still be had."""
    job = submit(http, plan(units=200, unit_s=0.1, deaf=deaf))
    worker = threading.Thread(target=run, args=(settings, job))
    worker.start()
    wait_for(lambda: state(http, job)["progress"]["fraction"] > 0)
    assert http.post(job["urls"]["cancel"]).status_code == 202
    worker.join(10)
    assert not worker.is_alive()
    assert state(http, job)["status"] == "cancelled"
    assert http.get(job["urls"]["front"]).status_code == (409 if deaf else 200)
    assert run(settings, job) is None


def test_a_stopping_worker_gives_its_job_back(http: FlaskClient, settings: Settings) -> None:
    """The job is queued with its finished units, at no cost, and the next attempt ends it."""
    job = submit(http, plan(units=20, wait_at=8))
    stopping = threading.Event()
    worker = threading.Thread(target=run_job, args=(settings, job["id"], stopping.is_set))
    worker.start()
    wait_for(lambda: state(http, job)["progress"]["fraction"] > 0.2)
    stopping.set()
    worker.join(10)
    assert state(http, job)["status"] == "queued"
    assert run(settings, job) == "succeeded"


def test_a_deadline_ends_the_job(http: FlaskClient, settings: Settings) -> None:
    """A child that does not look at the clock is ended, and what it found by then is the result."""
    job = submit(http, plan(units=1000, unit_s=0.1), search={"deadline_minutes": 0.01})
    assert run(settings, job) == "succeeded"
    assert http.get(f"{job['urls']['artifacts']}/report.json").get_json()["complete"] is False


def test_a_lost_lease_ends_the_child(http: FlaskClient, settings: Settings) -> None:
    """When another attempt has taken the job, this one stops and publishes nothing."""
    job = submit(http, plan(units=1000, unit_s=0.1))
    worker = threading.Thread(target=run, args=(settings, job))
    worker.start()
    wait_for(lambda: state(http, job)["status"] == "running")
    store = Store(settings.database)
    from service.claims import claim

    store.clock = lambda: time.time() + 1000
    assert claim(store, job["id"], "another", 45, 3) is not None
    store.close()
    worker.join(10)
    assert not worker.is_alive()
    assert (state(http, job)["attempt"], state(http, job)["status"]) == (2, "validating")


def test_a_leftover_child_is_ended(tmp_path: Path) -> None:
    """The pid in the directory is killed when it is a child of that directory, and left alone when it is not."""
    for argument, dies in ((str(tmp_path), True), ("elsewhere", False)):
        command = [sys.executable, "-c", "import time; time.sleep(30)", argument]
        with subprocess.Popen(command, start_new_session=True) as child:
            (tmp_path / "child.pid").write_text(str(child.pid))
            wait_for(Path(f"/proc/{child.pid}/cmdline").read_bytes)  # empty for a moment after exec
            end_leftover(tmp_path)
            if not dies:
                child.terminate()
            assert child.wait(10) == -(signal.SIGKILL if dies else signal.SIGTERM)


def test_links_are_not_published(tmp_path: Path) -> None:
    """A child cannot have a file outside its directory published."""
    from service.protocol import received

    (tmp_path / "secret").write_text("s")
    folder = tmp_path / "job" / "out"
    folder.mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "folder").symlink_to(tmp_path)
    (folder / "report.json").write_text("{}")
    blobs = BlobStore.of(Settings(data_dir=tmp_path / "data"))
    assert list(received(tmp_path / "job", blobs)) == ["report.json"]


def test_the_sweep_runs_without_a_broker(settings: Settings, http: FlaskClient) -> None:
    """A submission while Redis is away is accepted at once, and the sweep goes on until it is back."""
    away = dataclasses.replace(settings, redis_url="redis://127.0.0.1:1/0")
    announcer = Announcer(make_celery(away))
    start = time.monotonic()
    assert not announcer.announce("job_x")
    assert time.monotonic() - start < 5
    job = submit(create_app(away).test_client())
    store = Store.open(away)
    time.sleep(away.republish_s)
    sweep(store, BlobStore.of(away), announcer, away)
    assert store.job(job["id"]).status == "queued"
    store.close()


@pytest.fixture(params=["files", "redis"])
def brokered(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Settings]:
    """Settings on each broker; Redis is one of our own."""
    if request.param == "files":
        yield settings
        return
    settings.data_dir.mkdir(parents=True)
    found = private_redis(settings.data_dir)
    if found is None:
        assert not os.environ.get("CI"), "CI must have a redis-server"
        pytest.skip("no redis-server on PATH")
    command, url = found
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        yield dataclasses.replace(settings, redis_url=url)
        server.terminate()


def test_a_worker_takes_jobs_from_the_broker(brokered: Settings) -> None:
    """Good jobs succeed around one that always dies and one that is refused; the worker stays."""
    http = create_app(brokered).test_client()
    bad = submit(http, plan(kill_at=0, kill_always=True))
    with secateur("worker", settings=brokered) as worker:
        jobs = [submit(http, plan(units=2)) for _ in range(2)] + [bad, submit(http, b"no JSON")]
        wait_for(lambda: all(state(http, job)["finished_at"] for job in jobs))
        ends = [state(http, job)["status"] for job in jobs]
        assert ends == ["succeeded", "succeeded", "failed", "failed"]
        assert worker.poll() is None


def test_a_killed_worker_loses_no_job(brokered: Settings) -> None:
    """Kill -9 of worker and child: the lease ends, the job goes on from its units and succeeds."""
    http = create_app(brokered).test_client()
    job = submit(http, plan(units=30, wait_at=8))
    with secateur("worker", settings=brokered):
        wait_for(lambda: state(http, job)["progress"]["fraction"] > 0.1)
        for pid in consumers(brokered):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        done = wait_for(lambda: (now := state(http, job))["finished_at"] and now)
    assert (done["status"], done["attempt"]) == ("succeeded", 2)
    assert http.get(f"{job['urls']['artifacts']}/report.json").get_json()["warnings"] == ["2 processes"]


def consumers(settings: Settings) -> list[int]:
    """The Celery processes of the worker on this data directory."""
    found = []
    marker = os.fsencode(f"SECATEUR_DATA_DIR={settings.data_dir}")
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"--consume" in (folder / "cmdline").read_bytes() and marker in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


def test_redis_may_restart(settings: Settings) -> None:
    """The running job's work is kept, and the same worker takes the next job."""
    settings.data_dir.mkdir(parents=True)
    found = private_redis(settings.data_dir)
    if found is None:
        pytest.skip("no redis-server on PATH")
    settings = dataclasses.replace(settings, redis_url=found[1])
    http = create_app(settings).test_client()
    with subprocess.Popen(found[0], stdout=subprocess.DEVNULL) as server, secateur("worker", settings=settings):
        wait_for(lambda: Path(found[1].removeprefix("unix://")).exists())
        job = submit(http, plan(units=20, unit_s=0.1))
        wait_for(lambda: state(http, job)["progress"]["fraction"] > 0)
        server.kill()
        server.wait()
        with subprocess.Popen(found[0], stdout=subprocess.DEVNULL) as second:
            done = wait_for(lambda: (now := state(http, job))["finished_at"] and now)
            assert (done["status"], done["attempt"]) == ("succeeded", 1)
            after = submit(http)
            assert wait_for(lambda: state(http, after)["status"] == "succeeded")
            second.terminate()
    shutil.rmtree(settings.data_dir / "redis")
