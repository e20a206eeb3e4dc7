"""Multiple-choice knapsack over latency buckets: one option an element, least total error within the budget.

D[l][b] = min_k D[l-1][b - t(l, k)] + e(l, k)   (SPDY, Frantar & Alistarh 2022, eq. 2)

Latencies are rounded *up* to buckets, so that a promise is never broken by rounding. A convolution costs what its input and
its output width make it cost together. Where elements form chains, `search.allocate.chain` solves that exactly, with one
table for every budget. Elsewhere the walk of `search.allocate.mend` from the dense network gives a context, the table is
solved with the other elements as in it, all budgets side by side, and budgets try their neighbours' answers. In the end
every answer is priced as a whole network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from search.allocate.base import Choice, Problem
from search.allocate.chain import chain, chain_order
from search.allocate.mend import best_of, mend
from search.allocate.tables import Choices
from search.graph.ir import Array

BUCKETS = 4_000
"""Of what lies between a budget and the fastest answer, in a round of which steps mend what rounding up has cost."""
ROUNDS = 2
CORRECTIONS = 2
"""Times that budgets are shifted by what only whole networks show."""
EXACT = 1e-6
"""Relative difference below which the tables' prices are those of whole networks."""


def knapsack(problem: Problem, budgets_s: Sequence[float]) -> list[Choice]:
    """Choices of least total error within each latency budget."""
    budgets = np.asarray(budgets_s, dtype=np.float64)
    wanted, best = budgets, [problem.fastest()] * len(budgets)
    for _ in range(1 + CORRECTIONS):
        choices = _by_tables(problem, wanted)
        found = [{e: int(chosen[i]) for e, chosen in choices.items()} for i in range(len(budgets))]
        exact = np.array([problem.seconds(choice) for choice in found])
        best = [
            mine if seconds <= budget and problem.error(mine) < _error_within(problem, old, budget) else old
            for mine, old, seconds, budget in zip(found, best, exact, budgets, strict=True)
        ]
        hidden = exact - problem.tables.seconds(choices)
        if np.all(np.abs(hidden) <= EXACT * exact):
            break
        wanted = budgets - hidden
    return best


def _error_within(problem: Problem, choice: Choice, budget_s: float) -> float:
    return problem.error(choice) if problem.seconds(choice) <= budget_s else np.inf


def _by_tables(problem: Problem, budgets_s: Array) -> Choices:
    """The answers, as far as the tables know."""
    order = chain_order(problem.tables.neighbours)
    fastest = problem.stacked([problem.fastest()] * len(budgets_s))
    if order is not None:
        answers = [answer or problem.fastest() for answer in chain(problem, order, budgets_s)]
        return best_of(problem, budgets_s, fastest, mend(problem, budgets_s, problem.stacked(answers)))
    context = mend(problem, budgets_s, problem.stacked([{}] * len(budgets_s)))
    best = best_of(problem, budgets_s, fastest, context)
    for _ in range(ROUNDS):
        context = mend(problem, budgets_s, _round(problem, budgets_s, context))
        best = best_of(problem, budgets_s, best, context)
    for step in (1, -1):
        neighbours = {element: np.roll(chosen, step) for element, chosen in best.items()}
        best = best_of(problem, budgets_s, best, mend(problem, budgets_s, neighbours))
    return best


def _round(problem: Problem, budgets_s: Array, context: Choices) -> Choices:
    """The additive problem of every budget, options priced with the others as in its context."""
    changes = {element: problem.tables.changes(element, context) for element in problem.options}
    room_s = budgets_s - problem.tables.seconds(context) - sum(c.min(1) for c in changes.values())
    answers = []
    for i, room in enumerate(room_s):
        fastest = {element: int(c[i].argmin()) for element, c in changes.items()}
        times_s = {element: c[i] - c[i].min() for element, c in changes.items()}
        answers.append(cheapest(times_s, problem.errors, float(room)) or fastest)
    return problem.stacked(answers)


def cheapest(
    times_s: Mapping[str, Array], errors: Mapping[str, Array], budget_s: float, *, buckets: int = BUCKETS
) -> Choice | None:
    """Exact answer of the additive problem: one option a group, least total error, total time within the budget.

    Args:
        times_s: group to seconds of every option, none negative.
        errors: group to the error of every option.
        budget_s: seconds.
        buckets: resolution of the budget; times are rounded up to it.

    Returns:
        Group to the option chosen, or None when not even the fastest options fit.
    """
    if budget_s < 0:
        return None
    width = max(budget_s, 1e-300) / buckets  # with no budget at all only what costs nothing fits
    costs = {group: _buckets(np.asarray(seconds), width, buckets) for group, seconds in times_s.items()}
    worth = {group: undominated(cost, errors[group], buckets) for group, cost in costs.items()}
    if not all(len(options) for options in worth.values()):
        return None
    best, chosen = np.zeros(buckets + 1), []  # best[b]: least error of the groups so far with at most b buckets
    for group, options in worth.items():
        best, option = _extend(best, costs[group], errors[group], options)
        chosen.append(option)
    if not np.isfinite(best[buckets]):
        return None
    left, answer = buckets, {}
    for group, option in zip(reversed(list(worth)), reversed(chosen), strict=True):
        answer[group] = int(option[left])
        left -= int(costs[group][answer[group]])
    return answer


def _extend(best: Array, costs: Array, errors: Array, options: Array) -> tuple[Array, Array]:
    """One more group: the least error for every number of buckets, and the option that gives it."""
    found, chosen = np.full(len(best), np.inf), np.zeros(len(best), np.int32)
    for k in options:
        cost = costs[k]
        trial = best[: len(best) - cost] + errors[k]
        better = trial < found[cost:]
        np.copyto(found[cost:], trial, where=better)
        np.copyto(chosen[cost:], k, where=better)
    return found, chosen


def undominated(costs: Array, errors: Array, most: int) -> Array:
    """Positions of the options that cost at most so much and of which none other is as cheap and as good.

    Example:
        >>> undominated(np.array([5, 3, 4, 9]), np.array([0.0, 2.0, 3.0, 0.0]), 8).tolist()
        [1, 0]
    """
    order = np.lexsort((errors, costs))
    order = order[costs[order] <= most]
    least = np.minimum.accumulate(errors[order])
    return np.asarray(order[np.concatenate([[True], least[1:] < least[:-1]])[: len(order)]])


def _buckets(seconds: Array, width_s: float, most: int) -> Array:
    """Buckets that times fill, rounded up; whatever does not fit counts one too many, however small the buckets are."""
    return np.ceil(np.minimum(seconds / width_s - 1e-9, most + 1)).astype(np.int64)
