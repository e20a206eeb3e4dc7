"""The rows against a model of one page: ten thousand random steps, by several workers, with time passing."""

from __future__ import annotations

import os
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from service import claims
from service.artifacts import Blob
from service.errors import Conflict
from service.jobs import ACTIVE, FINISHED, Action, Status
from service.migrations import upgrade
from service.retention import expire, remove_orphans, unannounced
from service.store import NewJob, Store

from .conftest import Clock

LEASE_S, ATTEMPTS, KEPT_S = 45.0, 3, 1000.0
EXAMPLES, STEPS = (int(word) for word in os.environ.get("SECATEUR_STATEFUL", "8x40").split("x"))
"""Examples and steps of each; ``200x50`` is ten thousand."""


class Jobs(RuleBasedStateMachine):
    """Submits, claims, relays, finishes, cancels, loses, expires and deletes, and remembers what must hold."""

    jobs: Bundle[str] = Bundle("jobs")
    holds: Bundle[claims.Claim] = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.store = Store("sqlite://", self.clock)
        upgrade(self.store.engine)
        self.current: dict[str, int] = {}
        """The attempt that may write, by job."""
        self.ends: dict[str, Status] = {}
        self.cancelled: set[str] = set()
        self.bytes: set[str] = set()

    def teardown(self) -> None:
        """Close the store."""
        self.store.close()

    @rule(target=jobs)
    def submit(self) -> str:
        """A new job."""
        spec = {"profiles": ["p"], "search": {"deadline_minutes": 60}}
        job, created = self.store.submit(NewJob(spec=spec, metadata={}, model_sha256="0" * 64, dataset_sha256=None))
        assert created
        return job.id

    @rule(target=holds, job_id=jobs)
    def claim(self, job_id: str) -> Any:
        """A message arrives, perhaps for the second time."""
        before = self.status(job_id)
        taken = claims.claim(self.store, job_id, "w", LEASE_S, ATTEMPTS)
        if taken is None:
            return multiple()
        assert before in {Status.QUEUED, Status.VALIDATING, Status.RUNNING}
        assert taken[0].attempt == self.current.get(job_id, 0) + 1
        self.current[job_id] = taken[0].attempt
        return taken[0]

    @rule(hold=holds, fraction=st.floats(0, 1))
    def relay(self, hold: claims.Claim, fraction: float) -> None:
        """The child says something."""
        body = {"type": "progress", "stage": "search", "fraction": fraction, "done": 1, "total": 2, "unit": "u"}
        self.write(hold, lambda: hold.relay(claims.Relayed((body,), 1)))

    @rule(hold=holds)
    def beat(self, hold: claims.Claim) -> None:
        """The worker is there."""
        self.write(hold, hold.beat)

    @rule(
        hold=consumes(holds),
        action=st.sampled_from([Action.SUCCEED, Action.FAIL, Action.RELEASE]),
        died=st.booleans(),
    )
    def finish(self, hold: claims.Claim, action: Action, died: bool) -> None:
        """An attempt ends, perhaps long after another one took over."""
        digest = f"{hold.attempt:032x}{hold.job_id[-24:]:>032}"
        files = {"report.json": Blob(digest, 1)} if action is Action.SUCCEED else {}
        outcome = claims.Outcome(action, died=died and action is Action.RELEASE, artifacts=files)
        if self.write(hold, lambda: hold.finish(outcome, KEPT_S)):
            self.bytes |= {file.sha256 for file in files.values()}

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        """A client changes its mind."""
        try:
            self.store.cancel(job_id)
        except Conflict:
            assert self.status(job_id) in {Status.SUCCEEDED, Status.FAILED, Status.EXPIRED}
        else:
            self.cancelled.add(job_id)

    @rule(seconds=st.sampled_from([1.0, 20.0, LEASE_S + 1, KEPT_S + 1]))
    def wait(self, seconds: float) -> None:
        """Time passes, then the reconciler looks."""
        self.clock.now += seconds
        claims.settle_lost(self.store, ATTEMPTS, KEPT_S)
        unannounced(self.store, 10)
        expire(self.store, KEPT_S)
        remove_orphans(self.store, self.bytes.discard)

    @rule(job_id=consumes(jobs))
    def delete(self, job_id: str) -> None:
        """A client deletes a job that has ended."""
        try:
            self.store.delete(job_id)
        except Conflict:
            assert self.status(job_id) in ACTIVE | {Status.QUEUED}
        else:
            self.ends.pop(job_id, None)
            self.cancelled.discard(job_id)
            self.current.pop(job_id, None)

    def write(self, hold: claims.Claim, work: Any) -> bool:
        """A worker writes; whether it counted: exactly when it is the current attempt of a job that is held."""
        held = self.current.get(hold.job_id) == hold.attempt and self.exists(hold.job_id)
        held = held and self.status(hold.job_id) in ACTIVE
        try:
            work()
        except claims.LeaseLost:
            assert not held
            return False
        assert held
        return True

    def exists(self, job_id: str) -> bool:
        """Whether the job was not deleted."""
        return any(row.id == job_id for row in self.rows())

    def status(self, job_id: str) -> Status:
        """Of a job."""
        return Status(self.store.job(job_id).status)

    def rows(self) -> Any:
        """Every job."""
        from service.store import Page

        return self.store.jobs(Page(limit=1000))[0]

    @invariant()
    def ends_are_final(self) -> None:
        """A job ends once; a cancelled one only cancelled; events are whole; listed bytes are there."""
        for job in self.rows():
            status = Status(job.status)
            if job.id in self.ends:
                assert status in {self.ends[job.id], Status.EXPIRED}
            if status in FINISHED:
                self.ends.setdefault(job.id, status)
            if job.id in self.cancelled:
                assert status in {Status.CANCELLING, Status.CANCELLED, Status.EXPIRED}
            assert (job.lease_until is not None) == (status in ACTIVE)
            assert (job.finished_at is not None) == (status in FINISHED | {Status.EXPIRED})
            events, more = self.store.events(job.id, 0, 100_000)
            assert [event.seq for event in events] == list(range(1, job.last_seq + 1))
            assert not more
            if status in FINISHED:
                assert {row.sha256 for row in self.store.artifacts(job.id)} <= self.bytes


TestJobs = Jobs.TestCase
TestJobs.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
