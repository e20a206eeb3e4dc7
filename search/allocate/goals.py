"""What the client named, asked in one place: speeds, latencies, points, minutes; and the latencies that follow for a target."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from search.allocate.base import Problem
from search.allocate.knapsack import knapsack
from search.space.plan import Candidate, Plan, PlanKey, plan_key
from search.wire.request import JobSpec

USELESS = 5.0
"""Errors of single options, before repair, that add up to this: on ResNet-20 a sum of 3 is a third of the accuracy lost."""
TRIALS = 12
NEAR_THE_GOAL = (0.85, 0.9, 0.95, 1.0)
BEYOND_THE_GOAL = 2.0
"""Where the client names a speed, no search and no minute of training goes to points beyond so many times that speed."""
WITH_MARGIN = 0.97
"""Part of a wanted latency that a price may take: timings of one file mostly differ by less from run to run, some by 5 %."""
TIMED_AGAIN = 0.985
"""Part of a measured speed-up that a candidate can count on when its finished file is timed: 3.37x was 3.31x, 1.66x was 1.64x."""
MOST_TIMED = 8
"""Candidates that are timed for one speed-up, at most."""
FURTHER_TARGET = 0.25
"""What every target but the first adds to a job's candidates: each target's front is chosen from those of all."""


@dataclasses.dataclass(frozen=True)
class Goals:
    """Of one request; prices and latencies are in seconds, of one target's problem."""

    spec: JobSpec

    @property
    def speedups(self) -> list[float]:
        """Speed-ups that points are wanted at, and the objective's."""
        wanted = self.spec.objective.speedup
        return [*self.spec.search.at_speedups, *([wanted] if wanted else [])]

    @property
    def in_words(self) -> str:
        """The objective's latency or speed-up."""
        wanted = self.spec.objective
        return f"{wanted.max_latency_ms:g} ms" if wanted.max_latency_ms else f"{wanted.speedup:g} times as fast"

    def latency_s(self, dense_s: float) -> float | None:
        """The latency that the objective asks for; None where it asks for an accuracy."""
        wanted_ms, speedup = self.spec.objective.max_latency_ms, self.spec.objective.speedup
        return wanted_ms / 1e3 if wanted_ms else dense_s / speedup if speedup else None

    def wanted_s(self, problem: Problem, *shares: float) -> list[float]:
        """The objective's latency, if it has one, and those shares of the price of each speed-up that is named."""
        goal = self.latency_s(problem.latency_s({}))
        return [*([goal] if goal else []), *(share * price_s for price_s in problem.named_s for share in shares)]

    def per_target(self, count: int) -> int:
        """How many of what one target would get alone each target of the request gets.

        Example:
            >>> Goals(JobSpec(profiles=("a", "b", "c"))).per_target(16)
            8
        """
        targets = len(self.spec.profiles)
        return math.ceil(count * (1 + FURTHER_TARGET * (targets - 1)) / targets)

    def budgets_s(self, problem: Problem, *, beyond: bool = True) -> list[float]:
        """Latencies from just below dense to the fastest that is of use, closest where little is lost.

        Around what is named there are some more, however much is lost there.

        Args:
            problem: the target's options, errors and prices.
            beyond: whether those far beyond what is named are of use as well.
        """
        dense_s, fastest_s = problem.latency_s({}), problem.seconds(problem.fastest())
        if fastest_s >= dense_s:
            return []
        useful_s = _fastest_of_use(problem, dense_s, fastest_s)
        if not beyond:
            useful_s = max(useful_s, self.fastest_searched_s(problem))
        steps = np.linspace(0, 1, self.per_target(2 * self.spec.search.points) + 1)[1:]
        budgets = dense_s * (useful_s / dense_s) ** (steps**2)
        return [*(float(budget) for budget in budgets), *self.near_s(problem)]

    def near_s(self, problem: Problem) -> list[float]:
        """Latencies about those that are named, those within reach; none if there are none."""
        dense_s, fastest_s = problem.latency_s({}), problem.seconds(problem.fastest())
        about = [(self.latency_s(dense_s) or 0.0) * share for share in NEAR_THE_GOAL]
        about += problem.named_s
        return [budget for budget in about if fastest_s <= budget < dense_s]

    def fastest_searched_s(self, problem: Problem) -> float:
        """Latency in seconds below which nothing is searched for, only allocated; 0 where none is named."""
        goal = self.latency_s(problem.latency_s({}))
        return min([*([goal / BEYOND_THE_GOAL] if goal else []), *problem.named_s], default=0.0)

    def prices_s(
        self, problem: Problem, measured: Callable[[Sequence[Plan]], Sequence[float]] | None = None
    ) -> list[float]:
        """Prices, in seconds, up to which a candidate most likely has one of the speed-ups that are named.

        Of the objective as well as of the points that are wanted. A latency model that is right on average is off by some per
        cent for one network; where that network can be timed, one plan at each of the prices tells by how much.

        Args:
            problem: the target's options, errors and prices.
            measured: plans to their measured speed-ups; None where the target cannot be timed here.
        """
        dense_s, speedups = problem.latency_s({}), self.speedups
        prices_s = [WITH_MARGIN * dense_s / speedup for speedup in speedups]
        if measured is None or not prices_s:
            return prices_s
        plans = [problem.plan(choice) for choice in knapsack(problem, prices_s)]
        found = zip(plans, measured(plans), speedups, strict=True)
        return [WITH_MARGIN * problem.latency_s(plan) * fast / speedup for plan, fast, speedup in found]

    def timed(
        self,
        problem: Problem,
        candidates: Sequence[Candidate],
        measured: Callable[[Sequence[Plan]], Sequence[float]],
    ) -> Problem:
        """The problem with other prices about each of the speed-ups that are named.

        A price that is right on average puts a point too far, which costs accuracy, or not far enough, and then it is no point.
        About each speed-up the candidate is timed that moved least of those not much too slow, by its price and by what timing
        has told of others' prices; then the next, less and less of a risk, until none that moved less than the best one fast
        enough is left.

        Args:
            problem: of one target, with `named_s`.
            candidates: repaired ones.
            measured: plans to their measured speed-ups.
        """
        prices_s: dict[PlanKey, float] = {}
        corrected_s: list[float] = []
        for wanted, price_s in zip(self.speedups, problem.named_s, strict=True):
            lacks: dict[PlanKey, float] = {}  # latency that was timed, over the one that is wanted
            enough_s: list[float] = []  # prices at which the timed ones would have the speed-up
            limit_s, least_moved = price_s, math.inf
            for risk in np.linspace(1 / WITH_MARGIN, WITH_MARGIN, MOST_TIMED):
                able = [
                    c
                    for c in candidates
                    if plan_key(c.plan) not in lacks and problem.latency_s(c.plan) <= risk * limit_s
                ]
                candidate = min(able, key=lambda c: c.divergence, default=None)
                if candidate is None or candidate.divergence >= least_moved:
                    break
                [found] = measured([candidate.plan])
                lack = lacks[plan_key(candidate.plan)] = wanted / (TIMED_AGAIN * found)
                enough_s.append(problem.latency_s(candidate.plan) / lack)
                limit_s = WITH_MARGIN * float(np.median(enough_s))
                if lack <= 1:
                    least_moved = candidate.divergence
            corrected_s.append(limit_s)
            prices_s |= {key: lack * limit_s for key, lack in lacks.items()}

        def latency_s(plan: Plan) -> float:
            return prices_s.get(plan_key(plan), problem.latency_s(plan))

        return dataclasses.replace(problem, latency_s=latency_s, named_s=corrected_s)


def _fastest_of_use(problem: Problem, dense_s: float, fastest_s: float) -> float:
    """Latency of the fastest of some trial allocations whose errors add up to less than `USELESS`."""
    trials = np.geomspace(dense_s, fastest_s, TRIALS + 1)[1:]
    choices = knapsack(problem, [float(trial) for trial in trials])
    of_use = [problem.seconds(choice) for choice in choices if problem.error(choice) < USELESS]
    return min(of_use, default=float(trials[0]))
