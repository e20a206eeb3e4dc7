"""Hostile files, each in a process of its own: ``python -m tests.benchmarks.hostile_files``.

Prints the refusal, the CPU seconds from bytes to refusal (imports left out) and the growth of the process's memory.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from typing import Any

from search.wire.errors import SecateurError
from tests.search.graph.hostile import HOSTILE
from tests.search.graph.onnx.test_admission import admit


def _try(name: str, report: Any) -> None:
    data = HOSTILE[name]()
    before_kib, start_s = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    outcome = "ADMITTED"
    try:
        admit(data)
    except SecateurError as error:
        outcome = f"{error.type}: {error.detail}"
    seconds = time.process_time() - start_s
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024
    report.send((len(data), seconds, grown_mib, outcome))


def main() -> None:
    """Print the table."""
    context = multiprocessing.get_context("spawn")
    print(f"{'file':24} {'bytes':>6} {'seconds':>8} {'MiB':>6} refusal")
    for name in HOSTILE:
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=_try, args=(name, sender))
        child.start()
        sender.close()
        try:
            size, seconds, grown_mib, outcome = receiver.recv()
            print(f"{name:24} {size:6} {seconds:8.2f} {grown_mib:6.0f} {outcome[:110]}")
        except EOFError:
            print(f"{name:24} the process died")
        child.join()


if __name__ == "__main__":
    main()
