"""What an allocator works on and gives: elements of the network, each with options, priced by the whole network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from search.graph.ir import Array
from search.plan import Plan, Setting

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
    change_s: Callable[[Sequence[Plan], Plan], Array]
    """Latency of the network with each of an element's options put into a plan, minus that of the plan."""

    neighbours: Mapping[str, frozenset[str]] | None = None
    """Element to those whose options change what its own cost, in time; None where that is not known."""

    def plan(self, choice: Choice) -> dict[str, Setting]:
        """The plan of a choice."""
        return {knob: s for element, k in choice.items() for knob, s in self.options[element][k].items()}

    def error(self, choice: Choice) -> float:
        """Sum of the errors of a choice."""
        return float(sum(self.errors[element][k] for element, k in choice.items()))

    def seconds(self, choice: Choice) -> float:
        """Predicted latency of a choice."""
        return self.latency_s(self.plan(choice))

    def changes(self, element: str, choice: Choice) -> Array:
        """Seconds of every option of an element, the others as chosen, minus those of the choice."""
        rest = self.plan({name: k for name, k in choice.items() if name != element})
        seconds = self.change_s(self.options[element], rest)
        return np.asarray(seconds - seconds[choice.get(element, 0)])

    def fastest(self) -> Choice:
        """The option of every element that saves most."""
        return {element: int(self.change_s(options, {}).argmin()) for element, options in self.options.items()}


Allocator = Callable[[Problem, Sequence[float]], list[Choice]]
"""(problem, latency budgets in seconds) to a choice for each budget; budgets out of reach give the fastest choice."""
