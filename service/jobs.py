"""The life of a job as a state machine without I/O: what may follow what, and nothing else.

    queued ──claim──> validating ──start──> running ──succeed──> succeeded ──expire──> expired
       │                   │ │                 │ └───fail──────> failed ─────expire──> expired
       │                   │ └──fail, succeed──┤
     cancel              cancel              cancel
       v                   v                   v
    cancelled <──any end── cancelling       cancelling

`release` gives a job back to the queue: its process died, or the worker is stopping. A job that is being cancelled
ends `cancelled` whatever its process does meanwhile: nothing undoes a cancellation.
"""

from __future__ import annotations

import enum

from service.errors import Conflict


class Status(enum.StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    VALIDATING = "validating"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Action(enum.StrEnum):
    """What happens to a job."""

    CLAIM = "claim"
    START = "start"
    SUCCEED = "succeed"
    FAIL = "fail"
    RELEASE = "release"
    CANCEL = "cancel"
    EXPIRE = "expire"


ACTIVE = frozenset({Status.VALIDATING, Status.RUNNING, Status.CANCELLING})
"""A worker holds these, by a lease."""
FINISHED = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED})
TERMINAL = FINISHED | {Status.EXPIRED}

_NEXT: dict[tuple[Status, Action], Status] = {
    (Status.QUEUED, Action.CLAIM): Status.VALIDATING,
    (Status.QUEUED, Action.CANCEL): Status.CANCELLED,
    (Status.VALIDATING, Action.START): Status.RUNNING,
    **{
        (status, action): to
        for status in (Status.VALIDATING, Status.RUNNING)
        for action, to in (
            (Action.CLAIM, Status.VALIDATING),  # the lease of the former worker ended
            (Action.SUCCEED, Status.SUCCEEDED),
            (Action.FAIL, Status.FAILED),
            (Action.RELEASE, Status.QUEUED),
            (Action.CANCEL, Status.CANCELLING),
        )
    },
    (Status.CANCELLING, Action.CANCEL): Status.CANCELLING,
    (Status.CANCELLING, Action.START): Status.CANCELLING,
    (Status.CANCELLING, Action.SUCCEED): Status.CANCELLED,
    (Status.CANCELLING, Action.FAIL): Status.CANCELLED,
    (Status.CANCELLING, Action.RELEASE): Status.CANCELLED,
    (Status.CANCELLED, Action.CANCEL): Status.CANCELLED,
    **{(status, Action.EXPIRE): Status.EXPIRED for status in FINISHED},
}


def after(status: Status, action: Action) -> Status:
    """The status that `action` leads to.

    Raises:
        Conflict: a job in this status does not allow it; names both.
    """
    try:
        return _NEXT[status, action]
    except KeyError:
        raise Conflict(f"the job is {status}; `{action}` is not possible then", job_status=str(status)) from None


def before(action: Action) -> frozenset[Status]:
    """The statuses that allow `action`."""
    return frozenset(status for status, allowed in _NEXT if allowed is action)
