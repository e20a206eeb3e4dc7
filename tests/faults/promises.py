"""The promises about jobs, each with a way to measure it. What is about load is in `tests.faults.load`."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
import requests

from service.broker import Announcer, make_celery
from service.settings import Settings
from tests.e2e.test_service import npz, samples, small_network
from tests.faults import load, processes
from tests.faults.stack import running
from tests.faults.talk import UNCALIBRATED, Job, digests, ended, job, plan, seconds_until, submit, under_way

REAL = Settings().child_command
SEARCH: dict[str, Any] = {"profiles": [UNCALIBRATED], "search": {"points": 3}}
Measured = tuple[str, bool]


@dataclasses.dataclass(frozen=True)
class Promise:
    """One line of the table."""

    name: str
    target: str
    measure: Callable[[Path], Measured]
    """Given a fresh folder: what was found, and whether it is within the target."""


def many_deliveries(folder: Path) -> Measured:
    """The same message fifty times, from the moment the job is submitted."""
    with running("sqlite+redis", folder) as stack:
        announcer = Announcer(make_celery(stack.settings))
        made = submit(stack, plan(units=10, unit_s=0.2))
        for _ in range(50):
            announcer.announce(made["id"])
        done = ended(stack, made["id"])
        time.sleep(3)
        after = job(stack, made["id"])
    return f"{after['attempt']} run, {done['status']}", after == done and after["attempt"] == 1


def killed_worker(folder: Path) -> Measured:
    """Kill -9 of a worker with the lease and pauses of production."""
    options: dict[str, Any] = {"lease_s": 45.0, "sweep_s": 5.0, "republish_s": 10.0}
    with running("sqlite+redis", folder, workers=1, **options) as stack:
        made = submit(stack, plan(units=300, unit_s=0.2))
        under_way(stack, made["id"], 0.05)
        stack.kill("worker-1")
        again_s = seconds_until(lambda: job(stack, made["id"])["attempt"] == 2)
    return f"again after {again_s:.0f} s", again_s <= 60


def resumed_search(folder: Path) -> Measured:
    """The real search twice with one seed: undisturbed, and with its worker killed half way."""
    x, y = samples()
    model, data = small_network(seed=5), npz(folder / "d.npz", x=x, y=y).read_bytes()
    with running("sqlite+redis", folder, child=REAL, workers=1) as stack:
        first = ended(stack, submit(stack, model, data, **SEARCH)["id"], 300)
        second = submit(stack, model, data, **SEARCH)
        units = stack.settings.jobs_dir / second["id"] / "units"
        seconds_until(lambda: units.is_dir() and len(list(units.iterdir())) >= 3)
        stack.kill("worker-1")
        done = ended(stack, second["id"], 300)
        same = digests(stack, first["id"]) == digests(stack, second["id"])
    text = f"attempt {done['attempt']} {done['status']}, models {'bit-identical' if same else 'DIFFER'}"
    return text, same and (done["status"], done["attempt"]) == ("succeeded", 2)


def poison(folder: Path) -> Measured:
    """A job that kills its process every time, and five good ones behind it."""
    with running("sqlite+redis", folder, workers=1) as stack:
        before = stack.family("worker-1")[:2]
        bad = submit(stack, plan(kill_at=0, kill_always=True))
        good = [submit(stack, plan())["id"] for _ in range(5)]
        done = [ended(stack, job_id)["status"] for job_id in good]
        end = ended(stack, bad["id"])
        stays = before == stack.family("worker-1")[:2]
    text = f"{end['error']['type']} after {end['attempt']} attempts, {done.count('succeeded')} of 5 good ones, "
    holds = (end["error"]["type"], end["attempt"]) == ("worker-lost", 3) and done == ["succeeded"] * 5 and stays
    return text + f"worker {'stays' if stays else 'DIED'}", holds


def redis_away(folder: Path) -> Measured:
    """Redis killed for 30 s while a job runs."""
    with running("sqlite+redis", folder, workers=1) as stack:
        made = submit(stack, plan(units=100, unit_s=0.1))
        under_way(stack, made["id"])
        stack.absent.add("redis")
        stack.kill("redis")
        time.sleep(30)
        done = ended(stack, made["id"])
        workers = stack.family("worker-1")[:2]
        stack.absent.clear()
        wait_redis_s = seconds_until(lambda: Path(stack.settings.redis_url.removeprefix("unix://")).exists())
        after = submit(stack, plan())
        back_s = wait_redis_s + seconds_until(lambda: job(stack, after["id"])["attempt"] == 1)
        (keeper, consumer), (keeper_now, consumer_now) = workers, stack.family("worker-1")[:2]
    text = f"running job: attempt {done['attempt']}; consuming {back_s:.1f} s after its return, the consumer "
    text += "the same" if consumer == consumer_now else "replaced by the worker's own watchdog"
    return text, done["attempt"] == 1 and back_s <= 15 and keeper == keeper_now


def submit_without_redis(folder: Path) -> Measured:
    """Submissions while Redis is dead, and while it hangs."""
    with running("sqlite+redis", folder) as stack:
        submit(stack, plan())
        [server] = stack.family("redis")
        processes.signal_safely(server, signal.SIGSTOP)
        hanging_s, first = _timed(lambda: submit(stack, plan()))
        processes.signal_safely(server, signal.SIGCONT)
        stack.absent.add("redis")
        stack.kill("redis")
        dead_s, second = _timed(lambda: submit(stack, plan()))
        stack.absent.clear()
        ends = {ended(stack, made["id"])["status"] for made in (first, second)}
    text = f"202 in {dead_s:.2f} s dead, {hanging_s:.2f} s hanging; both {', '.join(sorted(ends))}"
    return text, max(dead_s, hanging_s) <= 2 and ends == {"succeeded"}


def _timed(work: Callable[[], Job]) -> tuple[float, Job]:
    start = time.monotonic()
    result = work()
    return time.monotonic() - start, result


def full_redis(folder: Path) -> Measured:
    """Redis at maxmemory refuses every write; then it has room again."""
    with running("sqlite+redis", folder) as stack, redis.Redis.from_url(stack.settings.redis_url) as server:
        server.config_set("maxmemory", "1")
        submit_s, made = _timed(lambda: submit(stack, plan()))
        server.config_set("maxmemory", "0")
        end_s = seconds_until(lambda: job(stack, made["id"])["status"] == "succeeded")
    return f"202 in {submit_s:.2f} s, done {end_s:.1f} s after there was room", submit_s <= 2 and end_s <= 30


def cancelled(folder: Path, child: tuple[str, ...] | None = None) -> Measured:
    """Cancel one queued and one running job."""
    x, y = samples()
    real = child is not None
    model = small_network(seed=6) if real else plan(units=600, unit_s=0.1)
    data = npz(folder / "d.npz", x=x, y=y).read_bytes() if real else b""
    options: dict[str, Any] = {"child": child} if child else {}
    with running("sqlite+redis", folder, workers=1, **options) as stack:
        first, second = (submit(stack, model, data, **(SEARCH if real else {})) for _ in range(2))
        under_way(stack, first["id"], 0.03)

        def cancel_s(made: Job) -> float:
            requests.post(f"{stack.url}/v1/jobs/{made['id']}/cancel", timeout=10).raise_for_status()
            return seconds_until(lambda: job(stack, made["id"])["status"] == "cancelled")

        queued_s, running_s = cancel_s(second), cancel_s(first)
        stack.kill("worker-1")
        time.sleep(stack.settings.lease_s + 2)
        stays = {job(stack, made["id"])["status"] for made in (first, second)} == {"cancelled"}
    text = f"queued {queued_s:.2f} s, running {running_s:.1f} s, {'never undone' if stays else 'UNDONE'}"
    return text, queued_s <= 2 and running_s <= 10 and stays


def overdue(folder: Path) -> Measured:
    """A job whose deadline comes while it works."""
    with running("sqlite+redis", folder) as stack:
        made = submit(stack, plan(units=600, unit_s=0.1), search={"deadline_minutes": 0.1})
        seconds_until(lambda: job(stack, made["id"])["started_at"])
        start = time.monotonic()
        done = ended(stack, made["id"])
        late_s = time.monotonic() - start - 6
    return f"{late_s:.1f} s after it, {done['status']} with a front", late_s <= 5 and done["best"] is not None


def stopped_worker(folder: Path) -> Measured:
    """SIGTERM to a worker whose job is half done; then another worker goes on."""
    with running("sqlite+redis", folder, workers=1) as stack:
        made = submit(stack, plan(units=100, unit_s=0.1))
        under_way(stack, made["id"], 0.2)
        stack.absent.add("worker-1")
        stack.parts["worker-1"].terminate()
        queued_s = seconds_until(lambda: job(stack, made["id"])["status"] == "queued")
        stack.parts["worker-1"].wait(60)
        stack.absent.clear()
        done = ended(stack, made["id"])
    return f"queued again after {queued_s:.1f} s, then {done['status']}", queued_s <= 10


def one_key(folder: Path) -> Measured:
    """A hundred submissions at once with one key, on PostgreSQL and on SQLite."""
    found = []
    for backend in ("sqlite+redis", "postgres+redis"):
        with running(backend, folder / backend) as stack:
            model, key = plan(), uuid.uuid4().hex
            with concurrent.futures.ThreadPoolExecutor(100) as pool:
                ids = set(pool.map(lambda _: submit(stack, model, key=key)["id"], range(100)))  # noqa: B023
            found.append(len(ids))
    return f"{found[0]} job on SQLite, {found[1]} on PostgreSQL", found == [1, 1]


def bad_input(folder: Path) -> Measured:
    """Files that are no model and no data set, by the real engine."""
    good, data = small_network(), npz(folder / "text.npz", x=samples()[0][:3]).read_bytes()
    cases = {"PNG": (b"\x89PNG\r\n\x1a\n" + bytes(100), b""), "no archive": (good, b"hello"), "cut": (good, data[:200])}
    slowest, types = 0.0, set()
    with running("sqlite+redis", folder, child=REAL, workers=1) as stack:
        for model, dataset in cases.values():
            made = submit(stack, model, dataset, profiles=[UNCALIBRATED])
            seconds_until(lambda: job(stack, made["id"])["started_at"])  # noqa: B023
            start = time.monotonic()
            types.add(ended(stack, made["id"])["error"]["type"])
            slowest = max(slowest, time.monotonic() - start)
    return f"{', '.join(sorted(types))} in at most {slowest:.1f} s", slowest <= 5 and types <= _REFUSALS


_REFUSALS = {"invalid-model", "invalid-dataset"}


def full_disk(folder: Path) -> Measured:
    """A file system of 64 MiB that an upload fills; then there is room again."""
    small = folder / "small"
    with load.small_file_system(small, 64) as mounted:
        if not mounted:
            return "not measured: this machine lets nobody mount a file system", False
        with running("sqlite+redis", small, workers=1) as stack:
            answer = requests.put(f"{stack.url}/v1/files?purpose=model", data=load.zeros(100 * 2**20), timeout=60)
            kind = answer.json()["type"]
            done = ended(stack, submit(stack, plan())["id"])
    text = f"{answer.status_code} {kind}; the next job {done['status']}"
    return text, answer.status_code == 507 and done["status"] == "succeeded"


PROMISES = (
    Promise("the same message 50 times", "1 run", many_deliveries),
    Promise("kill -9 of a whole worker", "runs again within 60 s", killed_worker),
    Promise("killed search resumes", "bit-identical models", resumed_search),
    Promise("a job that kills its process", "worker-lost after 3, 5 good ones finish, worker stays", poison),
    Promise("Redis away for 30 s", "compute kept, consuming within 15 s", redis_away),
    Promise("submit while Redis is down", "202 or 503 within 2 s", submit_without_redis),
    Promise("Redis at maxmemory", "clean, recovers by itself", full_redis),
    Promise("disk full", "clean 507, recovers by itself", full_disk),
    Promise("cancel", "2 s queued, 10 s running, never undone", cancelled),
    Promise("cancel, real search", "2 s queued, 10 s running, never undone", lambda folder: cancelled(folder, REAL)),
    Promise("deadline", "within 5 s, with the front so far", overdue),
    Promise("SIGTERM to a worker", "queued within 10 s", stopped_worker),
    Promise("100 submissions with one key", "1 job", one_key),
    Promise("bad input", "typed within 5 s", bad_input),
    Promise("status polls, 200/s for 60 s", "p99 <= 50 ms, busy/idle <= 3", load.polls),
    Promise("500 watchers, 200 polls/s, two busy cores", "p99 of /livez <= 100 ms, of polls <= 250 ms", load.watchers),
    Promise("upload of 2 GiB", ">= 100 MB/s, <= 32 MiB growth", load.large_upload),
    Promise("10,000 jobs page by page", "each once", load.many_jobs),
)
