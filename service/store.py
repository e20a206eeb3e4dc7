"""The rows as clients use them. What a worker does under its lease is in `service.claims`."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from service.database import Database
from service.errors import Conflict, Expired, IdempotencyConflict, NotFound, QuotaExceeded
from service.jobs import FINISHED, TERMINAL, Action, Status, after
from service.migrations import upgrade
from service.settings import Settings
from service.tables import LOCAL_TENANT, Artifact, Delivery, Event, IdempotencyKey, Job, Orphan


@dataclasses.dataclass(frozen=True, kw_only=True)
class NewJob:
    """What a job starts from."""

    spec: dict[str, Any]
    metadata: dict[str, str]
    model_sha256: str
    dataset_sha256: str | None
    model_data: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """SHA-256 of the model's data files by their locations."""
    user_profiles: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Targets of the tenant's own that it names, as JSON."""
    model_name: str | None = None
    dataset_name: str | None = None
    request_id: str | None = None
    webhook_url: str | None = None

    def identity(self) -> dict[str, Any]:
        """What makes two submissions the same, in one order; fields of later releases count when they are set."""
        later = {"webhook_url": self.webhook_url, "model_data": dict(sorted(self.model_data.items()))}
        first = ("spec", "model_sha256", "dataset_sha256")
        always = {name: getattr(self, name) for name in first} | {"metadata": dict(sorted(self.metadata.items()))}
        return always | {name: value for name, value in later.items() if value}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page:
    """Where a page of the job list starts and what belongs to it."""

    status: str | None = None
    profile: str | None = None
    limit: int = 20
    after: tuple[float, str] | None = None
    """``created_at`` and id of the last job of the page before."""


class Store(Database):
    """Rows in SQLite or PostgreSQL, as one tenant sees them. Every public method is one transaction."""

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        super().__init__(url, clock)
        self.tenant = LOCAL_TENANT

    @classmethod
    def open(cls, settings: Settings) -> Store:
        """The store of `settings`, its schema brought up to date."""
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        store = cls(settings.database)
        upgrade(store.engine)
        return store

    def of(self, tenant: str) -> Store:
        """The same rows as another tenant sees them. What is another tenant's is not found; that is decided here only."""
        other = copy.copy(self)
        other.tenant = tenant
        return other

    # Jobs

    def submit(self, new: NewJob, key: str | None = None, max_unfinished: int = 0) -> tuple[Job, bool]:
        """Make a job, or find the one that the same idempotency `key` made; and whether it is new.

        Args:
            new: what it starts from.
            key: chosen by the client.
            max_unfinished: most jobs of the tenant that have not ended; 0 for no limit.

        Raises:
            IdempotencyConflict: the key came with another body before.
            QuotaExceeded: too many jobs wait or run.
        """
        body = hashlib.sha256(repr(sorted(new.identity().items())).encode()).hexdigest()
        with self.writing([self.tenant]) as session:  # the lock makes the second of two equal requests see the first
            known = session.get(IdempotencyKey, (self.tenant, key)) if key else None
            if known is not None:
                return self._replayed(session, known, body), False
            self._require_room(session, max_unfinished)
            job = self._insert(session, new)
            if key:
                session.add(
                    IdempotencyKey(
                        tenant=self.tenant, key=key, body_sha256=body, job_id=job.id, created_at=self.clock()
                    )
                )
            return job, True

    def _require_room(self, session: orm.Session, max_unfinished: int) -> None:
        if not max_unfinished:
            return
        mine = sa.select(sa.func.count()).where(Job.tenant == self.tenant, Job.status.not_in(TERMINAL))
        unfinished = session.scalar(mine) or 0
        if unfinished >= max_unfinished:
            raise QuotaExceeded(
                f"{unfinished} jobs wait or run, {max_unfinished} are allowed; submit when one has ended"
            )

    def _replayed(self, session: orm.Session, known: IdempotencyKey, body: str) -> Job:
        if known.body_sha256 != body:
            raise IdempotencyConflict(
                f"Idempotency-Key {known.key!r} made job {known.job_id} from another body; use a new key for a new job",
                job=known.job_id,
            )
        return self._own(session.get(Job, known.job_id), known.job_id)

    def _insert(self, session: orm.Session, new: NewJob) -> Job:
        now = self.clock()
        job = Job(
            id=f"job_{secrets.token_hex(12)}",
            tenant=self.tenant,
            status=Status.QUEUED,
            spec=new.spec,
            job_metadata=new.metadata,
            model_sha256=new.model_sha256,
            dataset_sha256=new.dataset_sha256,
            model_data=dict(new.model_data) or None,
            user_profiles=dict(new.user_profiles) or None,
            model_name=new.model_name,
            dataset_name=new.dataset_name,
            progress={"fraction": 0.0, "done": 0, "total": 0, "unit": ""},
            warnings=[],
            last_seq=0,
            attempt=0,
            deaths=0,
            created_at=now,
            announced_at=now,
            request_id=new.request_id,
            webhook_url=new.webhook_url,
        )
        session.add(job)
        session.flush()
        append_events(session, job, now, [{"type": "status", "status": str(Status.QUEUED), "attempt": 0}])
        return job

    def job(self, job_id: str) -> Job:
        """A job.

        Raises:
            NotFound: no such job.
        """
        with self.reading() as session:
            return self._own(session.get(Job, job_id), job_id)

    def job_and_position(self, job_id: str) -> tuple[Job, int | None]:
        """A job, and how many are before it in the queue; None unless it is queued. One transaction: it is asked often.

        Raises:
            NotFound: no such job.
        """
        with self.reading() as session:
            job = self._own(session.get(Job, job_id), job_id)
            return job, _position(session, job)

    def queue_position(self, job: Job) -> int | None:
        """Jobs that are before this one in the queue; None unless it is queued."""
        with self.reading() as session:
            return _position(session, job)

    def queue_positions(self, jobs: Sequence[Job]) -> dict[str, int]:
        """`queue_position` of many jobs by id, in one query; those that are not queued are left out."""
        return self.positions([job.id for job in jobs])

    def positions(self, job_ids: Sequence[str]) -> dict[str, int]:
        """`queue_positions` by ids."""
        position = sa.func.rank().over(order_by=Job.created_at) - 1
        queued = sa.select(Job.id, position.label("position")).where(Job.status == Status.QUEUED).subquery()
        wanted = sa.select(queued).where(queued.c.id.in_(job_ids))
        with self.reading() as session:
            return {row.id: row.position for row in session.execute(wanted)}

    def jobs(self, page: Page) -> tuple[Sequence[Job], bool]:
        """A page of jobs, newest first, and whether there are more."""
        query = sa.select(Job).where(Job.tenant == self.tenant).order_by(Job.created_at.desc(), Job.id.desc())
        if page.status is not None:
            query = query.where(Job.status == page.status)
        if page.profile is not None:  # ids have no quotes or percent signs
            query = query.where(sa.cast(Job.spec["profiles"], sa.Text).contains(f'"{page.profile}"', autoescape=True))
        if page.after is not None:
            query = query.where(sa.tuple_(Job.created_at, Job.id) < page.after)
        with self.reading() as session:
            rows = session.scalars(query.limit(page.limit + 1)).all()
        return rows[: page.limit], len(rows) > page.limit

    def cancel(self, job_id: str) -> Job:
        """Cancel: at once when queued; otherwise the worker sees the status and ends the child.

        Raises:
            NotFound: no such job.
            Conflict: the job has finished.
        """
        with self.writing() as session:
            job = self._own(session.get(Job, job_id, with_for_update=True), job_id)
            return self.move(session, job, Action.CANCEL)

    def delete(self, job_id: str) -> None:
        """Delete a finished job with its events and artifacts; their bytes are orphans now.

        Raises:
            NotFound: no such job.
            Conflict: the job has not finished.
        """
        with self.writing() as session:
            job = self._own(session.get(Job, job_id, with_for_update=True), job_id)
            if job.status not in TERMINAL:
                raise Conflict(f"the job is {job.status}; cancel it first, then delete it", job_status=job.status)
            for sha256 in drop_artifacts(session, job.id):
                session.merge(Orphan(sha256=sha256))
            session.execute(sa.delete(Event).where(Event.job_id == job.id))
            session.execute(sa.delete(Delivery).where(Delivery.job_id == job.id))
            session.delete(job)

    def move(self, session: orm.Session, job: Job, action: Action) -> Job:
        """Apply `action` to a locked row, with its event and times.

        Raises:
            Conflict: the status does not allow it.
        """
        status = after(Status(job.status), action)
        if status == job.status:
            return job
        now = self.clock()
        job.status = status
        if status in TERMINAL or status is Status.QUEUED:
            job.lease_owner = job.lease_until = None
        if status in FINISHED:
            job.finished_at = now
            if job.webhook_url is not None:
                session.add(
                    Delivery(id=f"msg_{secrets.token_hex(12)}", job_id=job.id, url=job.webhook_url, next_at=now)
                )
        append_events(session, job, now, [{"type": "status", "status": str(status), "attempt": job.attempt}])
        return job

    def _own(self, job: Job | None, job_id: str) -> Job:
        if job is None or job.tenant != self.tenant:
            raise NotFound(f"no job {job_id}; GET /v1/jobs lists them")
        return job

    # What a job gave

    def events(self, job_id: str, after_seq: int, limit: int) -> tuple[Sequence[Event], bool]:
        """Events numbered above `after_seq`, and whether there are more than `limit`.

        Raises:
            NotFound: no such job.
        """
        query = sa.select(Event).where(Event.job_id == job_id, Event.seq > after_seq).order_by(Event.seq)
        with self.reading() as session:
            self._own(session.get(Job, job_id), job_id)
            rows = session.scalars(query.limit(limit + 1)).all()
        return rows[:limit], len(rows) > limit

    def artifacts(self, job_id: str) -> Sequence[Artifact]:
        """The files of a job, by name.

        Raises:
            NotFound: no such job.
            Expired: they were kept for their time.
        """
        with self.reading() as session:
            job = self._own(session.get(Job, job_id), job_id)
            if job.status == Status.EXPIRED:
                raise Expired(f"the files of job {job_id} were kept for their time and are gone; submit it again")
            return session.scalars(sa.select(Artifact).where(Artifact.job_id == job_id).order_by(Artifact.name)).all()


def _position(session: orm.Session, job: Job) -> int | None:
    if job.status != Status.QUEUED:
        return None
    earlier = sa.select(sa.func.count()).where(Job.status == Status.QUEUED, Job.created_at < job.created_at)
    return session.scalar(earlier) or 0


def append_events(session: orm.Session, job: Job, at: float, bodies: Sequence[dict[str, Any]]) -> None:
    """Number `bodies` on from the job's last event. The caller holds the row."""
    session.add_all(Event(job_id=job.id, seq=job.last_seq + i, at=at, body=body) for i, body in enumerate(bodies, 1))
    job.last_seq += len(bodies)


def drop_artifacts(session: orm.Session, job_id: str) -> Sequence[str]:
    """Delete the rows of a job's files; the digests they named."""
    return session.scalars(sa.delete(Artifact).where(Artifact.job_id == job_id).returning(Artifact.sha256)).all()
