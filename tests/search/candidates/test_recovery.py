"""Which policy a request gets."""

from __future__ import annotations

import pytest

from search.candidates.recovery import Blocks, Recovery, Training, recovery
from search.wire.request import JobSpec, SearchOptions


@pytest.mark.parametrize(
    ("minutes", "synthetic", "expected"),
    [(0, True, Recovery), (0, False, Blocks), (1, True, Training), (1, False, Training)],
)
def test_policy(minutes: float, synthetic: bool, expected: type) -> None:
    """Training where there are minutes for it; blocks where there are samples that are the client's; else layers alone."""
    spec = JobSpec(search=SearchOptions(finetune_minutes=minutes))
    assert type(recovery(spec, synthetic=synthetic)) is expected


def test_time_for_training_is_kept() -> None:
    """By hand: a quarter for files, and 6 of 60 minutes for training, three quarters at most."""
    kept = [recovery(JobSpec(search=SearchOptions(finetune_minutes=m)), synthetic=False).kept for m in (0, 6, 50)]
    assert kept == pytest.approx([0.25, 0.35, 0.75])
