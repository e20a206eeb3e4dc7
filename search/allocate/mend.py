"""Single steps that mend an answer: faster at the least error per second while it is too slow, back while there is room.

Every step is chosen among all options of all elements, for all budgets side by side.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from search.allocate.base import Problem
from search.allocate.tables import Choices
from search.graph.ir import Array

Score = Callable[[Array, Array, Array], Array]
"""(seconds and errors that each step adds, (B, steps); room in seconds, (B, 1)) to scores; the lowest below infinity is taken."""


def mend(problem: Problem, budgets_s: Array, choices: Choices) -> Choices:
    """Choices that keep their budgets by the tables, if steps of one element lead there.

    Args:
        problem: the target's options, errors and prices.
        budgets_s: (B,) seconds.
        choices: B of them.
    """
    within = _walk(problem, budgets_s, choices, _faster)
    return _walk(problem, budgets_s, within, _back)


def _faster(seconds: Array, errors: Array, room_s: Array) -> Array:
    """Error per second saved, while there is no room."""
    useful = (seconds < 0) & (room_s < 0)
    return np.where(useful, errors / np.where(useful, -seconds, 1.0), np.inf)


def _back(seconds: Array, errors: Array, room_s: Array) -> Array:
    """The most error given back by what fits."""
    return np.where((errors < 0) & (seconds <= room_s), errors, np.inf)


def _walk(problem: Problem, budgets_s: Array, choices: Choices, score: Score) -> Choices:
    """Take the best step of every choice until none has any."""
    walked = {element: chosen.copy() for element, chosen in choices.items()}
    rows = np.arange(len(budgets_s))
    while len(rows):
        part = {element: chosen[rows] for element, chosen in walked.items()}
        room_s = budgets_s[rows] - problem.tables.seconds(part)
        steps = [_scores(problem, element, part, room_s, score) for element in part]
        scores = np.concatenate(steps, 1)
        best = scores.argmin(1)
        going = np.isfinite(scores[np.arange(len(rows)), best])
        rows, best = rows[going], best[going]
        for element, of_element in zip(part, steps, strict=True):
            mine = (best >= 0) & (best < of_element.shape[1])
            walked[element][rows[mine]] = best[mine]
            best = best - of_element.shape[1]
    return walked


def _scores(problem: Problem, element: str, choices: Choices, room_s: Array, score: Score) -> Array:
    errors = problem.errors[element]
    return score(problem.tables.changes(element, choices), errors - errors[choices[element]][:, None], room_s[:, None])


def best_of(problem: Problem, budgets_s: Array, one: Choices, other: Choices) -> Choices:
    """Of each two choices the one of less error that keeps the budget by the tables; the first where neither does."""
    errors = [errors_of(problem, choices) + _penalty(problem, budgets_s, choices) for choices in (one, other)]
    second = errors[1] < errors[0]
    return {element: np.where(second, other[element], chosen) for element, chosen in one.items()}


def _penalty(problem: Problem, budgets_s: Array, choices: Choices) -> Array:
    return np.where(problem.tables.seconds(choices) <= budgets_s, 0.0, np.inf)


def errors_of(problem: Problem, choices: Choices) -> Array:
    """(B,) sums of errors."""
    return np.asarray(sum((problem.errors[e][chosen] for e, chosen in choices.items()), np.zeros(1)))
