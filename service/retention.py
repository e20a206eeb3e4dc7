"""What is kept and what goes: finished jobs and unused uploads after their time, and bytes that no row names.

Bytes and rows cannot change in one transaction, so two small tables stand between them. A *hold* says that bytes are on
their way to a row. An *orphan* says that a row with these bytes was deleted; it is written in the same transaction. The
bytes go only while nobody else may take or drop a hold on them, and only when no row, hold or unfinished job names them.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterable, Iterator

import sqlalchemy as sa
from sqlalchemy import orm

from service.database import Database
from service.jobs import TERMINAL, Action, Status
from service.store import Store, drop_artifacts
from service.tables import Artifact, BlobHold, File, IdempotencyKey, Job, Orphan

_DAY_S = 86_400.0
_HOLD_S = 6 * 3600.0
"""Longer than any upload or publication takes; after a crash the bytes go then."""
_BATCH = 500


@contextlib.contextmanager
def hold(database: Database, digests: Iterable[str]) -> Iterator[None]:
    """Nobody removes the bytes of `digests` meanwhile; at the end they stay if a row names them."""
    wanted = sorted(set(digests))
    token, until = secrets.token_hex(8), database.clock() + _HOLD_S
    with database.writing(wanted) as session:
        session.add_all(BlobHold(token=token, sha256=sha256, until=until) for sha256 in wanted)
    try:
        yield
    except BaseException:
        with contextlib.suppress(sa.exc.SQLAlchemyError):
            _let_go(database, BlobHold.token == token)
        raise
    with database.writing() as session:
        session.execute(sa.delete(BlobHold).where(BlobHold.token == token))


def _let_go(database: Database, which: sa.ColumnElement[bool]) -> None:
    with database.writing() as session:
        gone = session.scalars(sa.delete(BlobHold).where(which).returning(BlobHold.sha256)).all()
        mark_orphans(session, gone)


def mark_orphans(session: orm.Session, digests: Iterable[str]) -> None:
    """Have these digests looked into after the transaction."""
    for sha256 in sorted(set(digests)):
        session.merge(Orphan(sha256=sha256))


def remove_orphans(database: Database, remove: Callable[[str], None]) -> int:
    """Remove the bytes that nothing names any more; how many."""
    _let_go(database, BlobHold.until < database.clock())
    with database.reading() as session:
        candidates = session.scalars(sa.select(Orphan.sha256).limit(_BATCH)).all()
    removed = 0
    for sha256 in candidates:
        with database.writing([sha256]) as session:
            session.execute(sa.delete(Orphan).where(Orphan.sha256 == sha256))
            if not _named(session, sha256):
                remove(sha256)  # before the commit: after a crash the orphan is still there, and this is done again
                removed += 1
    return removed


def _named(session: orm.Session, sha256: str) -> bool:
    beside = sa.cast(Job.model_data, sa.Text).contains(sha256)
    given = (Job.model_sha256 == sha256) | (Job.dataset_sha256 == sha256) | beside
    unfinished = Job.status.not_in(TERMINAL) & given
    queries = (
        sa.select(sa.literal(1)).where(BlobHold.sha256 == sha256),
        sa.select(sa.literal(1)).where(File.sha256 == sha256),
        sa.select(sa.literal(1)).where(Artifact.sha256 == sha256),
        sa.select(sa.literal(1)).select_from(Job).where(unfinished),
    )
    return any(session.scalar(query.limit(1)) for query in queries)


def expire(store: Store, file_retention_s: float) -> list[str]:
    """Let go of what was kept for its time; the ids of the jobs."""
    now, gone = store.clock(), []
    with store.writing() as session:
        over = sa.select(Job).where(Job.expires_at < now, Job.status != Status.EXPIRED)
        for job in session.scalars(over.limit(_BATCH).with_for_update(skip_locked=True)).all():
            store.move(session, job, Action.EXPIRE)
            mark_orphans(session, drop_artifacts(session, job.id))
            gone.append(job.id)
        unused = sa.func.coalesce(File.used_at, File.created_at) < now - file_retention_s
        mark_orphans(session, session.scalars(sa.delete(File).where(unused).returning(File.sha256)).all())
        session.execute(sa.delete(IdempotencyKey).where(IdempotencyKey.created_at < now - _DAY_S))
    return gone


def unannounced(database: Database, republish_s: float) -> list[str]:
    """Queued jobs whose last message is older than `republish_s`; marked as announced now."""
    now = database.clock()
    late = (Job.status == Status.QUEUED) & (Job.announced_at < now - republish_s)
    with database.writing() as session:
        return list(session.scalars(sa.update(Job).where(late).values(announced_at=now).returning(Job.id)))
