"""The rows as the web side and the reconciler use them. What a worker does under its lease is in `service.claims`."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import orm

from service.artifacts import Blob
from service.errors import Conflict, Expired, IdempotencyConflict, NotFound
from service.jobs import TERMINAL, Action, Status, after
from service.settings import Settings
from service.tables import LOCAL_TENANT, Artifact, Base, Event, File, IdempotencyKey, Job

Purpose = Literal["model", "dataset"]
_DAY_S = 86_400.0
_SCHEMA_LOCK = 0x5ECA7E02
_BUSY_TIMEOUT_S = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class NewJob:
    """What a job starts from."""

    spec: dict[str, Any]
    metadata: dict[str, str]
    model_sha256: str
    dataset_sha256: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page:
    """Where a page of the job list starts and what belongs to it."""

    status: str | None = None
    profile: str | None = None
    limit: int = 20
    after: tuple[float, str] | None = None
    """``created_at`` and id of the last job of the page before."""


class Store:
    """Rows in SQLite or PostgreSQL. Every public method is one transaction.

    Args:
        url: SQLAlchemy URL.
        clock: seconds since the epoch.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.engine = _engine(url)
        self._write = orm.sessionmaker(self.engine, expire_on_commit=False)
        self._read = orm.sessionmaker(self.engine.execution_options(read_only=True), expire_on_commit=False)

    @classmethod
    def open(cls, settings: Settings) -> Store:
        """The store of `settings`, with its tables."""
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        store = cls(settings.database)
        with store.engine.begin() as connection:
            if connection.dialect.name == "postgresql":  # two starting at once must not both create
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
            Base.metadata.create_all(connection)
        return store

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    @contextlib.contextmanager
    def writing(self) -> Iterator[orm.Session]:
        """A transaction that may write; commits at the end."""
        with self._write.begin() as session:
            yield session

    @contextlib.contextmanager
    def reading(self) -> Iterator[orm.Session]:
        """A transaction that only reads, and waits for no writer."""
        with self._read.begin() as session:
            yield session

    # Uploads

    def add_file(self, purpose: Purpose, blob: Blob, tenant: str = LOCAL_TENANT) -> tuple[File, bool]:
        """The file of these bytes, and whether it is new."""
        digest = hashlib.sha256(f"{tenant}/{purpose}/{blob.sha256}".encode()).hexdigest()
        file_id = f"file_{digest[:32]}"
        with self.writing() as session:
            known = session.get(File, file_id)
            if known is not None:
                return known, False
            file = File(
                id=file_id,
                tenant=tenant,
                purpose=purpose,
                sha256=blob.sha256,
                bytes=blob.bytes,
                created_at=self.clock(),
            )
            session.add(file)
            return file, True

    def file(self, file_id: str, purpose: Purpose, tenant: str = LOCAL_TENANT) -> File:
        """An uploaded file.

        Raises:
            NotFound: no such file, or one uploaded for another purpose.
        """
        with self.reading() as session:
            file = session.get(File, file_id)
        if file is None or file.tenant != tenant or file.purpose != purpose:
            raise NotFound(f"no {purpose} file {file_id}; upload it first with POST /v1/files and purpose={purpose}")
        return file

    # Jobs

    def submit(self, new: NewJob, key: str | None = None, tenant: str = LOCAL_TENANT) -> tuple[Job, bool]:
        """Make a job, or find the one that the same idempotency `key` made; and whether it is new.

        Raises:
            IdempotencyConflict: the key came with another body before.
        """
        body = hashlib.sha256(repr(sorted(dataclasses.asdict(new).items())).encode()).hexdigest()
        for final in (False, True):
            try:
                with self.writing() as session:
                    known = session.get(IdempotencyKey, (tenant, key)) if key else None
                    if known is not None:
                        return _replayed(session, known, body), False
                    job = self._insert(session, new, tenant)
                    if key:
                        session.add(
                            IdempotencyKey(
                                tenant=tenant, key=key, body_sha256=body, job_id=job.id, created_at=self.clock()
                            )
                        )
                    return job, True
            except sa.exc.IntegrityError:  # PostgreSQL: another request with the key came first; now it is there
                if final:
                    raise
        raise AssertionError("the second round returns or raises")

    def _insert(self, session: orm.Session, new: NewJob, tenant: str) -> Job:
        now = self.clock()
        job = Job(
            id=f"job_{secrets.token_hex(12)}",
            tenant=tenant,
            status=Status.QUEUED,
            spec=new.spec,
            job_metadata=new.metadata,
            model_sha256=new.model_sha256,
            dataset_sha256=new.dataset_sha256,
            progress={"fraction": 0.0, "done": 0, "total": 0, "unit": ""},
            warnings=[],
            last_seq=0,
            attempt=0,
            deaths=0,
            created_at=now,
            announced_at=now,
        )
        session.add(job)
        session.flush()
        append_events(session, job, now, [{"type": "status", "status": str(Status.QUEUED), "attempt": 0}])
        return job

    def job(self, job_id: str, tenant: str = LOCAL_TENANT) -> Job:
        """A job.

        Raises:
            NotFound: no such job.
        """
        with self.reading() as session:
            return _own(session.get(Job, job_id), job_id, tenant)

    def queue_position(self, job: Job) -> int | None:
        """Jobs that are before this one in the queue; None unless it is queued."""
        if job.status != Status.QUEUED:
            return None
        with self.reading() as session:
            earlier = sa.select(sa.func.count()).where(Job.status == Status.QUEUED, Job.created_at < job.created_at)
            return session.scalar(earlier) or 0

    def jobs(self, page: Page, tenant: str = LOCAL_TENANT) -> tuple[Sequence[Job], bool]:
        """A page of jobs, newest first, and whether there are more."""
        query = sa.select(Job).where(Job.tenant == tenant).order_by(Job.created_at.desc(), Job.id.desc())
        if page.status is not None:
            query = query.where(Job.status == page.status)
        if page.profile is not None:  # ids have no quotes or percent signs
            query = query.where(sa.cast(Job.spec["profiles"], sa.Text).contains(f'"{page.profile}"', autoescape=True))
        if page.after is not None:
            query = query.where(sa.tuple_(Job.created_at, Job.id) < page.after)
        with self.reading() as session:
            rows = session.scalars(query.limit(page.limit + 1)).all()
        return rows[: page.limit], len(rows) > page.limit

    def cancel(self, job_id: str, tenant: str = LOCAL_TENANT) -> Job:
        """Cancel: at once when queued; otherwise the worker sees the status and ends the child.

        Raises:
            NotFound: no such job.
            Conflict: the job has finished.
        """
        with self.writing() as session:
            job = _own(session.get(Job, job_id, with_for_update=True), job_id, tenant)
            return self.move(session, job, Action.CANCEL)

    def delete(self, job_id: str, tenant: str = LOCAL_TENANT) -> list[str]:
        """Delete a finished job with its events and artifacts; the digests that no row names any more.

        Raises:
            NotFound: no such job.
            Conflict: the job has not finished.
        """
        with self.writing() as session:
            job = _own(session.get(Job, job_id, with_for_update=True), job_id, tenant)
            if job.status not in TERMINAL:
                raise Conflict(f"the job is {job.status}; cancel it first, then delete it", job_status=job.status)
            orphans = _drop_artifacts(session, job.id)
            session.execute(sa.delete(Event).where(Event.job_id == job.id))
            session.delete(job)
            return orphans

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
        if status in TERMINAL and job.finished_at is None:
            job.finished_at = now
        append_events(session, job, now, [{"type": "status", "status": str(status), "attempt": job.attempt}])
        return job

    # What a job gave

    def events(
        self, job_id: str, after_seq: int, limit: int, tenant: str = LOCAL_TENANT
    ) -> tuple[Sequence[Event], bool]:
        """Events numbered above `after_seq`, and whether there are more than `limit`.

        Raises:
            NotFound: no such job.
        """
        query = sa.select(Event).where(Event.job_id == job_id, Event.seq > after_seq).order_by(Event.seq)
        with self.reading() as session:
            _own(session.get(Job, job_id), job_id, tenant)
            rows = session.scalars(query.limit(limit + 1)).all()
        return rows[:limit], len(rows) > limit

    def artifacts(self, job_id: str, tenant: str = LOCAL_TENANT) -> Sequence[Artifact]:
        """The files of a job, by name.

        Raises:
            NotFound: no such job.
            Expired: they were kept for their time.
        """
        with self.reading() as session:
            job = _own(session.get(Job, job_id), job_id, tenant)
            if job.status == Status.EXPIRED:
                raise Expired(f"the files of job {job_id} were kept for their time and are gone; submit it again")
            return session.scalars(sa.select(Artifact).where(Artifact.job_id == job_id).order_by(Artifact.name)).all()

    # The reconciler

    def unannounced(self, republish_s: float) -> list[str]:
        """Queued jobs whose last message is older than `republish_s`; marked as announced now."""
        now = self.clock()
        late = (Job.status == Status.QUEUED) & (Job.announced_at < now - republish_s)
        with self.writing() as session:
            return list(session.scalars(sa.update(Job).where(late).values(announced_at=now).returning(Job.id)))

    def expire(self) -> list[tuple[str, list[str]]]:
        """Let go of finished jobs whose time is over; their ids and the digests that no row names any more."""
        gone = []
        with self.writing() as session:
            query = sa.select(Job).where(Job.expires_at < self.clock(), Job.status != Status.EXPIRED).with_for_update()
            for job in session.scalars(query).all():
                self.move(session, job, Action.EXPIRE)
                gone.append((job.id, _drop_artifacts(session, job.id)))
            session.execute(sa.delete(IdempotencyKey).where(IdempotencyKey.created_at < self.clock() - _DAY_S))
        return gone


def append_events(session: orm.Session, job: Job, at: float, bodies: Sequence[dict[str, Any]]) -> None:
    """Number `bodies` on from the job's last event. The caller holds the row."""
    session.add_all(Event(job_id=job.id, seq=job.last_seq + i, at=at, body=body) for i, body in enumerate(bodies, 1))
    job.last_seq += len(bodies)


def _own(job: Job | None, job_id: str, tenant: str) -> Job:
    if job is None or job.tenant != tenant:
        raise NotFound(f"no job {job_id}; GET /v1/jobs lists them")
    return job


def _replayed(session: orm.Session, known: IdempotencyKey, body: str) -> Job:
    if known.body_sha256 != body:
        raise IdempotencyConflict(
            f"Idempotency-Key {known.key!r} made job {known.job_id} from another body; use a new key for a new job",
            job=known.job_id,
        )
    return _own(session.get(Job, known.job_id), known.job_id, known.tenant)


def _drop_artifacts(session: orm.Session, job_id: str) -> list[str]:
    digests = session.scalars(sa.delete(Artifact).where(Artifact.job_id == job_id).returning(Artifact.sha256)).all()
    used = (
        sa.select(Artifact.sha256)
        .where(Artifact.sha256.in_(digests))
        .union(sa.select(File.sha256).where(File.sha256.in_(digests)))
    )
    return sorted(set(digests) - set(session.scalars(used)))


def _engine(url: str) -> sa.Engine:
    engine = sa.create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _configure_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself; `_begin_sqlite` does
    connection.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_S * 1000}")
    connection.execute("PRAGMA journal_mode=WAL")  # readers go on beside the writer
    connection.execute("PRAGMA synchronous=FULL")  # a 202 survives a power cut
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: sa.Connection) -> None:
    # IMMEDIATE: a deferred transaction that reads first fails with "database is locked" when it comes to write.
    read_only = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
