"""One bad candidate, group, criterion or proof is left out with a warning that names it; it never ends a job."""

from __future__ import annotations

import collections
import contextlib
import sys
import traceback
from collections.abc import Iterator

from search.wire.errors import DeadlineExceeded, without_addresses
from search.wire.progress import Progress, Stopped

MOST_NAMED = 3
"""Parts of one kind that are named each; how many more there were is said at the end."""
_ENDS_THE_JOB = (Stopped, DeadlineExceeded, MemoryError, TimeoutError)
"""No fault of a part: these concern the whole job."""


class Survival:
    """Keeps count of what was left out."""

    def __init__(self, progress: Progress) -> None:
        """``progress`` is told of it."""
        self._progress = progress
        self._lost: collections.Counter[str] = collections.Counter()

    @contextlib.contextmanager
    def without(self, kind: str, name: str, instead: str = "it is left out") -> Iterator[None]:
        """Go on where what happens within fails; the trace goes to the job's log.

        Args:
            kind: what fails, in one word or two, such as ``candidate``.
            name: which one.
            instead: what is done about it.
        """
        try:
            yield
        except _ENDS_THE_JOB:
            raise
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one part, the others are as good as before
            traceback.print_exception(error, file=sys.stderr)
            self._lost[kind] += 1
            if self._lost[kind] <= MOST_NAMED:
                self._progress.warn(f"{kind} `{name}` failed, {instead}: {first_line(error)}")

    def summary(self) -> None:
        """Say how many more there were than have been named."""
        for kind, count in self._lost.items():
            if count > MOST_NAMED:
                self._progress.warn(f"{count - MOST_NAMED} more failed as `{kind}`; the job's log has all of them")

    def reason(self) -> str | None:
        """In words, what was left out; None where nothing was."""
        lost = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in self._lost.items())
        return f"{lost} failed, see the warnings" if lost else None


def first_line(error: BaseException) -> str:
    """What an error says, in one line without addresses of objects; its type where it says nothing."""
    return without_addresses(
        next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    )
