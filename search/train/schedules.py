"""When weights go: one row of stages a schedule. A stage trains at one sparsity; between stages masks are chosen anew.

One-shot cuts and trains. Iterative repeats that (Han 2015). Gradual follows a cubic (Zhu & Gupta 2017, eq. 1). Regrowth
cuts at once, then exchanges a falling share of the weights for those with the largest gradient (RigL, Evci 2020, section
3). Rewinding is iterative, but every stage starts from the weights before training (Renda 2020, section 3).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from search.wire.request import ScheduleName

STAGES = 8
"""Choices of masks of the gradual and the regrowth schedule."""
REST = 0.4
"""Share of the steps that trains the final masks."""
EXCHANGED = 0.3
"""Share of the kept weights that the first regrowth exchanges (RigL: 0.3)."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stretch of training with fixed masks."""

    share: float
    """Of all steps."""
    level: float
    """Sparsity, as a share of what was asked for."""
    regrow: float = 0.0
    """Share of the kept weights that is exchanged before the stage."""
    rewind: bool = False
    """Start from the weights before any training."""
    restart: bool = False
    """The learning rate runs through its whole course in this stage."""


Schedule = Callable[[], tuple[Stage, ...]]


def one_shot() -> tuple[Stage, ...]:
    """Cut once, then train."""
    return (Stage(1.0, 1.0),)


def iterative(rounds: int = 3) -> tuple[Stage, ...]:
    """Equal cuts, each followed by training."""
    return tuple(Stage(1 / rounds, i / rounds, restart=True) for i in range(1, rounds + 1))


def gradual() -> tuple[Stage, ...]:
    """Cut along 1 - (1 - t)^3, then train the final masks.

    Example:
        >>> [round(stage.level, 3) for stage in gradual()][-3:]
        [0.984, 0.998, 1.0]
    """
    times = np.arange(1, STAGES + 1) / STAGES
    ramp = [Stage((1 - REST) / (STAGES - 1), 1 - (1 - t) ** 3) for t in times[:-1].tolist()]
    return (*ramp, Stage(REST, 1.0))


def regrowth() -> tuple[Stage, ...]:
    """Cut once; exchange fewer and fewer weights; train the final masks."""
    shares = 0.5 * EXCHANGED * (1 + np.cos(np.pi * np.arange(STAGES - 1) / (STAGES - 1)))
    first = Stage((1 - REST) / (STAGES - 1), 1.0)
    ramp = [dataclasses.replace(first, regrow=share) for share in shares[:-1].tolist()]
    return (first, *ramp, Stage(REST, 1.0, regrow=float(shares[-1])))


def rewinding(rounds: int = 3) -> tuple[Stage, ...]:
    """Iterative, from the first weights every time."""
    return tuple(dataclasses.replace(stage, rewind=True) for stage in iterative(rounds))


SCHEDULES: dict[ScheduleName, Schedule] = {
    "one-shot": one_shot,
    "iterative": iterative,
    "gradual": gradual,
    "regrowth": regrowth,
    "rewinding": rewinding,
}
