"""Where a command works and what it leaves when it fails: below the user's own cache, which nobody else writes to.

A folder is locked by the command that uses it, so that the next command can remove what a killed one left.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from service.settings import Settings

_KEPT_FAILURES = 10
_LOCK = "lock"


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for this command, removed at its end."""
    parent = _private("scratch")
    with contextlib.ExitStack() as stack:
        with _locked(parent / _LOCK):  # nobody takes a folder that is being made for one that was left
            _sweep(parent)
            name = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="run-", dir=parent, ignore_cleanup_errors=True)
            )
            stack.enter_context(_locked(Path(name) / _LOCK))
        yield Path(name).resolve()


def keep_failure(log: Path) -> Path:
    """Keep what a failed engine wrote; where. The last ten are kept."""
    folder = _private("failures")
    moment = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%S.%fZ")  # so fine that names sort by it
    descriptor, name = tempfile.mkstemp(prefix=f"{moment}-", suffix=".log", dir=folder)
    with os.fdopen(descriptor, "wb") as kept, log.open("rb") as source:
        shutil.copyfileobj(source, kept)
    for old in sorted(folder.glob("*.log"))[:-_KEPT_FAILURES]:
        old.unlink(missing_ok=True)
    return Path(name)


def _private(name: str) -> Path:
    folder = Settings.from_env().cache_dir / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _sweep(parent: Path) -> None:
    """Remove the folders of commands that are no more."""
    for folder in parent.glob("run-*"):
        with contextlib.suppress(OSError):
            if not (folder / _LOCK).exists():
                shutil.rmtree(folder)
                continue
            with (folder / _LOCK).open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its command lives
                shutil.rmtree(folder)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    with path.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
