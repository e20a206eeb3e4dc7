"""One attempt at a job: start the child, relay what it says, keep the lease, obey a cancel, publish the result."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from search.wire.errors import FAULT_OF_OURS, DeadlineExceeded, InternalError, SecateurError
from search.wire.report import Point, Report
from service import caches, checkpoints, protocol, sandbox
from service.artifacts import BlobStore, BlobWriter
from service.checkpoints import Checkpoints
from service.claims import Claim, LeaseLost, Outcome, worker_lost
from service.errors import OutOfMemory
from service.jobs import Action, Status
from service.protocol import ExitCode
from service.retention import hold
from service.settings import Settings
from service.tables import Job

_DAY_S = 86_400.0
_DEADLINE_GRACE_S = 5.0
"""What a job may take beyond its deadline: half to end by itself, half to end when it is told to."""
_OUT_OF_MEMORY = (b"MemoryError", b"bad_alloc", b"RESOURCE_EXHAUSTED", b"Out of memory", b"Cannot allocate memory")
_log = logging.getLogger(__name__)


@dataclasses.dataclass
class Attempt:
    """A claimed job on its way through a child process."""

    settings: Settings
    blobs: BlobStore
    claim: Claim
    job: Job
    stopping: Callable[[], bool]
    """Whether the worker is to stop."""

    def __post_init__(self) -> None:
        """Work out where the job's files are and when it must end."""
        self.directory = self.settings.jobs_dir / self.job.id
        minutes = float(self.job.spec["search"]["deadline_minutes"])
        self.deadline = (self.job.started_at or self.claim.store.clock()) + 60 * minutes
        self._checkpoints = Checkpoints(self.blobs.storage, self.job.id, self.directory / "units")
        self._position = 0
        self._next_beat = 0.0
        self._files: dict[str, BlobWriter] = {}

    def run(self) -> Status | None:
        """Run to the end of the attempt; the job's status then, or None when the job is no longer ours."""
        end_leftover(self.directory)  # first: it must not write beside its successor
        try:
            self._fill()
        except SecateurError as refusal:
            return self._finish(Outcome(Action.FAIL, error=refusal.to_dict()))
        child = self._start()
        try:
            reason = self._watch(child)
            self._relay()
            self._checkpoints.keep()
            caches.keep_calibrations(self._cache, self.settings, self.job.tenant, self._own)
            return self._finish(self._outcome(child.returncode, reason))
        except LeaseLost as lost:
            _log.warning("%s", lost)
            return None
        finally:
            sandbox.kill(child)
            for writer in self._files.values():
                writer.close()

    def _fill(self) -> None:
        self._own = self.job.user_profiles or {}
        caches.keep_calibrations(
            self.directory / "cache", self.settings, self.job.tenant, self._own
        )  # of a lost attempt
        inputs = protocol.Inputs(
            model=self.job.model_sha256, model_data=self.job.model_data or {}, dataset=self.job.dataset_sha256
        )
        protocol.write_request(self.directory, self.job.spec, self.blobs, inputs, self.settings.max_upload_bytes)
        self._cache = caches.view(self.directory, self.settings, self.job.tenant, self._own)
        self._checkpoints.restore()

    def _start(self) -> subprocess.Popen[bytes]:
        left_s = max(1.0, self.deadline - self.claim.store.clock())
        limits = sandbox.Limits(
            memory_bytes=self.settings.child_memory_bytes or _machine_memory_bytes(),
            file_bytes=self.settings.child_file_bytes,
            processes=self.settings.child_processes,
            niceness=self.settings.child_niceness,
            network=cast("sandbox.Policy", self.settings.sandbox_network),
            files=cast("sandbox.Policy", self.settings.sandbox_files),
            cpu_s=int((left_s + 60) * (os.cpu_count() or 1)),
        )
        command = [*self.settings.child_command, "run", str(self.directory)]
        command += ["--cache-dir", str(self._cache), "--deadline-s", f"{left_s:.1f}"]
        name = {"job": self.job.id, "attempt": self.claim.attempt, "request_id": self.job.request_id}
        with (self.directory / "child.log").open("a", encoding="utf-8") as log:
            log.write(json.dumps(name) + "\n")  # joins what the child prints with the logs of web and worker
        child = sandbox.start(command, self.directory, caches.tenant_cache(self.settings, self.job.tenant), limits)
        (self.directory / "child.pid").write_text(str(child.pid), encoding="ascii")
        return child

    def _watch(self, child: subprocess.Popen[bytes]) -> str:
        """Wait for the child's end; why we ended it: ``cancelled``, ``stopping``, ``overdue``, or empty."""
        while True:
            try:
                child.wait(self.settings.poll_s)
            except subprocess.TimeoutExpired:
                reason = self._reason_to_stop()
                if reason:
                    late_s = _DEADLINE_GRACE_S / 2 if reason == "overdue" else self.settings.cancel_grace_s
                    sandbox.stop(child, min(late_s, self.settings.cancel_grace_s))
                    return reason
                self._relay()
                self._beat()
            else:
                return ""

    def _reason_to_stop(self) -> str:
        if self.claim.status() is Status.CANCELLING:
            return "cancelled"
        if self.stopping():
            return "stopping"
        return "overdue" if self.claim.store.clock() > self.deadline + _DEADLINE_GRACE_S / 2 else ""

    def _beat(self) -> None:
        if time.monotonic() >= self._next_beat:
            self.claim.beat()
            self._checkpoints.keep()
            self._next_beat = time.monotonic() + self.settings.lease_s / 5

    def _relay(self) -> None:
        relayed = protocol.read_events(self.directory, self._position)
        if relayed.position != self._position:
            self.claim.relay(relayed)
            self._position = relayed.position

    def _outcome(self, exit_code: int, reason: str) -> Outcome:
        if reason == "stopping" and exit_code != ExitCode.DONE:
            return Outcome(Action.RELEASE)
        if reason or exit_code == ExitCode.DONE:
            return self._published(reason)
        if exit_code == ExitCode.REFUSED:
            error = protocol.read_error(self.directory)
            return Outcome(Action.FAIL, error=error or _internal("the engine refused the job without saying why"))
        return self._crashed(exit_code)

    def _published(self, reason: str) -> Outcome:
        report = protocol.read_report(self.directory)
        if report is not None:
            self._files = protocol.received(self.directory, self.blobs)
            artifacts = {name: writer.seal() for name, writer in self._files.items()}
            return Outcome(Action.SUCCEED, best=_best(report, self.job), artifacts=artifacts)
        if reason == "overdue":
            late = DeadlineExceeded("the deadline came before the first result; raise search.deadline_minutes")
            return Outcome(Action.FAIL, error=late.to_dict())
        return Outcome(Action.FAIL, error=_internal("the engine ended well but left no report that can be read"))

    def _crashed(self, exit_code: int) -> Outcome:
        deaths = self.job.deaths + 1
        tail = _tail(self.directory / "child.log")
        _log.error("job %s: the child ended with %d: %s", self.job.id, exit_code, tail.decode(errors="replace"))
        if any(mark in tail for mark in _OUT_OF_MEMORY):
            error = OutOfMemory("the job needs more memory than this worker gives; use a smaller model or data set")
            return Outcome(Action.FAIL, error=error.to_dict())
        if deaths >= self.settings.max_attempts:
            return Outcome(Action.FAIL, died=True, error=worker_lost(deaths).to_dict())
        return Outcome(Action.RELEASE, died=True)

    def _finish(self, outcome: Outcome) -> Status:
        retention_s = self.settings.retention_days * _DAY_S
        self.claim.beat()  # publishing many files to a bucket takes its time
        with hold(self.claim.store, (blob.sha256 for blob in outcome.artifacts.values())):
            for writer in self._files.values():
                writer.keep()
            status = self.claim.finish(outcome, retention_s)
        if status is not Status.QUEUED:
            checkpoints.drop(self.blobs.storage, self.job.id)
        if status in {Status.SUCCEEDED, Status.CANCELLED}:  # a failed job's directory stays, for whoever looks into it
            shutil.rmtree(self.directory, ignore_errors=True)
        return status


def end_leftover(directory: Path) -> None:
    """Kill a child that an earlier attempt left in `directory`: a worker that was stopped and replaced, say."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((directory / "child.pid").read_text(encoding="ascii"))
        if os.fsencode(directory) in Path(f"/proc/{pid}/cmdline").read_bytes():  # the number may be somebody else's now
            os.killpg(pid, signal.SIGKILL)


def _best(report: Report, job: Job) -> dict[str, object] | None:
    """The best point of the first target that has one; it is what best.onnx holds."""
    for profile in job.spec["profiles"]:
        front = report.fronts.get(profile)
        found: list[Point] = [] if front is None else [point for point in front.points if point.id == front.best]
        if found:
            return dataclasses.asdict(found[0])
    return None


def _internal(detail: str) -> dict[str, object]:
    return InternalError(f"{detail}; {FAULT_OF_OURS}, please report it").to_dict()


def _tail(path: Path, length: int = 4000) -> bytes:
    try:
        return path.read_bytes()[-length:]
    except FileNotFoundError:
        return b""


def _machine_memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
