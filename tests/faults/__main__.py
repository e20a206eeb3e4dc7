"""``python -m tests.faults``: the nemesis runs and the table of promises, each with its measured figure.

Bounded in time: a nemesis run ends after ten minutes at most, and `--jobs`, `--seeds` and `--only` make it smaller.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.e2e.test_service import npz, samples, small_network
from tests.faults.nemesis import Verdict, ordeal, plans
from tests.faults.promises import PROMISES, REAL, SEARCH
from tests.faults.stack import BACKENDS, QUICK_CHILD, running
from tests.service.servers import Missing


def main() -> int:
    """Run what was asked for; the number of promises that did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--real", action="store_true", help="jobs of the real search; 20 are enough")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--backends", nargs="*", choices=BACKENDS, default=list(BACKENDS))
    parser.add_argument("--only", choices=["nemesis", "promises"])
    parser.add_argument("--promise", nargs="*", default=[], help="names of single promises")
    arguments = parser.parse_args()
    broken = 0
    if arguments.only != "promises":
        runs = [(name, seed) for seed in arguments.seeds for name in arguments.backends]
        broken += sum(_nemesis(name, seed, arguments.jobs, real=arguments.real) for name, seed in runs)
    if arguments.only != "nemesis":
        broken += _promises(arguments.promise)
    return broken


def _nemesis(backend: str, seed: int, jobs: int, *, real: bool) -> bool:
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
        bodies = [small_network(seed=i) for i in range(jobs)] if real else plans(jobs, random.Random(seed))
        child, fire = (REAL, _slow_fire(Path(folder))) if real else (QUICK_CHILD, {})
        try:
            with running(backend, Path(folder), child) as stack:
                verdict = ordeal(stack, bodies, seed, **fire)
        except Missing as missing:
            _print(f"| {backend} | {seed} | not run: {missing} |")
            return True
    _print(row(backend, seed, verdict))
    return not verdict.holds


def _slow_fire(folder: Path) -> dict[str, Any]:
    """A fault every eleven seconds or so: a search works for longer than a quick child before it can resume."""
    x, y = samples()
    data = npz(folder / "d.npz", x=x, y=y).read_bytes()
    return {"clients": 4, "pause_s": 10.0, "fire_s": 400.0, "limit_s": 1500.0, "dataset": data, "spec": SEARCH}


def row(backend: str, seed: int, verdict: Verdict) -> str:
    """A line of the table."""
    ends = ", ".join(f"{n} {end}" for end, n in verdict.ends.most_common())
    faults = ", ".join(f"{n} {fault}" for fault, n in sorted(verdict.faults.items()))
    bad = (("lost", verdict.lost), ("doubled", verdict.doubled), ("changed", verdict.changed))
    counts = ", ".join(f"{len(found)} {name}" for name, found in (*bad, ("inconsistent", verdict.inconsistent)))
    details = "".join(f"\n  {fault}" for _, found in bad for fault in found)
    return (
        f"| {backend} | {seed} | {counts} | {ends} | {verdict.attempts} | {verdict.fenced} | {faults} | "
        f"{verdict.wall_s:.0f} s |{details}"
    )


def _promises(names: list[str]) -> int:
    broken = 0
    for promise in PROMISES:
        if names and promise.name not in names:
            continue
        with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
            measured, holds = promise.measure(Path(folder))
        _print(f"| {promise.name} | {promise.target} | {measured} | {'yes' if holds else 'NO'} |")
        broken += not holds
    return broken


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(min(1, main()))
