"""What a worker writes about a job it holds, fenced by (job, attempt): a late attempt changes nothing."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from service.artifacts import Blob
from service.errors import WorkerLost
from service.jobs import ACTIVE, Action, Status, before
from service.protocol import Relayed
from service.store import Store, append_events
from service.tables import Artifact, Job

_DAY_S = 86_400.0


class LeaseLost(Exception):
    """Another attempt has the job, or it has ended: stop, and write nothing."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How an attempt ended."""

    action: Action
    died: bool = False
    """The process of the attempt died."""
    error: dict[str, Any] | None = None
    best: dict[str, Any] | None = None
    artifacts: Mapping[str, Blob] = dataclasses.field(default_factory=dict)
    """By name; published with the end of the job, in one transaction."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A worker's hold on a job for one attempt."""

    store: Store
    job_id: str
    attempt: int
    lease_s: float

    def status(self) -> Status:
        """The job's status, which says whether it was cancelled.

        Raises:
            LeaseLost: the job is no longer ours.
        """
        query = sa.select(Job.status).where(Job.id == self.job_id, Job.attempt == self.attempt, Job.status.in_(ACTIVE))
        with self.store.reading() as session:
            status = session.scalar(query)
        if status is None:
            raise LeaseLost(f"job {self.job_id}: attempt {self.attempt} no longer holds it")
        return Status(status)

    def beat(self) -> None:
        """Renew the lease.

        Raises:
            LeaseLost: the job is no longer ours.
        """
        with self._held() as (_, job):
            job.lease_until = self.store.clock() + self.lease_s

    def relay(self, relayed: Relayed) -> None:
        """Add the child's events to the job's, and bring stage, progress and warnings up to date.

        Raises:
            LeaseLost: the job is no longer ours.
        """
        with self._held() as (session, job):
            if job.status == Status.VALIDATING and relayed.bodies:
                self.store.move(session, job, Action.START)
            for body in relayed.bodies:
                _apply(job, body)
            append_events(session, job, self.store.clock(), relayed.bodies)
            job.events_read = relayed.position

    def finish(self, outcome: Outcome, retention_s: float) -> Status:
        """End the attempt: publish, fail or give back; the status that followed.

        Raises:
            LeaseLost: the job is no longer ours, and nothing was published.
        """
        with self._held() as (session, job):
            job.deaths += outcome.died
            status = Status(self.store.move(session, job, outcome.action).status)
            if status is Status.QUEUED:
                return status
            job.best = outcome.best
            job.error = outcome.error if status is Status.FAILED else None
            job.expires_at = self.store.clock() + retention_s
            if status is Status.SUCCEEDED:
                job.progress = {**job.progress, "fraction": 1.0}
            session.add_all(
                Artifact(job_id=job.id, name=name, kind=_kind(name), sha256=blob.sha256, bytes=blob.bytes)
                for name, blob in outcome.artifacts.items()
            )
            return status

    @contextlib.contextmanager
    def _held(self) -> Iterator[tuple[orm.Session, Job]]:
        mine = sa.select(Job).where(Job.id == self.job_id, Job.attempt == self.attempt, Job.status.in_(ACTIVE))
        with self.store.writing() as session:
            job = session.scalar(mine.with_for_update())
            if job is None:
                raise LeaseLost(f"job {self.job_id}: attempt {self.attempt} no longer holds it")
            yield session, job


def claim(store: Store, job_id: str, owner: str, lease_s: float, max_attempts: int) -> tuple[Claim, Job] | None:
    """Take a job that is queued, or whose lease ended; None when there is nothing to take.

    One UPDATE decides, so that of many deliveries of a message exactly one wins.
    """
    now = store.clock()
    free = (Job.status == Status.QUEUED) | (Job.status.in_(before(Action.CLAIM)) & (Job.lease_until < now))
    take = (
        sa.update(Job)
        .where(Job.id == job_id, free, Job.deaths < max_attempts)
        .values(
            status=Status.VALIDATING,
            attempt=Job.attempt + 1,
            lease_owner=owner,
            lease_until=now + lease_s,
            events_read=0,
            started_at=sa.func.coalesce(Job.started_at, now),
        )
        .returning(Job)
        .execution_options(synchronize_session=False)
    )
    with store.writing() as session:
        job = session.scalar(take)
        if job is None:
            return None
        append_events(session, job, now, [{"type": "status", "status": job.status, "attempt": job.attempt}])
    return Claim(store, job.id, job.attempt, lease_s), job


def settle_lost(store: Store, max_attempts: int, retention_s: float) -> list[str]:
    """Deal with jobs whose lease ended; the ids of those that are queued again.

    A cancelled one ends cancelled; one without attempts left ends ``worker-lost``.
    """
    now, again = store.clock(), []
    lost = sa.select(Job).where(Job.status.in_(ACTIVE), Job.lease_until < now)
    with store.writing() as session:
        for job in session.scalars(lost.with_for_update(skip_locked=True)).all():
            job.deaths += 1
            give_up = job.deaths >= max_attempts
            store.move(session, job, Action.FAIL if give_up else Action.RELEASE)
            if job.status == Status.QUEUED:
                job.announced_at = now
                again.append(job.id)
                continue
            job.expires_at = now + retention_s
            if job.status == Status.FAILED:
                job.error = worker_lost(job.deaths).to_dict()
    return again


def worker_lost(attempts: int) -> WorkerLost:
    """The error of a job whose process died in every attempt."""
    return WorkerLost(
        f"the process running the job died in each of {attempts} attempts; "
        "submit it again, or run `secateur compress` on the same files to see why",
        attempts=attempts,
    )


def _apply(job: Job, body: Mapping[str, Any]) -> None:
    kind = body["type"]
    if kind == "stage":
        job.stage = body["stage"]
    elif kind == "warning" and body["message"] not in job.warnings:
        job.warnings = [*job.warnings, body["message"]]
    elif (
        kind == "progress" and body["fraction"] >= job.progress["fraction"]
    ):  # a resumed attempt starts at its beginning
        job.progress = {key: body[key] for key in ("fraction", "done", "total", "unit")}


def _kind(name: str) -> str:
    if name.endswith(".onnx"):
        return "model"
    return "report" if name.startswith("report.") else "picture" if name.endswith((".svg", ".png")) else "other"
