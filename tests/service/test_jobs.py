"""The state machine, without I/O."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import Conflict
from service.jobs import ACTIVE, FINISHED, TERMINAL, Action, Status, after, before

ACTIONS = st.lists(st.sampled_from(Action), max_size=30)


def walk(actions: list[Action]) -> list[Status]:
    """The statuses of a new job to which the possible ones of `actions` happen."""
    path = [Status.QUEUED]
    for action in actions:
        try:
            path.append(after(path[-1], action))
        except Conflict:
            continue
    return path


@given(ACTIONS)
def test_a_job_ends_once(actions: list[Action]) -> None:
    """After a first end only retention changes a job."""
    path = walk(actions)
    ends = [status for status in path if status in FINISHED]
    assert len(set(ends)) <= 1
    first = next((i for i, status in enumerate(path) if status in TERMINAL), len(path))
    assert set(path[first:]) <= {*ends, Status.EXPIRED}


@given(ACTIONS)
def test_a_cancellation_is_never_undone(actions: list[Action]) -> None:
    """Once asked to cancel, a job can only end cancelled."""
    path = walk(actions)
    if Status.CANCELLING in path:
        rest = path[path.index(Status.CANCELLING) :]
        assert set(rest) <= {Status.CANCELLING, Status.CANCELLED, Status.EXPIRED}


@given(ACTIONS)
def test_nothing_is_published_before_a_claim(actions: list[Action]) -> None:
    """Success and failure come from a status that a worker holds."""
    path = walk(actions)
    for earlier, later in zip(path, path[1:], strict=False):
        if later in {Status.SUCCEEDED, Status.FAILED} and earlier != later:
            assert earlier in ACTIVE


@pytest.mark.parametrize("status", sorted(ACTIVE | {Status.QUEUED}))
def test_every_unfinished_status_can_end(status: Status) -> None:
    """No status is a trap: a claim and an end, or a cancellation, lead out of it."""
    held = after(status, Action.CLAIM) if status is Status.QUEUED else status
    assert after(held, Action.SUCCEED) in FINISHED
    assert after(held, Action.FAIL) in FINISHED
    assert after(after(status, Action.CANCEL), Action.CANCEL) in {Status.CANCELLING, Status.CANCELLED}


@pytest.mark.parametrize("action", Action)
def test_before_is_the_inverse_of_after(action: Action) -> None:
    """`before` lists exactly the statuses from which `after` does not refuse."""

    def allows(status: Status) -> bool:
        try:
            after(status, action)
        except Conflict:
            return False
        return True

    assert before(action) == {status for status in Status if allows(status)}


def test_a_refusal_names_status_and_action() -> None:
    """The message says what the job is and what was tried."""
    with pytest.raises(Conflict, match=r"succeeded.*cancel"):
        after(Status.SUCCEEDED, Action.CANCEL)
