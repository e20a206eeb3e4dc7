"""Tells waiting requests that their job changed: one look at the rows serves all of them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa
import sqlalchemy.exc

from service.api.follow import Mark
from service.jobs import Status
from service.store import Store
from service.tables import Job

_LOOK_S = 0.25
_log = logging.getLogger(__name__)


@dataclasses.dataclass(eq=False)
class _Waiter:
    job_id: str
    seen: Mark
    changed: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)


class Changes:
    """Belongs to one event loop.

    Args:
        store: the rows.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiters: set[_Waiter] = set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="changes")
        self._looking: asyncio.Task[None] | None = None

    async def wait(self, job_id: str, seen: Mark, timeout_s: float) -> bool:
        """Wait until a job differs from what was seen of it, or is gone; False after `timeout_s`."""
        waiter = _Waiter(job_id, seen)
        self._waiters.add(waiter)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            async with asyncio.timeout(timeout_s):
                await waiter.changed.wait()
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)
        return True

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiters:
            try:
                now = await loop.run_in_executor(self._thread, self._marks, {one.job_id for one in self._waiters})
            except sqlalchemy.exc.OperationalError as error:  # the database is away; whoever waits goes on waiting
                _log.warning("changes cannot be looked for: %s", error)
            else:
                for waiter in self._waiters:
                    if _differs(now.get(waiter.job_id), waiter.seen):
                        waiter.changed.set()
            await asyncio.sleep(_LOOK_S)

    def _marks(self, job_ids: Collection[str]) -> Mapping[str, Mark]:
        rows = sa.select(Job.id, Job.last_seq, Job.status).where(Job.id.in_(job_ids))
        with self._store.reading() as session:
            found = session.execute(rows).tuples().all()
            queued = [job_id for job_id, _, status in found if status == Status.QUEUED]
        positions = self._store.positions(queued) if queued else {}
        return {job_id: Mark(seq, positions.get(job_id), with_position=True) for job_id, seq, _ in found}

    def close(self) -> None:
        """Let the thread go."""
        with contextlib.suppress(RuntimeError):  # of a loop that is closed already
            if self._looking is not None:
                self._looking.cancel()
        self._thread.shutdown(wait=False)


def _differs(now: Mark | None, seen: Mark) -> bool:
    if now is None:
        return True
    return now.seq > seen.seq or (seen.with_position and now.position != seen.position)
