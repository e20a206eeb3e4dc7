"""Every plan that was allocated becomes a candidate; then the search goes on around the best."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from search.allocate.base import Problem
from search.allocate.refine import refine
from search.allocate.strategies import RULES
from search.candidates.make import Maker
from search.candidates.recovery import TO_FINISH, Recovery
from search.space.plan import Candidate, Plan, plan_key
from search.wire.progress import Stopped

CHILDREN_PER_SPEED = 24
"""Children of the local search per speed-up that the client names, at least: those about 2x of a ResNet-20 still improved after
the sixtieth."""


@dataclasses.dataclass(frozen=True)
class Exploration:
    """The candidates of one job, whatever the target."""

    maker: Maker
    recovery: Recovery

    def candidates(self, plans: Sequence[Plan], problems: Mapping[str, Sequence[Problem]]) -> list[Candidate]:
        """Repair and measure every plan, then search around the best; the slowest first. Ends early when told to stop.

        Args:
            plans: what was allocated for the targets.
            problems: of every target, by profile id, one for each of its states; the local search serves each in turn.
        """
        found: list[Candidate] = []
        progress = self.maker.progress
        try:
            for plan in progress.each(plans, "candidates", reserve=TO_FINISH):
                candidate = self.maker.candidate(plan)
                if candidate is not None:
                    found.append(candidate)
                    self._announce(candidate, problems)
            searched = (
                ()
                if self.recovery.goals.spec.search.allocator in RULES
                else [p for mine in problems.values() for p in mine]
            )
            children = itertools.chain.from_iterable(self._children(problem, found) for problem in searched)
            most = self._most_children() * len(searched)
            for child in progress.each(children, "children", total=most, reserve=TO_FINISH):
                found.append(child)
                self._announce(child, problems)
                if progress.late(self.recovery.kept):
                    progress.warn("the search ended early, so that time is left for training and for the files")
                    break
        except Stopped:
            if not found:
                raise
            progress.warn(f"the search ended early, with {len(found)} of {len(plans)} candidates")
        first = next(iter(problems.values()))[0]
        return sorted(found, key=lambda candidate: -first.latency_s(candidate.plan))

    def _children(self, problem: Problem, found: Sequence[Candidate]) -> Iterator[Candidate]:
        return refine(
            problem,
            found,
            self.maker.candidate,
            evaluations=self._most_children(),
            rng=np.random.default_rng((self.recovery.goals.spec.search.seed, 2)),
            fastest_s=self.recovery.goals.fastest_searched_s(problem),
            goals_s=self.recovery.goals.near_s(problem),
        )

    def _most_children(self) -> int:
        """Of one problem."""
        each = self.recovery.children_per_point * self.recovery.goals.spec.search.points
        return self.recovery.goals.per_target(max(each, CHILDREN_PER_SPEED * len(self.recovery.goals.speedups)))

    def _announce(self, candidate: Candidate, problems: Mapping[str, Sequence[Problem]]) -> None:
        """Tell where a candidate stands. Its quality is exp(-divergence): 1 is the dense network."""
        for profile, (problem, *_) in problems.items():
            predicted_ms = 1e3 * problem.latency_s(candidate.plan)
            quality = float(np.exp(-candidate.divergence))
            self.maker.progress.emit(
                type="candidate", profile=profile, predicted_latency_ms=predicted_ms, quality=quality
            )


def in_turns(choices: Sequence[Sequence[Plan]]) -> list[Plan]:
    """Every plan once, in an order that leaves a spread front wherever the search ends.

    Of each target first the plan in the middle of its front, then those in the middle of both halves, and so on; the targets take
    turns.
    """
    turns = itertools.zip_longest(*([mine[i] for i in _halving(len(mine))] for mine in choices))
    return list({plan_key(plan): plan for turn in turns for plan in turn if plan is not None}.values())


def _halving(count: int) -> list[int]:
    """Positions 0 to count - 1: the middle one, the middles of both halves, the middles of the four quarters, and so on."""
    found, spans = [], [(0, count)]
    for begin, end in spans:  # grows while it is read
        if begin < end:
            middle = (begin + end) // 2
            found.append(middle)
            spans += [(begin, middle), (middle + 1, end)]
    return found
