"""Multiple-choice knapsack over latency buckets, the whole table kept: its last row is the front for every budget.

D[l][b] = min_k D[l-1][b - t(l, k)] + e(l, k)   (SPDY, Frantar & Alistarh 2022, eq. 2)

Latencies are rounded *up* to buckets, so that a promise is never broken by rounding. A convolution costs what its input and
its output width make it cost together. Where elements form chains, `search.allocate.chain` solves that exactly; elsewhere
the table is solved for every budget with the other elements at the previous answer. Every answer is priced again as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from search.allocate.base import Choice, Problem
from search.allocate.chain import chain, chain_order
from search.graph.ir import Array

BUCKETS = 10_000
ROUNDS = 3


def knapsack(problem: Problem, budgets_s: Sequence[float]) -> list[Choice]:
    """Choices of least total error within each latency budget."""
    fastest = problem.fastest()
    order = chain_order(problem.neighbours) if problem.neighbours is not None else None
    if order is not None:
        exact = chain(problem, order, budgets_s)
        return [
            fastest if choice is None else _greedy(problem, budget, choice)
            for choice, budget in zip(exact, budgets_s, strict=True)
        ]
    answers: dict[float, Choice] = {}
    start: Choice = dict.fromkeys(problem.options, 0)
    for budget in sorted(budgets_s, reverse=True):
        start = answers[budget] = _one(problem, budget, start, fastest)
    return [answers[budget] for budget in budgets_s]


def _one(problem: Problem, budget_s: float, start: Choice, fastest: Choice) -> Choice:
    """Iterate table and exact price for one budget; the best answer that keeps the budget wins."""
    context, best, best_error = start, fastest, np.inf
    for _ in range(ROUNDS):
        answer = _solve(problem, budget_s, context)
        if answer is None:
            break
        answer = _greedy(problem, budget_s, answer)
        error = problem.error(answer)
        if problem.seconds(answer) <= budget_s and error < best_error:
            best, best_error = answer, error
        if answer == context:
            break
        context = answer
    return best


def _solve(problem: Problem, budget_s: float, context: Choice) -> Choice | None:
    changes = {element: problem.changes(element, context) for element in problem.options}
    base = problem.seconds(context) + sum(float(change.min()) for change in changes.values())
    return cheapest({e: c - c.min() for e, c in changes.items()}, problem.errors, budget_s - base)


def cheapest(
    times_s: Mapping[str, Array], errors: Mapping[str, Array], budget_s: float, *, buckets: int = BUCKETS
) -> dict[str, int] | None:
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
    best = np.zeros(buckets + 1)  # best[b]: least error of the groups so far with at most b buckets
    choices: list[Array] = []
    for group, seconds in times_s.items():
        costs = _buckets(np.asarray(seconds), width, buckets)
        table = np.full((len(costs), buckets + 1), np.inf)
        for k, cost in enumerate(costs):
            if cost <= buckets:
                table[k, cost:] = best[: buckets + 1 - cost] + errors[group][k]
        choices.append(table.argmin(0))
        best = table.min(0)
    if not np.isfinite(best[buckets]):
        return None
    left, answer = buckets, {}
    for group, choice in zip(reversed(list(times_s)), reversed(choices), strict=True):
        k = int(choice[left])
        answer[group] = k
        left -= int(_buckets(np.asarray(times_s[group][k]), width, buckets))
    return answer


def _buckets(seconds: Array, width_s: float, most: int) -> Array:
    """Buckets that times fill, rounded up; whatever does not fit counts one too many, however small the buckets are."""
    return np.ceil(np.minimum(seconds / width_s - 1e-9, most + 1)).astype(np.int64)


def _greedy(problem: Problem, budget_s: float, choice: Choice) -> Choice:
    """Mend what the additive table misjudged: save by least error per second while too slow, give back while there is room."""
    choice = dict(choice)
    while problem.seconds(choice) > budget_s and (step := _best_step(problem, choice, faster=True)) is not None:
        choice[step[0]] = step[1]
    while (step := _best_step(problem, choice, faster=False)) is not None:
        trial = {**choice, step[0]: step[1]}
        if problem.seconds(trial) > budget_s:
            break
        choice = trial
    return choice


def _best_step(problem: Problem, choice: Choice, *, faster: bool) -> tuple[str, int] | None:
    """The single change of one element with the best ratio of error to seconds."""
    best, found = np.inf if faster else 0.0, None
    for element in problem.options:
        seconds = problem.changes(element, choice)
        errors = problem.errors[element] - problem.errors[element][choice[element]]
        for k in range(len(seconds)):
            if faster and seconds[k] < 0:
                ratio = errors[k] / -seconds[k]
                if ratio < best:
                    best, found = ratio, (element, k)
            elif not faster and errors[k] < 0:
                ratio = -errors[k] / max(seconds[k], 1e-12)
                if ratio > best:
                    best, found = ratio, (element, k)
    return found
