"""What an allocator works on and gives: elements of the network, each with options, priced by the whole network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from search.allocate.tables import Choices, Tables
from search.graph.ir import Array
from search.space.plan import Plan, Setting

Choice = dict[str, int]
"""Element to the position of the option taken. Option 0 is dense; an element that is not named is dense."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """Options and their costs, for one target."""

    options: Mapping[str, Sequence[Plan]]
    """Element to its options, each the part of a plan that it sets; the first is dense."""
    errors: Mapping[str, Array]
    """Element to the error of every option, in the same order; the first is 0."""
    latency_s: Callable[[Plan], float]
    """Predicted latency of the whole network."""
    tables: Tables
    """The same from look-ups, for many choices at once; it leaves out what only whole networks show."""
    named_s: Sequence[float] = ()
    """Prices of the speed-ups that the request names (`search.allocate.goals.Goals.prices_s`)."""

    def plan(self, choice: Choice) -> dict[str, Setting]:
        """The plan of a choice."""
        return {knob: s for element, k in choice.items() for knob, s in self.options[element][k].items()}

    def choice(self, plan: Plan) -> Choice:
        """The choice of a plan: of every element the option that sets most of it, and nothing else."""
        return {element: self._option(options, plan) for element, options in self.options.items()}

    def _option(self, options: Sequence[Plan], plan: Plan) -> int:
        within = [k for k, option in enumerate(options) if all(plan.get(knob) == s for knob, s in option.items())]
        return max(within, key=lambda k: len(options[k]), default=0)

    def error(self, choice: Choice) -> float:
        """Sum of the errors of a choice."""
        return float(sum(self.errors[element][k] for element, k in choice.items()))

    def seconds(self, choice: Choice) -> float:
        """Predicted latency of a choice."""
        return self.latency_s(self.plan(choice))

    def fastest(self) -> Choice:
        """The option of every element that saves most by itself."""
        return {element: int(self.tables.alone(element).argmin()) for element in self.options}

    def stacked(self, choices: Sequence[Choice]) -> Choices:
        """Choices as arrays, one an element."""
        return {e: np.array([choice.get(e, 0) for choice in choices], np.int64) for e in self.options}


Allocator = Callable[[Problem, Sequence[float]], list[Choice]]
"""(problem, latency budgets in seconds) to a choice for each budget; budgets out of reach give the fastest choice."""
