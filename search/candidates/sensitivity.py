"""What each option costs: how far the network moves when one knob alone is turned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.allocate.problem import Sensitivities
from search.candidates.make import DIVERGENCE, Maker
from search.graph.ir import Array
from search.space.options import Options
from search.space.plan import Knobs, Plan, Setting, blocks_of, widths_of, zeros_of
from search.space.structures.channel import measured_widths

SENSITIVITY_SAMPLES = 256
"""Of the search split, where the network is small enough for so many."""
TO_REPAIR = 0.5
"""Share of the deadline that sensitivities leave for candidates."""


def sensitivities(maker: Maker, options: Sequence[Options]) -> Sensitivities:
    """Divergence of the whole network when one knob alone is turned and its neighbours make up for it.

    Settings that fail are missing, and so are left out of every plan. So are those that there is no time for: the widths
    about the middle of every group come first, then blocks.

    Args:
        maker: of the dense network.
        options: of every element, for each target; the union is measured.
    """
    wanted = _settings_to_measure(maker.knobs, options)
    result: dict[str, dict[Setting, float]] = {}
    for knob, setting in maker.progress.each(wanted, "options"):
        with maker.survival.without("option", f"{knob} = {setting}"):
            result.setdefault(knob, {})[setting] = _sensitivity(maker, {knob: setting})
        if maker.progress.late(TO_REPAIR):
            maker.progress.warn(
                "half of search.deadline_minutes was gone before every option was measured; the others are left out: "
                "give more minutes for a better front"
            )
            break
    return result


def _sensitivity(maker: Maker, plan: Plan) -> float:
    samples = min(maker.knobs.looked_at(SENSITIVITY_SAMPLES), len(maker.splits.search))
    criterion = next(iter(maker.orders))

    def compute() -> dict[str, Array]:
        variant = maker.knobs.variant(plan)
        keep = maker.knobs.keep(plan, maker.orders[criterion], variant)
        params = maker.repairer.compensated(keep) if widths_of(plan) else maker.repairer.sparsified(zeros_of(plan))
        return {DIVERGENCE: np.asarray(maker.divergence(variant, keep, params, samples))}

    return float(maker.units.result("sensitivity", [plan, criterion], compute)[DIVERGENCE])


def _settings_to_measure(knobs: Knobs, options: Sequence[Options]) -> list[tuple[str, Setting]]:
    """Widths, a few of each group, everything that may stand in for a block, and every level of zeros."""
    plans = [plan for target in options for of_element in target.values() for plan in of_element]
    blocks = dict.fromkeys((knob, setting) for plan in plans for knob, setting in blocks_of(plan).items())
    widths: list[list[tuple[str, Setting]]] = []
    for group in knobs.groups.prunable:
        wanted: set[int] = set()
        for target in options:
            mine = {w for of_element in target.values() for plan in of_element if (w := widths_of(plan).get(group.id))}
            wanted.update(measured_widths([len(group), *mine]))
        half = len(group) / 2
        widths.append([(group.id, width) for width in sorted(wanted, key=lambda w, half=half: (abs(w - half), w))])  # type: ignore[misc]
    first = [mine[0] for mine in widths if mine]
    zeros = dict.fromkeys((knob, s) for plan in plans for knob, s in plan.items() if isinstance(s, float))
    return [*first, *blocks, *(setting for mine in widths for setting in mine[1:]), *zeros]
