"""How a running job speaks to whoever started it, and how it is told to stop."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

Stage = Literal["import", "calibrate", "sensitivity", "search", "recover", "export", "evaluate"]
SHARE: dict[Stage, float] = {
    "import": 0.02,
    "calibrate": 0.10,
    "sensitivity": 0.25,
    "search": 0.03,
    "recover": 0.42,
    "export": 0.06,
    "evaluate": 0.12,
}
"""Share of a job's time that each stage usually takes; only the progress bar depends on it."""
LAST_S = 2.0
"""A job that was told to stop goes on for so long at most with the files of what it has found."""
Reason = Literal["cancelled", "deadline"]
Item = TypeVar("Item")


class Stopped(BaseException):
    """The job was told to stop, or its deadline came; what is finished is kept.

    No `Exception`: it may come up anywhere, and code that goes on where a part fails must not take it for such a failure.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


class Progress:
    """Appends events to a file, one JSON object a line, and keeps the time of every stage."""

    def __init__(
        self, path: Path | None, *, deadline_s: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``path`` None keeps silent; ``deadline_s`` counts from now."""
        self._path = path
        self._clock = clock
        self._deadline = None if deadline_s is None else clock() + deadline_s
        self._stage: Stage | None = None
        self._part = (0.0, 1.0)
        self._since = clock()
        self._budget_s = deadline_s
        self._cancelled = False
        self._ended_early = False
        self.cut_short = False
        """Whether the job was told to stop, or its deadline ended the search or cut the judging."""
        self._open = True
        self.stage_s: dict[str, float] = {}
        self.warnings: list[str] = []

    def cancel(self) -> None:
        """Ask the job to stop at its next unit of work."""
        self._cancelled = True

    @contextlib.contextmanager
    def obeying_signals(self) -> Iterator[None]:
        """Within, SIGTERM and the deadline end at once what is being done, whatever it is; of the main thread only.

        All but what is `sheltered`; the last stage is, but for what is `interruptible`: it puts together what is finished.
        Who was told to stop and is not at its end after `LAST_S` seconds is told again.

        Raises:
            Stopped: anywhere.
        """
        signal.signal(signal.SIGTERM, lambda *_: self._interrupt("cancelled"))
        signal.signal(signal.SIGALRM, lambda *_: self._interrupt("cancelled" if self._cancelled else "deadline"))
        if self._deadline is not None:
            signal.setitimer(signal.ITIMER_REAL, max(1e-3, self._deadline - self._clock()))
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the process is at its end
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _interrupt(self, reason: Reason) -> None:
        self._ended_early = self.cut_short = True
        if reason == "cancelled":
            self._cancelled = True
        signal.setitimer(signal.ITIMER_REAL, LAST_S)
        if self._open:
            raise Stopped(reason)

    def sheltered(self) -> contextlib.AbstractContextManager[None]:
        """Around what looks often enough itself (`check`), and keeps its state where it does."""
        return self._opened(may=False)

    def interruptible(self) -> contextlib.AbstractContextManager[None]:
        """Around a part of the last stage that it can do without.

        Raises:
            Stopped: see `obeying_signals`.
        """
        return self._opened(may=True)

    @contextlib.contextmanager
    def _opened(self, *, may: bool) -> Iterator[None]:
        before, self._open = self._open, may
        try:
            yield
        finally:
            self._open = before

    def emit(self, **event: Any) -> None:
        """Append one event."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")

    def stage(self, name: Stage | None) -> None:
        """Enter a stage (None: the end)."""
        now = self._clock()
        if self._stage is not None:
            self.stage_s[self._stage] = self.stage_s.get(self._stage, 0.0) + now - self._since
        self._stage, self._since, self._part = name, now, (0.0, 1.0)
        self._open = name not in {"evaluate", None}
        if name is not None:
            self.emit(type="stage", stage=name)
            self.step(0, 1, "steps")

    def part(self, begin: float, end: float) -> None:
        """The next steps are this part of the stage, from one share of it to another."""
        self._part = (begin, end)

    def warn(self, message: str) -> None:
        """Say something that the client should know; it stands in the report too."""
        if message not in self.warnings:
            self.warnings.append(message)
            self.emit(type="warning", message=message)

    def step(self, done: int, total: int, unit: str) -> None:
        """Report units done of a stage's total."""
        if self._stage is None:
            return
        before = sum(SHARE[stage] for stage in list(SHARE)[: list(SHARE).index(self._stage)])
        begin, end = self._part
        fraction = min(1.0, before + SHARE[self._stage] * (begin + (end - begin) * done / max(total, 1)))
        self.emit(type="progress", stage=self._stage, fraction=round(fraction, 4), done=done, total=total, unit=unit)

    def check(self, *, reserve: float = 0.0) -> None:
        """Stop here if told to, or if less than a share ``reserve`` of the deadline is left.

        Raises:
            Stopped: see above.
        """
        if self._cancelled:
            self._ended_early = self.cut_short = True
            raise Stopped("cancelled")
        if self.late(reserve):
            self.cut_short = True
            self._ended_early = self.late(0.0)  # what is reserved is for what comes next
            raise Stopped("deadline")

    def late(self, reserve: float) -> bool:
        """Whether less than a share ``reserve`` of the deadline is left; never where there is none."""
        if self._deadline is None or self._budget_s is None:
            return False
        return self._clock() > self._deadline - reserve * self._budget_s

    def left_s(self) -> float | None:
        """Seconds to the deadline; None where there is none."""
        return None if self._deadline is None else max(0.0, self._deadline - self._clock())

    @property
    def cancelled(self) -> bool:
        """Whether the job was told to stop."""
        return self._cancelled

    @property
    def stopping(self) -> bool:
        """Whether the job was told to stop or has used its time."""
        return self._ended_early or self._cancelled

    def finish(self, items: Iterable[Item], unit: str) -> Iterator[Item]:
        """Like `each`, for the last steps: a job that was told to stop takes the first one, and others for `LAST_S` seconds."""
        todo, start = list(items), self._clock()
        for done, item in enumerate(todo, 1):
            yield item
            self.step(done, len(todo), unit)
            if self.stopping and self._clock() - start > LAST_S:
                return

    def each(
        self, items: Iterable[Item], unit: str, *, total: int | None = None, reserve: float = 0.0
    ) -> Iterator[Item]:
        """Items one by one, each one a unit of work: checked before, reported after.

        Args:
            items: a sequence, or with ``total`` anything that makes its items when they are asked for.
            unit: what an item is called.
            total: most items; the number of a sequence's when None.
            reserve: share of the time to leave, see `check`.
        """
        if total is None:
            items = list(items)
            total = len(items)
        waiting = iter(items)
        for done in range(1, total + 1):
            self.check(reserve=reserve)
            try:
                item = next(waiting)
            except StopIteration:
                return
            yield item
            self.step(done, total, unit)
