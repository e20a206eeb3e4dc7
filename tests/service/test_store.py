"""Rows, on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from service import files
from service.artifacts import Blob
from service.claims import Claim, LeaseLost, Outcome, Relayed, claim, settle_lost
from service.errors import Conflict, Expired, IdempotencyConflict, NotFound, QuotaExceeded
from service.jobs import Action, Status
from service.retention import expire, hold, remove_orphans, unannounced
from service.store import NewJob, Page, Store
from service.tables import Job

from .conftest import Clock

LEASE_S, ATTEMPTS, KEPT_S = 45.0, 3, 1000.0
SHA = "ab" * 32


def new(seed: int = 0) -> NewJob:
    """A job to be."""
    return NewJob(
        spec={"profiles": ["a", "b"], "search": {"seed": seed}}, metadata={}, model_sha256=SHA, dataset_sha256=None
    )


def taken(store: Store, job: Job, owner: str = "w") -> Claim:
    """A claim that must succeed."""
    found = claim(store, job.id, owner, LEASE_S, ATTEMPTS)
    assert found is not None
    return found[0]


def removed(store: Store) -> list[str]:
    """The digests whose bytes go now."""
    gone: list[str] = []
    remove_orphans(store, gone.append)
    return gone


def test_a_file_is_its_bytes(store: Store) -> None:
    """The same bytes are the same file; for another purpose they are another one."""
    first, created = files.add(store, "model", Blob(SHA, 3))
    again, created_again = files.add(store, "model", Blob(SHA, 3))
    other, _ = files.add(store, "dataset", Blob(SHA, 3))
    assert (created, created_again) == (True, False)
    assert first.id == again.id != other.id
    with pytest.raises(NotFound):
        files.find(store, first.id, "dataset")
    with pytest.raises(NotFound):
        files.find(store.of("somebody else"), first.id, "model")


def test_a_key_makes_one_job(store: Store) -> None:
    """The same key and body is the same job, another body is refused, another tenant's key is another one."""
    job, created = store.submit(new(), "k")
    again, created_again = store.submit(new(), "k")
    assert (again.id, created, created_again) == (job.id, True, False)
    with pytest.raises(IdempotencyConflict, match=job.id):
        store.submit(new(seed=1), "k")
    other, _ = store.of("somebody else").submit(new(), "k")
    assert other.id != job.id


def test_a_key_makes_one_job_for_many_at_once(store: Store) -> None:
    """Twenty threads with one key make one job."""
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.append(store.submit(new(), "k")[0].id)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 20
    assert len(set(ids)) == 1


def test_one_of_many_claims_wins(store: Store) -> None:
    """The same message delivered many times at once is one attempt."""
    job, _ = store.submit(new())
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(claim(store, job.id, "w", LEASE_S, ATTEMPTS))) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([one for one in found if one is not None]) == 1
    assert store.job(job.id).attempt == 1


def test_a_late_attempt_writes_nothing(store: Store, clock: Clock) -> None:
    """When a lease ended and another attempt has the job, the first one can neither relay nor publish."""
    job, _ = store.submit(new())
    late = taken(store, job)
    clock.now += LEASE_S + 1
    current = taken(store, job, "v")
    assert (late.attempt, current.attempt) == (1, 2)
    for write in (
        late.beat,
        late.status,
        lambda: late.relay(Relayed(({"type": "warning", "message": "late"},), 9)),
        lambda: late.finish(Outcome(Action.SUCCEED, artifacts={"late": Blob(SHA, 1)}), KEPT_S),
    ):
        with pytest.raises(LeaseLost):
            write()
    current.finish(Outcome(Action.SUCCEED, artifacts={"best.onnx": Blob(SHA, 1)}), KEPT_S)
    assert [row.name for row in store.artifacts(job.id)] == ["best.onnx"]
    assert store.job(job.id).warnings == []


def test_a_finish_is_once(store: Store) -> None:
    """The same attempt cannot end a job twice."""
    job, _ = store.submit(new())
    hold = taken(store, job)
    hold.finish(Outcome(Action.SUCCEED), KEPT_S)
    with pytest.raises(LeaseLost):
        hold.finish(Outcome(Action.FAIL), KEPT_S)
    assert store.job(job.id).status == Status.SUCCEEDED


def test_relayed_events_are_numbered_without_gaps(store: Store) -> None:
    """Events keep their order, stage and progress follow them, progress never goes back, warnings are told once."""
    job, _ = store.submit(new())
    hold = taken(store, job)
    progress = {"type": "progress", "stage": "search", "done": 1, "total": 2, "unit": "layers"}
    warning = {"type": "warning", "message": "slow"}
    hold.relay(Relayed(({"type": "stage", "stage": "search"}, {**progress, "fraction": 0.5}, warning), 10))
    hold.relay(Relayed((warning, {**progress, "fraction": 0.2}), 20))
    events, more = store.events(job.id, 0, 100)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert not more
    kinds = ["status", "status", "status", "stage", "progress", "warning", "warning", "progress"]
    assert [event.body["type"] for event in events] == kinds
    row = store.job(job.id)
    assert (row.status, row.stage, row.events_read, row.warnings) == (Status.RUNNING, "search", 20, ["slow"])
    assert row.progress["fraction"] == 0.5
    later, more = store.events(job.id, 3, 2)
    assert [event.seq for event in later] == [4, 5]
    assert more


def test_cancelling_wins_over_success(store: Store) -> None:
    """A job that was cancelled while its child finished is cancelled, and keeps what it found."""
    job, _ = store.submit(new())
    hold = taken(store, job)
    assert store.cancel(job.id).status == Status.CANCELLING
    assert hold.finish(Outcome(Action.SUCCEED, artifacts={"report.json": Blob(SHA, 1)}), KEPT_S) is Status.CANCELLED
    assert [row.name for row in store.artifacts(job.id)] == ["report.json"]


def test_a_finished_job_is_not_cancelled(store: Store) -> None:
    """There is nothing left to cancel."""
    job, _ = store.submit(new())
    taken(store, job).finish(Outcome(Action.SUCCEED), KEPT_S)
    with pytest.raises(Conflict):
        store.cancel(job.id)


def test_a_queued_job_is_cancelled_at_once(store: Store) -> None:
    """No worker has it, so nothing has to be waited for; a message that comes later finds nothing to take."""
    job, _ = store.submit(new())
    assert store.cancel(job.id).status == Status.CANCELLED
    assert store.cancel(job.id).status == Status.CANCELLED
    assert claim(store, job.id, "w", LEASE_S, ATTEMPTS) is None


def test_lost_workers_cost_attempts_until_there_are_none(store: Store, clock: Clock) -> None:
    """A job goes back to the queue twice when its lease ends; the third time it failed as worker-lost."""
    job, _ = store.submit(new())
    for left in (2, 1, 0):
        taken(store, job)
        assert settle_lost(store, ATTEMPTS, KEPT_S) == []
        clock.now += LEASE_S + 1
        assert settle_lost(store, ATTEMPTS, KEPT_S) == ([job.id] if left else [])
    row = store.job(job.id)
    assert row.status == Status.FAILED
    assert row.error is not None
    assert row.error["type"] == "worker-lost"


def test_an_orderly_stop_costs_no_attempt(store: Store) -> None:
    """A worker that gives its job back can do so any number of times."""
    job, _ = store.submit(new())
    for _ in range(2 * ATTEMPTS):
        assert taken(store, job).finish(Outcome(Action.RELEASE), KEPT_S) is Status.QUEUED
    assert store.job(job.id).deaths == 0


def test_a_cancelled_job_of_a_lost_worker_ends_cancelled(store: Store, clock: Clock) -> None:
    """The lease of a job that is being cancelled ends: nobody runs it again."""
    job, _ = store.submit(new())
    taken(store, job)
    store.cancel(job.id)
    clock.now += LEASE_S + 1
    assert settle_lost(store, ATTEMPTS, KEPT_S) == []
    assert store.job(job.id).status == Status.CANCELLED


def test_waiting_jobs_are_announced_again(store: Store, clock: Clock) -> None:
    """A queued job is announced again once its last message is old, and then not before that one is old too."""
    job, _ = store.submit(new())
    assert unannounced(store, 10) == []
    clock.now += 11
    assert unannounced(store, 10) == [job.id]
    assert unannounced(store, 10) == []


def test_pages_are_complete_and_without_repeats(store: Store, clock: Clock) -> None:
    """Walking by cursor meets every job once, newest first, equal times included."""
    made = []
    for i in range(7):
        clock.now += i % 2
        made.append(store.submit(new())[0].id)
    seen: list[str] = []
    after = None
    while True:
        rows, more = store.jobs(Page(limit=3, after=after))
        seen += [row.id for row in rows]
        if not more:
            break
        after = (rows[-1].created_at, rows[-1].id)
    assert sorted(seen) == sorted(made)
    assert store.jobs(Page(profile="b"))[0]
    assert not store.jobs(Page(profile="c"))[0]
    assert not store.jobs(Page(status=Status.FAILED))[0]
    assert not store.of("somebody else").jobs(Page())[0]


def test_deleting_names_only_blobs_that_nobody_uses(store: Store) -> None:
    """A blob that is also an upload, or another job's artifact, stays."""
    shared, uploaded, own = "11" * 32, "22" * 32, "33" * 32
    files.add(store, "model", Blob(uploaded, 1))
    for extra in ({}, {"own": Blob(own, 1)}):
        job, _ = store.submit(new())
        artifacts = {"shared": Blob(shared, 1), "uploaded": Blob(uploaded, 1), **extra}
        taken(store, job).finish(Outcome(Action.SUCCEED, artifacts=artifacts), KEPT_S)
    store.delete(job.id)
    assert removed(store) == [own]
    assert removed(store) == []
    with pytest.raises(NotFound):
        store.job(job.id)


def test_a_running_job_is_not_deleted(store: Store) -> None:
    """It has to be cancelled first."""
    job, _ = store.submit(new())
    with pytest.raises(Conflict, match="cancel"):
        store.delete(job.id)


def test_finished_jobs_expire(store: Store, clock: Clock) -> None:
    """After its time a job is known, its files are not."""
    job, _ = store.submit(new())
    taken(store, job).finish(Outcome(Action.SUCCEED, artifacts={"best.onnx": Blob(SHA, 1)}), KEPT_S)
    assert expire(store, KEPT_S) == []
    clock.now += KEPT_S + 1
    assert expire(store, KEPT_S) == [job.id]
    assert removed(store) == [SHA]
    assert store.job(job.id).status == Status.EXPIRED
    with pytest.raises(Expired):
        store.artifacts(job.id)


def test_held_bytes_stay(store: Store) -> None:
    """Bytes that are on their way to a row outlive the deletion of the last row that named them."""
    job, _ = store.submit(new())
    taken(store, job).finish(Outcome(Action.SUCCEED, artifacts={"best.onnx": Blob("77" * 32, 1)}), KEPT_S)
    with hold(store, ["77" * 32]):
        store.delete(job.id)
        assert removed(store) == []
        files.add(store, "model", Blob("77" * 32, 1))
    assert removed(store) == []


def test_bytes_of_a_broken_upload_go(store: Store, clock: Clock) -> None:
    """A request that fails gives its bytes up at once, one that died when its hold ends."""
    with pytest.raises(RuntimeError), hold(store, ["88" * 32]):
        raise RuntimeError
    assert removed(store) == ["88" * 32]
    died = hold(store, ["99" * 32])
    died.__enter__()
    assert removed(store) == []
    clock.now += 7 * 3600
    assert removed(store) == ["99" * 32]


def test_unused_uploads_go_in_time(store: Store, clock: Clock) -> None:
    """An upload that no job used for so long goes; the bytes that an unfinished job waits for stay."""
    files.add(store, "model", Blob(SHA, 3))
    other, _ = files.add(store, "dataset", Blob("55" * 32, 3))
    store.submit(new())
    clock.now += KEPT_S + 1
    expire(store, KEPT_S)
    assert removed(store) == ["55" * 32]
    with pytest.raises(NotFound):
        files.find(store, other.id, "dataset")


def test_quotas_hold_for_each_tenant(store: Store) -> None:
    """A tenant with as many jobs or bytes as it may have is refused; another one is not, and an end makes room."""
    first, _ = store.submit(new(), max_unfinished=1)
    with pytest.raises(QuotaExceeded, match="1 jobs"):
        store.submit(new(), max_unfinished=1)
    store.of("somebody else").submit(new(), max_unfinished=1)
    store.cancel(first.id)
    store.submit(new(), max_unfinished=1)
    files.add(store, "model", Blob(SHA, 60), max_bytes=100)
    files.add(store, "model", Blob(SHA, 60), max_bytes=100)
    with pytest.raises(QuotaExceeded, match="60 bytes"):
        files.add(store, "dataset", Blob(SHA, 60), max_bytes=100)
