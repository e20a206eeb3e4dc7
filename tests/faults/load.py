"""How the service bears load: polls beside a busy worker, a large upload, a long list."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import requests

from service.store import NewJob, Store
from tests.faults import processes
from tests.faults.stack import Stack, running
from tests.faults.talk import PROFILE, plan, submit

_RATE_PER_S, _DURATION_S, _CLIENTS = 200, 60.0, 16
Measured = tuple[str, bool]


def polls(folder: Path) -> Measured:
    """Status polls at a fixed rate, first with an idle worker, then with one whose job keeps a core busy."""
    with running("sqlite+redis", folder, workers=1) as stack:
        waiting = submit(stack, plan())["id"]
        idle = _poll(stack, waiting)
        submit(stack, plan(units=10_000, unit_s=0.02, spin=True))
        busy = _poll(stack, waiting)
    (p50, p99, rate), (busy_p50, busy_p99, busy_rate) = idle, busy
    text = (
        f"idle p50 {p50:.1f}, p99 {p99:.1f} ms at {rate:.0f}/s; busy p50 {busy_p50:.1f}, p99 {busy_p99:.1f} ms at "
        f"{busy_rate:.0f}/s; p99 ratio {busy_p99 / p99:.1f}"
    )
    return text, busy_p99 <= 50 and busy_p99 / p99 <= 3 and busy_rate >= 0.95 * _RATE_PER_S


def watchers(folder: Path, count: int = 500, duration_s: float = 20.0) -> Measured:
    """Health and polls while clients follow a job by event streams, and a search and a neighbour each keep a core busy."""
    with running("sqlite+redis", folder, workers=1) as stack, contextlib.ExitStack() as open_:
        waiting = submit(stack, plan())["id"]
        submit(stack, plan(units=10_000, unit_s=0.02, spin=True))
        neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        open_.callback(neighbour.kill)
        head = f"GET /v1/jobs/{waiting}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
        for _ in range(count):
            watcher = open_.enter_context(socket.create_connection(("127.0.0.1", stack.settings.port)))
            watcher.sendall(head.encode())
            assert watcher.recv(12) == b"HTTP/1.1 200"
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            polling = pool.submit(_poll, stack, waiting, duration_s)
            healths = [_health_ms(stack) for _ in _ticks(duration_s, 0.1)]
            _, polls_p99, rate = polling.result()
    health_p99 = sorted(healths)[int(0.99 * len(healths))]
    text = f"{count} watchers; /livez p99 {health_p99:.0f} ms; polls p99 {polls_p99:.0f} ms at {rate:.0f}/s"
    return text, health_p99 <= 100 and polls_p99 <= 250


def _ticks(duration_s: float, pause_s: float) -> Iterator[int]:
    start = time.monotonic()
    for tick in range(int(duration_s / pause_s)):
        time.sleep(max(0.0, start + tick * pause_s - time.monotonic()))
        yield tick


def _health_ms(stack: Stack) -> float:
    """A look at health as Kubernetes does it, on a connection of its own."""
    start = time.monotonic()
    assert requests.get(f"{stack.url}/livez", timeout=30).ok
    return 1000 * (time.monotonic() - start)


def _poll(stack: Stack, job_id: str, duration_s: float = _DURATION_S) -> tuple[float, float, float]:
    """Median and 99th percentile in ms, counted from the moment a request was due, and requests a second."""
    start = time.monotonic()

    def client(number: int) -> list[float]:
        connection = http.client.HTTPConnection("127.0.0.1", stack.settings.port, timeout=30)
        found = []
        for turn in range(int(duration_s * _RATE_PER_S / _CLIENTS)):
            due = start + (turn * _CLIENTS + number) / _RATE_PER_S
            time.sleep(max(0.0, due - time.monotonic()))
            connection.request("GET", f"/v1/jobs/{job_id}")
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            found.append(1000 * (time.monotonic() - due))
        connection.close()
        return found

    with concurrent.futures.ThreadPoolExecutor(_CLIENTS) as pool:
        latencies = sorted(one for each in pool.map(client, range(_CLIENTS)) for one in each)
    rate = len(latencies) / (time.monotonic() - start)
    return statistics.median(latencies), latencies[int(0.99 * len(latencies))], rate


def zeros(size: int) -> Iterator[bytes]:
    """So many zero bytes, piece by piece."""
    piece = bytes(2**20)
    for _ in range(size // len(piece)):
        yield piece


def large_upload(folder: Path) -> Measured:
    """One file of 2 GiB; the largest resident memory of the web server meanwhile."""
    size = 2 * 2**30
    with running("sqlite+files", folder, workers=0) as stack:
        requests.put(f"{stack.url}/v1/files?purpose=model", data=zeros(2**22), timeout=60).raise_for_status()
        before = _memory(stack)
        peak, over = [before], threading.Event()

        def watch() -> None:
            while not over.wait(0.05):
                peak.append(_memory(stack))

        watcher = threading.Thread(target=watch)
        watcher.start()
        start = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", stack.settings.port, timeout=600)
        headers = {"Content-Length": str(size)}
        connection.request("PUT", "/v1/files?purpose=model", body=zeros(size), headers=headers)
        status = connection.getresponse().status
        wall_s = time.monotonic() - start
        over.set()
        watcher.join()
    grown, rate = (max(peak) - before) / 2**20, size / wall_s / 1e6
    text = f"{status}, {rate:.0f} MB/s, memory grew by {grown:.0f} MiB"
    return text, status == 201 and rate >= 100 and grown <= 32


def _memory(stack: Stack) -> int:
    return sum(processes.resident_bytes(pid) for pid in stack.family("web"))


def many_jobs(folder: Path) -> Measured:
    """Ten thousand rows, a hundred a page, by cursor."""
    with running("sqlite+files", folder, workers=0) as stack:
        store = Store(stack.settings.database)
        spec = {"schema_version": 1, "profiles": [PROFILE]}
        made = {
            store.submit(NewJob(spec=spec, metadata={}, model_sha256="0" * 64, dataset_sha256=None))[0].id
            for _ in range(10_000)
        }
        store.close()
        seen: list[str] = []
        pages_s: list[float] = []
        query = "limit=100"
        while query:
            start = time.monotonic()
            page = requests.get(f"{stack.url}/v1/jobs?{query}", timeout=60).json()
            pages_s.append(time.monotonic() - start)
            seen += [job["id"] for job in page["data"]]
            query = f"limit=100&cursor={page['next_cursor']}" if page["has_more"] else ""
    complete = len(seen) == len(set(seen)) and set(seen) == made
    slowest = 1000 * max(pages_s)
    text = f"{len(seen)} on {len(pages_s)} pages, median {1000 * statistics.median(pages_s):.0f} ms, slowest {slowest:.0f} ms"
    return text, complete


@contextlib.contextmanager
def small_file_system(folder: Path, mebibytes: int) -> Iterator[bool]:
    """Mount a file system of that size at `folder`; False where this machine does not allow it."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)
