"""A short part of the nemesis run; `make faults` has the long one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import requests

from service.tables import Event, Job
from tests.faults.nemesis import Promise, faults_of, judge, ordeal, plans
from tests.faults.stack import running
from tests.faults.talk import ended, plan, submit
from tests.service.conftest import skip_here
from tests.service.servers import Missing


@pytest.mark.parametrize("backend", ["sqlite+files", "postgres+redis"])
def test_killed_and_stopped_parts_lose_no_job(backend: str, tmp_path: Path) -> None:
    """Twelve jobs from three clients under fire: each ends once, as its client was told."""
    try:
        with running(backend, tmp_path) as stack:
            verdict = ordeal(stack, plans(12, random.Random(7)), 7, clients=3, fire_s=15.0, limit_s=200.0)
    except Missing as missing:
        skip_here(str(missing))
    assert verdict.holds, verdict
    assert sum(verdict.ends.values()) == 12
    assert verdict.faults


def test_the_judge_finds_what_is_wrong(tmp_path: Path) -> None:
    """A lost job, one that nobody asked for, a changed end and a damaged file are each found."""
    with running("sqlite+files", tmp_path, workers=1) as stack:
        made = submit(stack, plan())
        done = ended(stack, made["id"])
        good = Promise("k", made["id"], end=done)
        assert judge(stack, [good]).holds
        assert judge(stack, [good, Promise("never accepted")]).lost == ["never accepted"]
        assert judge(stack, []).doubled == [made["id"]]
        assert judge(stack, [Promise("k", made["id"], end={**done, "status": "failed"})]).changed
        file = requests.get(f"{stack.url}/v1/jobs/{made['id']}/artifacts", timeout=10).json()["data"][0]
        blob = stack.settings.data_dir / "blobs" / file["sha256"][:2] / file["sha256"]
        blob.write_bytes(b"damaged")
        assert judge(stack, [good]).inconsistent


def test_the_judge_replays_events(tmp_path: Path) -> None:
    """A status that does not follow, a gap, and a last event that is not the row's are each found."""
    job = Job(id="j", status="succeeded", attempt=1, last_seq=3)

    def history(*statuses: tuple[int, str, int]) -> list[Event]:
        bodies = ({"type": "status", "status": status, "attempt": attempt} for _, status, attempt in statuses)
        return [
            Event(job_id="j", seq=seq, at=0.0, body=body) for (seq, _, _), body in zip(statuses, bodies, strict=True)
        ]

    def found(*statuses: tuple[int, str, int]) -> str:
        from service.artifacts import BlobStore
        from service.settings import Settings

        return " ".join(faults_of(job, history(*statuses), [], BlobStore.of(Settings(data_dir=tmp_path))))

    right = ((1, "queued", 0), (2, "validating", 1), (3, "succeeded", 1))
    assert "follow" not in found(*right)
    assert "gaps" in found((1, "queued", 0), (2, "validating", 1), (4, "succeeded", 1))
    assert "follow" in found((1, "queued", 0), (2, "succeeded", 1), (3, "succeeded", 1))
    assert "last event" in found((1, "queued", 0), (2, "validating", 1), (3, "failed", 1))
