"""What an allocator is given for one target: options that save time, and what each costs in error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from search.allocate.base import Allocator, Problem
from search.allocate.price import Pricer
from search.graph.ir import Array
from search.space.options import Options
from search.space.plan import Plan, Setting, plan_key, widths_of
from search.space.structures.channel import interpolate

Sensitivities = Mapping[str, Mapping[Setting, float]]
"""Knob to the divergence of the network when it alone is set, for the settings that were measured."""


def allocate(problem: Problem, budgets_s: Sequence[float], allocator: Allocator) -> list[Plan]:
    """Distinct plans along the front, slowest first."""
    plans = [problem.plan(choice) for choice in allocator(problem, budgets_s)]
    distinct = {plan_key(plan): plan for plan in plans if plan}
    return sorted(distinct.values(), key=lambda plan: -problem.latency_s(plan))


def build_problem(pricer: Pricer, options: Options, sensitivities: Sensitivities) -> Problem:
    """Options with their errors; those that save no time, or less than another of less error, are left out."""
    tables = pricer.tables(options)
    kept: dict[str, Array] = {}
    errors: dict[str, Array] = {}
    for element, plans in options.items():
        costs = np.array([_error(plan, sensitivities, pricer.full) for plan in plans])
        useful = (tables.alone(element) < 0) & np.isfinite(costs)
        kept[element] = np.flatnonzero(useful | (np.arange(len(plans)) == 0))
        errors[element] = costs[kept[element]]
    chosen = {element: [plans[k] for k in kept[element]] for element, plans in options.items()}
    return Problem(chosen, errors, pricer.latency_s, tables.at(kept))


def _error(plan: Plan, sensitivities: Sensitivities, full: Mapping[str, int]) -> float:
    """Sum over the knobs that a plan turns."""
    widths = widths_of(plan)
    channels = 0.0
    for group, width in widths.items():
        measured = {w: e for w, e in sensitivities.get(group, {}).items() if isinstance(w, int)}
        if width < full[group] and not measured:
            return float("inf")  # every setting failed
        channels += float(interpolate([width], measured, full[group])[0])
    unknown = float("inf")  # a setting that failed
    return channels + sum(sensitivities.get(k, {}).get(s, unknown) for k, s in plan.items() if not isinstance(s, int))
