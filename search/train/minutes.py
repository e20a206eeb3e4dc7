"""Minutes of training spread over a front: successive halving, every point warm-started from its slower neighbour.

All candidates get a short course; those that still help the front get a longer one, from where they stand, and so on
(successive halving, Jamieson & Talwalkar 2016). A round has several times the time of the one before: with equal rounds most
of the time would go to candidates that are left behind.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from search.graph.ir import Array, Graph
from search.memo import Units
from search.space.plan import Candidate, PlanKey, plan_key
from search.space.uncut import spread
from search.train.deployed import chosen_zeros, cut_graph, inherit, made_zeros, refilled
from search.train.descent import Course, Outcome, Student, best_so_far
from search.train.pace import Pace, macs_of, pace
from search.train.schedules import SCHEDULES
from search.train.trainer import Trainer
from search.train.zeros import sparsify
from search.wire.progress import Progress, Stopped
from search.wire.request import ScheduleName

FEWEST_STEPS = 8
"""A course shorter than this only disturbs the repaired weights."""
USEFUL_STEPS = 150
"""Where a course of the first round would be shorter, fewer candidates enter it: shorter ones do not tell them apart. With 60
a first round for six candidates took a quarter of a ResNet-32's ten minutes."""
GROWTH = 3.0
"""Time of a round over that of the round before."""
RATE = 1e-3
"""Learning rate over divergence. 400 steps of 64 images brought a ResNet-20 that had moved by 1.85 nats and lost 16.1 points on
unseen images to -9.5 points at 7e-4, to -7.2 at 2e-3, to -7.1 at 5e-3, by then further from the dense network."""
LOWEST_RATE, HIGHEST_RATE = 4e-4, 2.5e-3
"""Where little was lost, short courses at higher rates end behind their start; where all was lost, nothing is gained."""
FALL = 0.57
"""Exponent by which what is lost falls with the steps: a ResNet-20 at 3x lost 4.7 points after 600 steps, 2.8 after 1,500."""
RESERVE = 0.15
"""Share of the deadline that is kept for exporting and judging what there is."""
_SCORE = "__score__"
_DIVERGED = "__diverged__"
_LAST = "__last__/"
Select = Callable[[Sequence[Candidate], int], Sequence[Candidate]]
"""(candidates, how many) to those that are worth more training, in the same order."""


class Courses:
    """Trains candidates of one dense network within a budget."""

    def __init__(
        self,
        trainer: Trainer,
        units: Units,
        progress: Progress,
        measurements: Path,
        *,
        schedule: ScheduleName = "one-shot",
    ) -> None:
        """Measure how fast this machine trains the dense network, unless that is known.

        Args:
            trainer: data and teacher.
            units: keep finished courses and the state of unfinished ones.
            progress: is told what is done, and may ask to stop.
            measurements: file of what is known about this machine's pace on this network.
            schedule: when unstructured zeros are chosen; `one-shot` keeps those of the repair.
        """
        self.trainer, self.units, self.progress, self.schedule = trainer, units, progress, schedule
        self.pace = self._pace(measurements)
        self._students: dict[PlanKey, Student] = {}

    def _pace(self, measurements: Path) -> Pace:
        """The same when the job goes on, whatever this machine has measured since."""
        kept = self.units.result(
            "pace",
            [],
            lambda: {k: np.asarray(v) for k, v in dataclasses.asdict(pace(self.trainer, measurements)).items()},
        )
        return Pace(**{name: value.item() for name, value in kept.items()})

    def recover(
        self, candidates: Sequence[Candidate], *, seconds: float, select: Select, points: int
    ) -> list[Candidate]:
        """Train candidates, the slowest network first.

        Args:
            candidates: slowest first, one at least.
            seconds: for all of them together.
            select: which of them go on to the next round.
            points: how many of them must remain.

        Returns:
            Those that took part, each with the best weights that it came to; the others would look better than they are on
            samples that the dense network knows by heart. All candidates where training ended early.
        """
        alive = [self._judged(candidate) for candidate in candidates]
        done = {plan_key(c.plan): c for c in alive}
        try:
            alive = self._entrants(alive, seconds, select, points)
            entered = {plan_key(c.plan) for c in alive}
            rounds = seconds_of_rounds(seconds, rounds_of(len(alive), points))
            for number, share in enumerate(rounds):
                alive = self._round(alive, number, len(rounds), share, done)
                alive = list(select(alive, max(points, math.ceil(len(alive) / 2))))
            done = {key: candidate for key, candidate in done.items() if key in entered}
        except Stopped:
            self.progress.warn("training ended early; points that were not trained keep their repaired weights")
        repaired = {plan_key(c.plan): c.params for c in candidates}
        if self.schedule != "one-shot" and any(c.params is repaired[key] for key, c in done.items()):
            self.progress.warn(
                f"where the schedule `{self.schedule}` came to nothing better in its time, points keep "
                "the zeros of their repair; allow more search.finetune_minutes, or use the schedule `one-shot`"
            )
        return list(done.values())

    def _judged(self, candidate: Candidate) -> Candidate:
        """With the divergence that training goes by."""

        def judge() -> dict[str, Array]:
            return {_SCORE: np.asarray(self.trainer.judge(cut_graph(candidate))({}))}

        found = self.units.result("judged", [candidate.plan, candidate.criterion], judge)
        return dataclasses.replace(candidate, divergence=float(found[_SCORE]))

    def _entrants(
        self, candidates: Sequence[Candidate], seconds: float, select: Select, points: int
    ) -> list[Candidate]:
        """As many candidates as can have a useful course in the first round, at least so many points."""
        alive = list(candidates)
        while len(alive) > points:
            each = shares(self._weights(alive), seconds_of_rounds(seconds, rounds_of(len(alive), points))[0])
            fewer = list(select(alive, fewer_than(len(alive), points)))
            steps = [self._steps(c, share, compiled=False) for c, share in zip(alive, each, strict=True)]
            if np.median(steps) >= USEFUL_STEPS or len(fewer) == len(alive):  # several targets may want different ones
                break
            alive = fewer
        return alive

    def _weights(self, candidates: Sequence[Candidate]) -> list[float]:
        """Parts of the time in which together they come closest to the dense network."""
        return [weight(c.divergence, self.pace.seconds_of_step(self._macs(c))) for c in candidates]

    def _macs(self, candidate: Candidate) -> int:
        graph = self._student(candidate).graph
        return macs_of(graph, {info.name: self.trainer.shapes[info.name] for info in graph.inputs})

    def _steps(self, candidate: Candidate, seconds: float, *, compiled: bool) -> int:
        return self.pace.steps(seconds, self._macs(candidate), compiled=compiled)

    def _round(
        self, alive: Sequence[Candidate], number: int, rounds: int, seconds: float, done: dict[PlanKey, Candidate]
    ) -> list[Candidate]:
        trained: list[Candidate] = []
        for candidate, share in zip(alive, self._shares(alive, seconds, compiled=number > 0), strict=True):
            self.progress.check(reserve=RESERVE)
            neighbour = trained[-1] if trained and number == 0 else None
            trained.append(self._course(candidate, neighbour, number, share))
            key = plan_key(candidate.plan)
            # a schedule starts from other zeros, and may end behind the repair; synthetic samples cannot tell
            better = min(done[key], trained[-1], key=lambda c: c.divergence)
            done[key] = better if self.trainer.real else trained[-1]
            self.progress.step(number * len(alive) + len(trained), rounds * len(alive), "courses")
        return trained

    def _shares(self, alive: Sequence[Candidate], seconds: float, *, compiled: bool) -> list[float]:
        """Seconds of every candidate: by its weight, 0 where that were too short a course, which leaves the others more."""
        equal = [self._steps(c, seconds / len(alive), compiled=compiled) for c in alive]
        if min(equal) < FEWEST_STEPS:
            self.progress.warn("the time for training is too short for some points; these keep their repaired weights")
        weights = self._weights(alive)
        while any(weights):
            found = shares(weights, seconds)
            least = min((i for i, w in enumerate(weights) if w), key=weights.__getitem__)
            if self._steps(alive[least], found[least], compiled=compiled) >= FEWEST_STEPS:
                return found
            weights[least] = 0.0
        return weights

    def _course(self, candidate: Candidate, neighbour: Candidate | None, number: int, seconds: float) -> Candidate:
        student = self._student(candidate)
        steps = self._steps(candidate, seconds, compiled=number > 0)
        if steps < FEWEST_STEPS:
            return candidate
        key = [candidate.plan, candidate.criterion, number, steps, self.schedule]
        course = Course(steps, learning_rate(candidate.divergence), self.trainer.weights)
        shares = chosen_zeros(candidate) if self.schedule != "one-shot" else {}

        start = self._start(candidate, neighbour)
        if shares:

            def run(student: Student, course: Course, done: int) -> Outcome:
                return self._kept(student, course, number * steps + done, [*key, done])

            stages, start = SCHEDULES[self.schedule](), start if number else refilled(start, candidate, shares)
            _, outcome = sparsify(self.trainer, start, shares, stages, course, student=student, run=run)
        else:
            student.graph = start
            outcome = self._kept(student, course, number * steps, key, whole=False)
        if outcome.diverged:
            self.progress.warn("the training loss of a point stopped being a number; its best weights so far are kept")
        return self._with_weights(candidate, outcome.score, outcome.params)

    def _kept(
        self, student: Student, course: Course, first: int, key: Sequence[object], *, whole: bool = True
    ) -> Outcome:
        """A course as a unit of work, which goes on where it was stopped; the best so far unless the ``whole`` is needed."""
        state = self.units.checkpoint("training", key)

        def train() -> dict[str, Array]:
            outcome = self.trainer.run(student, course, first=first, store=state, check=self._check)
            last = {_LAST + name: value for name, value in outcome.last.items()}
            score, diverged = np.asarray(outcome.score), np.asarray(outcome.diverged)
            return {**outcome.params, **last, _SCORE: score, _DIVERGED: diverged}

        try:
            found = self.units.result("trained", key, train)
        except Stopped:
            unfinished = state.load()
            if whole or unfinished is None:
                raise
            return best_so_far(student, unfinished)
        state.clear()
        score, diverged = float(found.pop(_SCORE)), bool(found.pop(_DIVERGED))
        last = {name: found.pop(_LAST + name) for name in student.names}
        return Outcome(found, score, last, diverged)

    def _check(self) -> None:
        self.progress.check(reserve=RESERVE)

    def _student(self, candidate: Candidate) -> Student:
        """Compiled once a candidate, however many courses it takes."""
        key = plan_key(candidate.plan)
        if key not in self._students:
            self._students[key] = self.trainer.student(cut_graph(candidate), made_zeros(candidate))
        return self._students[key]

    def _start(self, candidate: Candidate, neighbour: Candidate | None) -> Graph:
        """The candidate as it is, or with what its neighbour has learned, whichever is closer to the dense network."""
        mine = cut_graph(candidate)
        if neighbour is None:
            return mine
        inherited = cut_graph(inherit(candidate, neighbour))
        student = self._student(candidate)

        def score(graph: Graph) -> float:
            weights = {name: graph.initializers[name] for name in student.names}
            return self.trainer.judge(graph)(
                {n: np.where(student.masks.get(n, True), w, 0) for n, w in weights.items()}
            )

        scores = [score(graph) for graph in (mine, inherited)]
        return inherited if scores[1] < scores[0] else mine

    def _with_weights(self, candidate: Candidate, score: float, small: Mapping[str, Array]) -> Candidate:
        graph, groups = candidate.variant.graph.with_initializers(candidate.params), candidate.variant.groups
        params = {**candidate.params, **spread(small, graph, groups, candidate.keep)}
        return dataclasses.replace(candidate, params=params, divergence=score)


def weight(divergence: float, step_s: float) -> float:
    """A candidate's part of the time: (divergence * step_s^q)^(1 / (1 + q)), q = `FALL`.

    Where n steps of c seconds leave a n^-q of a divergence, the sum over all candidates is least when the time n c of each is in
    proportion to (a c^q)^(1 / (1 + q)). Where little was lost there is little to gain.
    """
    return float((max(divergence, 1e-9) * step_s**FALL) ** (1 / (1 + FALL)))


def learning_rate(divergence: float) -> float:
    """The further to go, the bolder: `RATE` times the divergence, within bounds.

    Example:
        >>> learning_rate(0.1), learning_rate(1.5), learning_rate(20.0)
        (0.0004, 0.0015, 0.0025)
    """
    return min(max(RATE * divergence, LOWEST_RATE), HIGHEST_RATE)


def shares(weights: Sequence[float], seconds: float) -> list[float]:
    """Seconds divided in proportion to weights."""
    return [float(share) for share in seconds * np.asarray(weights) / np.sum(weights)]


def rounds_of(candidates: int, points: int) -> int:
    """Rounds of halving until so many points remain, one at least.

    Example:
        >>> rounds_of(16, 8), rounds_of(16, 4), rounds_of(3, 8)
        (2, 3, 1)
    """
    return 1 + max(0, math.ceil(math.log2(max(1, candidates) / points)))


def fewer_than(candidates: int, points: int) -> int:
    """The next smaller number of candidates that rounds of halving bring down to so many points.

    Example:
        >>> fewer_than(28, 6), fewer_than(24, 6), fewer_than(7, 6)
        (24, 12, 6)
    """
    return int(points * 2 ** (rounds_of(candidates, points) - 2))


def seconds_of_rounds(seconds: float, rounds: int) -> list[float]:
    """Seconds of every round, each `GROWTH` times the one before.

    Example:
        >>> seconds_of_rounds(130.0, 3)
        [10.0, 30.0, 90.0]
    """
    parts = [GROWTH**number for number in range(rounds)]
    return [seconds * part / sum(parts) for part in parts]
