"""A client's few words to a service under test."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

import requests

from service.jobs import TERMINAL
from tests.faults.stack import Stack
from tests.service.servers import wait_for

PROFILE = "host-cpu-onnxruntime"
UNCALIBRATED = "a100-tensorrt-fp16"
"""A target that needs no calibration first."""
Job = dict[str, Any]


def upload(stack: Stack, data: bytes, purpose: str = "model") -> str:
    """Upload bytes; the file's id."""
    answer = requests.put(f"{stack.url}/v1/files?purpose={purpose}", data=data, timeout=60)
    answer.raise_for_status()
    return str(answer.json()["id"])


def plan(**behaviour: Any) -> bytes:
    """A model that makes the quick child behave so, with its own bytes."""
    return json.dumps({**behaviour, "nr": uuid.uuid4().hex}).encode()


def submit(stack: Stack, model: bytes, dataset: bytes = b"", key: str = "", **fields: Any) -> Job:
    """Start a job; the job."""
    body = {"model": upload(stack, model), "profiles": [PROFILE], **fields}
    if dataset:
        body["dataset"] = upload(stack, dataset, "dataset")
    headers = {"Idempotency-Key": key} if key else {}
    answer = requests.post(f"{stack.url}/v1/jobs", json=body, headers=headers, timeout=60)
    answer.raise_for_status()
    job: Job = answer.json()
    return job


def job(stack: Stack, job_id: str) -> Job:
    """The job now."""
    found: Job = requests.get(f"{stack.url}/v1/jobs/{job_id}", timeout=60).json()
    return found


def ended(stack: Stack, job_id: str, timeout_s: float = 180) -> Job:
    """The job once it has ended."""
    found: Job = wait_for(lambda: (now := job(stack, job_id))["status"] in TERMINAL and now, timeout_s, 0.1)
    return found


def under_way(stack: Stack, job_id: str, fraction: float = 0.01, timeout_s: float = 120) -> None:
    """Return once the job has come so far."""
    wait_for(lambda: job(stack, job_id)["progress"]["fraction"] >= fraction, timeout_s)


def seconds_until(ready: Any, timeout_s: float = 180) -> float:
    """How long it takes until `ready` gives something true."""
    start = time.monotonic()
    wait_for(ready, timeout_s, 0.02)
    return time.monotonic() - start


def digests(stack: Stack, job_id: str) -> dict[str, str]:
    """SHA-256 of a job's models by name."""
    rows = requests.get(f"{stack.url}/v1/jobs/{job_id}/artifacts", timeout=60).json()["data"]
    return {row["name"]: row["sha256"] for row in rows if Path(row["name"]).suffix == ".onnx"}
