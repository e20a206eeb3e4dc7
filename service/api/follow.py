"""Answers that wait for a change of a job. A view says what it waits for and returns; nobody waits in a thread.

The web server (`service.front`) waits on its event loop and goes on with what the view left here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import flask

KEY = "secateur.follow"
"""Of the WSGI environment."""


@dataclasses.dataclass(frozen=True)
class Mark:
    """What of a job a client has seen: its events up to here, and its place in the queue where that is told."""

    seq: int
    position: int | None = None
    with_position: bool = False


@dataclasses.dataclass(frozen=True)
class Again:
    """A long poll: the request is put again when the job has changed, or after the time the client would wait."""

    job_id: str
    seen: Mark
    wait_s: float


@dataclasses.dataclass(frozen=True)
class Stream:
    """An event stream: `more` gives what came after an event, where it is now, and whether that is the end."""

    job_id: str
    seen: Mark
    more: Callable[[int], tuple[bytes, int, bool]]


def follow(what: Again | Stream) -> None:
    """Have the web server go on with this request."""
    flask.request.environ[KEY] = what
