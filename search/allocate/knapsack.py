"""Multiple-choice knapsack over latency buckets, the whole table kept: its last row is the front for every budget.

D[l][b] = min_k D[l-1][b - t(l, k)] + e(l, k)   (SPDY, Frantar & Alistarh 2022, eq. 2)

Latencies are rounded *up* to buckets, so that a promise is never broken by rounding. A convolution costs what its input and
its output width make it cost together: the table is solved for every budget with the other groups at the previous answer,
and every answer is priced again exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from search.allocate.base import Problem, Widths
from search.graph.ir import Array

BUCKETS = 10_000
ROUNDS = 3


def knapsack(problem: Problem, budgets_s: Sequence[float]) -> list[Widths]:
    """Widths of least total error within each latency budget."""
    dense = {group: options[0] for group, options in problem.options.items()}
    fastest = {group: options[-1] for group, options in problem.options.items()}
    answers = []
    start = dense
    for budget in sorted(budgets_s, reverse=True):
        start = _one(problem, budget, start, fastest)
        answers.append((budget, start))
    by_budget = dict(answers)
    return [by_budget[budget] for budget in budgets_s]


def _one(problem: Problem, budget_s: float, start: Widths, fastest: Widths) -> Widths:
    """Iterate table and exact price for one budget; the best answer that keeps the budget wins."""
    context, best, best_error = start, fastest, np.inf
    for _ in range(ROUNDS):
        answer = _solve(problem, budget_s, context)
        if answer is None:
            break
        answer = _greedy(problem, budget_s, answer)
        error = _error(problem, answer)
        if problem.latency_s(answer) <= budget_s and error < best_error:
            best, best_error = answer, error
        if answer == context:
            break
        context = answer
    return best


def _error(problem: Problem, widths: Widths) -> float:
    return sum(float(problem.errors[g][list(options).index(widths[g])]) for g, options in problem.options.items())


def _solve(problem: Problem, budget_s: float, context: Widths) -> Widths | None:
    changes = {group: problem.change_s(group, context) for group in problem.options}
    base = problem.latency_s(context) + sum(float(change.min()) for change in changes.values())
    choice = cheapest({g: c - c.min() for g, c in changes.items()}, problem.errors, budget_s - base)
    return None if choice is None else {group: problem.options[group][k] for group, k in choice.items()}


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


def _greedy(problem: Problem, budget_s: float, widths: Widths) -> Widths:
    """Mend what the additive table misjudged: narrow by least error per second while too slow, widen while there is room."""
    widths = dict(widths)
    while problem.latency_s(widths) > budget_s and (step := _best_step(problem, widths, faster=True)) is not None:
        widths[step[0]] = step[1]
    while (step := _best_step(problem, widths, faster=False)) is not None:
        trial = {**widths, step[0]: step[1]}
        if problem.latency_s(trial) > budget_s:
            break
        widths = trial
    return widths


def _best_step(problem: Problem, widths: Widths, *, faster: bool) -> tuple[str, int] | None:
    """The single change of one group with the best ratio of error to seconds."""
    best, found = np.inf if faster else 0.0, None
    for group, options in problem.options.items():
        now = list(options).index(widths[group])
        seconds = problem.change_s(group, widths)
        errors = problem.errors[group] - problem.errors[group][now]
        for k, width in enumerate(options):
            if faster and seconds[k] < 0:
                ratio = errors[k] / -seconds[k]
                if ratio < best:
                    best, found = ratio, (group, width)
            elif not faster and errors[k] < 0:
                ratio = -errors[k] / max(seconds[k], 1e-12)
                if ratio > best:
                    best, found = ratio, (group, width)
    return found
