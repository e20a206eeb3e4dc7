"""The nemesis: clients submit jobs while parts of the service are killed, stopped and continued at random.

Afterwards every job is held against the rows and against what its client was told.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import json
import random
import signal
import threading
import time
import uuid
from typing import Any

import requests
import sqlalchemy as sa

from service.artifacts import BlobStore
from service.errors import Conflict
from service.jobs import FINISHED, TERMINAL, Action, Status, after
from service.store import Store
from service.tables import Artifact, Event, Job
from tests.faults import processes
from tests.faults.stack import Stack

PROFILE = "host-cpu-onnxruntime"
_ANSWER_S = 10.0


@dataclasses.dataclass
class Promise:
    """What a client was told about one job."""

    key: str
    job_id: str = ""
    asked_to_cancel: bool = False
    end: dict[str, Any] | None = None
    """The job when it was first seen finished."""


@dataclasses.dataclass
class Verdict:
    """What came of a run; every list but `ends` must be empty."""

    ends: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    lost: list[str] = dataclasses.field(default_factory=list)
    doubled: list[str] = dataclasses.field(default_factory=list)
    """More than one end, or more than one job for a key."""
    changed: list[str] = dataclasses.field(default_factory=list)
    """Ended otherwise than the client was told."""
    inconsistent: list[str] = dataclasses.field(default_factory=list)
    """Events, row and files do not agree."""
    faults: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    attempts: int = 0
    fenced: int = 0
    """Late attempts that were refused."""
    wall_s: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether the promises held."""
        return not (self.lost or self.doubled or self.changed or self.inconsistent)


class Client(threading.Thread):
    """Submits jobs one after the other and follows them all; never gives up on a service that is away."""

    def __init__(self, url: str, bodies: list[bytes], draw: random.Random, deadline: float, dataset: bytes) -> None:
        super().__init__(daemon=True)
        self._url, self._bodies, self._draw, self._deadline, self._dataset = url, bodies, draw, deadline, dataset
        self.promises: list[Promise] = []
        self.spec: dict[str, Any] = {"profiles": [PROFILE]}

    def run(self) -> None:
        """Submit, cancel now and then, and wait for every end."""
        for body in self._bodies:
            promise = Promise(str(uuid.UUID(int=self._draw.getrandbits(128))))
            self.promises.append(promise)
            self._submit(promise, body)
            time.sleep(self._draw.uniform(0, 0.3))
            if self._draw.random() < 0.1:
                self._cancel(promise)
        for promise in self.promises:
            self._follow(promise)

    def _send(self, method: str, path: str, **options: Any) -> requests.Response | None:
        """The answer that is not the fault of a part that is away; None when the time is over."""
        while time.monotonic() < self._deadline:
            with contextlib.suppress(requests.RequestException):
                answer = requests.request(method, self._url + path, timeout=_ANSWER_S, **options)
                if answer.status_code < 500:
                    return answer
            time.sleep(self._draw.uniform(0.1, 0.5))
        return None

    def _submit(self, promise: Promise, body: bytes) -> None:
        files = {"model": self._send("PUT", "/v1/files?purpose=model", data=body)}
        if self._dataset:
            files["dataset"] = self._send("PUT", "/v1/files?purpose=dataset", data=self._dataset)
        ids = {purpose: answer.json()["id"] for purpose, answer in files.items() if answer is not None}
        answer = self._send("POST", "/v1/jobs", json={**ids, **self.spec}, headers={"Idempotency-Key": promise.key})
        if answer is not None and answer.status_code == 202:
            promise.job_id = answer.json()["id"]

    def _cancel(self, promise: Promise) -> None:
        answer = self._send("POST", f"/v1/jobs/{promise.job_id}/cancel")
        promise.asked_to_cancel = answer is not None and answer.ok

    def _follow(self, promise: Promise) -> None:
        while promise.end is None and time.monotonic() < self._deadline:
            answer = self._send("GET", f"/v1/jobs/{promise.job_id}")
            if answer is not None and answer.ok and answer.json()["status"] in TERMINAL:
                promise.end = answer.json()
            time.sleep(0.3)


class Nemesis(threading.Thread):
    """Kills, stops and continues until told to stop."""

    def __init__(self, stack: Stack, draw: random.Random, pause_s: float) -> None:
        super().__init__(daemon=True)
        self._stack, self._draw, self._pause_s = stack, draw, pause_s
        self._over = threading.Event()
        self._asleep: list[tuple[float, int]] = []
        self.faults: collections.Counter[str] = collections.Counter()

    def run(self) -> None:
        """One fault after the other."""
        while not self._over.wait(self._draw.uniform(0.2, 2) * self._pause_s):
            name = self._draw.choice(["child", "child", "worker", "worker", "web", "redis"])
            pids = self._targets(name)
            if not pids:
                continue
            pid = self._draw.choice(pids)
            kill = self._draw.random() < 0.6
            if processes.signal_safely(pid, signal.SIGKILL if kill else signal.SIGSTOP):
                self.faults[f"{name} {'killed' if kill else 'stopped'}"] += 1
                if not kill:
                    longest = 1.6 * self._stack.settings.lease_s if name in {"worker", "child"} else 3.0
                    self._asleep.append((time.monotonic() + self._draw.uniform(0.5, longest), pid))
            self._wake(time.monotonic())
        self._wake(float("inf"))

    def stop(self) -> None:
        """No more faults; whatever was stopped goes on."""
        self._over.set()
        self.join()

    def _targets(self, name: str) -> list[int]:
        if name == "child":
            return self._stack.job_children()
        parts = [part for part in self._stack.parts if part.startswith(name)]
        return [pid for part in parts for pid in self._stack.family(part)]

    def _wake(self, now: float) -> None:
        for until, pid in self._asleep:
            if until <= now:
                processes.signal_safely(pid, signal.SIGCONT)
        self._asleep = [(until, pid) for until, pid in self._asleep if until > now]


def plans(jobs: int, draw: random.Random) -> list[bytes]:
    """Models that make the quick child work for 0.2 to 2 seconds, each with its own bytes."""
    return [
        json.dumps({"units": draw.randint(2, 8), "unit_s": round(draw.uniform(0.05, 0.25), 3), "nr": i}).encode()
        for i in range(jobs)
    ]


def ordeal(
    stack: Stack,
    bodies: list[bytes],
    seed: int,
    *,
    clients: int = 8,
    pause_s: float = 1.0,
    fire_s: float = 200.0,
    limit_s: float = 600.0,
    dataset: bytes = b"",
    spec: dict[str, Any] | None = None,
) -> Verdict:
    """Submit every model of `bodies` from `clients` clients under fire, and judge.

    The faults end after `fire_s` seconds; what has no end after `limit_s` is lost.
    """
    start = time.monotonic()
    threads = [
        Client(stack.url, bodies[i::clients], random.Random(1000 * seed + i), start + limit_s, dataset)
        for i in range(clients)
    ]
    nemesis = Nemesis(stack, random.Random(seed), pause_s)
    for thread in threads:
        thread.spec |= spec or {}
        thread.start()
    nemesis.start()
    for thread in threads:
        thread.join(max(0.0, start + fire_s - time.monotonic()))
    nemesis.stop()
    for thread in threads:
        thread.join()
    time.sleep(2 * stack.settings.lease_s)  # late attempts wake up and try to write
    verdict = judge(stack, [promise for thread in threads for promise in thread.promises])
    verdict.faults, verdict.wall_s = nemesis.faults, time.monotonic() - start
    verdict.fenced = stack.said("no longer holds it")
    return verdict


def judge(stack: Stack, promises: list[Promise]) -> Verdict:
    """Hold the rows and files against what the clients were told."""
    verdict, store, blobs = Verdict(), Store(stack.settings.database), BlobStore.of(stack.settings)
    with store.reading() as session:
        rows = {job.id: job for job in session.scalars(sa.select(Job))}
        events = collections.defaultdict(list)
        for event in session.scalars(sa.select(Event).order_by(Event.job_id, Event.seq)):
            events[event.job_id].append(event)
        files = collections.defaultdict(list)
        for file in session.scalars(sa.select(Artifact)):
            files[file.job_id].append(file)
    store.close()
    accepted = [promise for promise in promises if promise.job_id]
    verdict.lost += [promise.key for promise in promises if not promise.job_id or promise.end is None]
    verdict.doubled += sorted(set(rows) - {promise.job_id for promise in accepted})
    for promise in accepted:
        job = rows.get(promise.job_id)
        if job is None or job.status not in TERMINAL:
            verdict.lost.append(promise.job_id)
            continue
        verdict.ends[_end(job)] += 1
        verdict.attempts += job.attempt
        _compare(verdict, promise, job)
        verdict.inconsistent += faults_of(job, events[job.id], files[job.id], blobs)
        ends = [event for event in events[job.id] if event.body.get("status") in FINISHED]
        if len(ends) != 1:
            verdict.doubled.append(f"{job.id}: {len(ends)} ends")
    return verdict


def _end(job: Job) -> str:
    return f"failed ({job.error['type']})" if job.error is not None else job.status


def _compare(verdict: Verdict, promise: Promise, job: Job) -> None:
    told = promise.end or {}
    if told and (told["status"], told["attempt"]) != (job.status, job.attempt):
        verdict.changed.append(f"{job.id}: told {told['status']}, is {job.status}")
    if promise.asked_to_cancel and job.status != Status.CANCELLED:
        verdict.changed.append(f"{job.id}: cancelled, but {job.status}")


def faults_of(job: Job, events: list[Event], files: list[Artifact], blobs: BlobStore) -> list[str]:
    """Where a job's events, row and files do not agree."""
    found = []
    if [event.seq for event in events] != list(range(1, job.last_seq + 1)):
        found.append("events are not numbered without gaps")
    path = [event.body for event in events if event.body["type"] == "status"]
    if path[0]["status"] != Status.QUEUED or not all(_follows(a, b) for a, b in zip(path, path[1:], strict=False)):
        found.append(f"statuses {[body['status'] for body in path]} do not follow one another")
    if (path[-1]["status"], path[-1]["attempt"]) != (job.status, job.attempt):
        found.append(f"the last event is {path[-1]}, the row {job.status}, attempt {job.attempt}")
    if (job.status == Status.SUCCEEDED) != ("report.json" in {file.name for file in files}) and (
        job.status != Status.CANCELLED
    ):
        found.append("files and status do not agree")
    found += [f"{file.name} is damaged or missing" for file in files if not _intact(file, blobs)]
    return [f"{job.id}: {fault}" for fault in found]


def _follows(earlier: dict[str, Any], later: dict[str, Any]) -> bool:
    """Whether one action leads from one status event to the next."""
    for action in Action:
        with contextlib.suppress(Conflict):
            if after(Status(earlier["status"]), action) == later["status"]:
                return bool(later["attempt"] == earlier["attempt"] + (action is Action.CLAIM))
    return False


def _intact(file: Artifact, blobs: BlobStore) -> bool:
    try:
        with blobs.open(file.sha256) as stored:
            return hashlib.file_digest(stored, "sha256").hexdigest() == file.sha256
    except FileNotFoundError:
        return False
