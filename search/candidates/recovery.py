"""What becomes of candidates whose layers are repaired, and what the rest of a job must know of that: one policy a job.

A new way to recover is a class here and its line in `recovery`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from search.allocate.base import Problem
from search.allocate.goals import Goals
from search.candidates.make import DIVERGENCE, Maker
from search.candidates.promising import worth_blocks, worth_training
from search.graph.ir import Array
from search.repair.blockwise import BlockRepairer
from search.repair.datafree import STEPS
from search.space.plan import Candidate, PlanKey, named, plan_key
from search.train import finetune
from search.train.augment import Augmentation
from search.wire.progress import Stopped
from search.wire.request import JobSpec

TO_FINISH, MOST_KEPT = 0.25, 0.75
"""Share of the deadline that the search leaves for files and their judgement; the most that it leaves for these and training."""


@dataclasses.dataclass(frozen=True)
class Recovery:
    """Candidates stay as they are: their layers are repaired in closed form. All of a job on synthetic samples."""

    goals: Goals
    children_per_point = 2
    """Most children of the local search per point of the front that is asked for; several targets share them."""
    beyond = True
    """Whether candidates far beyond what the client named are of use."""
    share = 1.0
    """Part of the recovery stage that the repair of layers takes, for the progress bar."""
    synthesis_steps = 0
    """Of making synthetic samples; who gives no time for training waits for nothing."""
    most_evaluation: ClassVar[int | None] = None
    """Samples that judge, where others are better spent; None: as many as there are."""

    @property
    def kept(self) -> float:
        """Share of the deadline that the search leaves."""
        return TO_FINISH

    def recover(
        self,
        maker: Maker,
        candidates: Sequence[Candidate],
        problems: Sequence[Problem],
        augmentation: Augmentation,
        cache_dir: Path,
    ) -> list[Candidate]:
        """Candidates with better weights, as far as there is time.

        Args:
            maker: of the dense network.
            candidates: repaired, the slowest first.
            problems: the first of every target; they say which candidates count.
            augmentation: of the samples to learn from.
            cache_dir: remembers how fast this machine trains this network.
        """
        del maker, problems, augmentation, cache_dir
        return list(candidates)


class Blocks(Recovery):
    """Those at the latencies that the client named get the weights of whole blocks refitted together: up to two minutes each.

    Not on synthetic samples, on which it is unproved.
    """

    def recover(
        self,
        maker: Maker,
        candidates: Sequence[Candidate],
        problems: Sequence[Problem],
        augmentation: Augmentation,
        cache_dir: Path,
    ) -> list[Candidate]:
        """See `Recovery.recover`."""
        del augmentation, cache_dir
        blocks = BlockRepairer(maker.knobs.graph, maker.knobs.groups, maker.splits.calibration.feeds)
        better: dict[PlanKey, Candidate] = {}
        try:
            for candidate in maker.progress.each(worth_blocks(problems, candidates, self.goals), "blocks"):
                with maker.survival.without(
                    "repair in blocks", named(candidate.plan), "it keeps the repair of single layers"
                ):
                    better[plan_key(candidate.plan)] = _refitted(candidate, blocks, maker)
        except (Stopped, TimeoutError):
            maker.progress.warn("the repair ended early; some points keep the repair of single layers")
        return [better.get(plan_key(c.plan), c) for c in candidates]


class Training(Recovery):
    """The cut networks are trained for the minutes that the client gives, those that help the front for longer."""

    children_per_point = 12
    """More: minutes of training are lost on a candidate that another of the same latency beats before it is trained."""
    beyond = False
    share = finetune.REPAIR_SHARE
    synthesis_steps = STEPS
    most_evaluation = 3_000
    """An interval of about one point of accuracy; training needs the others more."""

    @property
    def kept(self) -> float:
        """Time for training as well."""
        search = self.goals.spec.search
        return min(MOST_KEPT, TO_FINISH + search.finetune_minutes / search.deadline_minutes)

    def recover(
        self,
        maker: Maker,
        candidates: Sequence[Candidate],
        problems: Sequence[Problem],
        augmentation: Augmentation,
        cache_dir: Path,
    ) -> list[Candidate]:
        """See `Recovery.recover`."""

        def select(alive: Sequence[Candidate], count: int) -> list[Candidate]:
            return worth_training(problems, alive, count, self.goals)

        with maker.survival.without("training", "of all points", "they are repaired in closed form only"):
            return finetune.train(
                candidates,
                maker.knobs,
                maker.splits,
                augmentation,
                self.goals.spec,
                select,
                maker.units,
                cache_dir,
                maker.progress,
            )
        return list(candidates)


def recovery(spec: JobSpec, *, synthetic: bool) -> Recovery:
    """The policy of a request; ``synthetic`` where there are no samples of the client's."""
    kind = Training if spec.search.finetune_minutes > 0 else Recovery if synthetic else Blocks
    return kind(Goals(spec))


def _refitted(candidate: Candidate, blocks: BlockRepairer, maker: Maker) -> Candidate:
    """The candidate itself where it would move further."""

    def check() -> None:
        maker.progress.check()
        if maker.progress.late(TO_FINISH):
            raise TimeoutError

    def compute() -> dict[str, Array]:
        params = blocks.repair(candidate, check)
        moved = maker.divergence(candidate.variant, candidate.keep, params, len(maker.splits.search))
        return {**params, DIVERGENCE: np.asarray(moved)}

    params = maker.units.result("blocks", [candidate.plan, candidate.criterion], compute)
    moved = float(params.pop(DIVERGENCE))
    return (
        dataclasses.replace(candidate, params=params, divergence=moved) if moved < candidate.divergence else candidate
    )
