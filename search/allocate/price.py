"""Price of a plan: the network's kernels with other channel counts, through the profile's latency model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from hwprofiles.device import DeviceProfile
from hwprofiles.latency import guessed_paths, guessed_s, network_overhead_s, workload_latency_s
from hwprofiles.workload import Workload
from search.allocate.lowered import Kernels, Widths
from search.allocate.tables import Tables
from search.allocate.tabulate import tabulated
from search.space.plan import Knobs, Plan, PlanKey, blocks_of, plan_key, widths_of, zeros_of
from search.space.structures.cluster import time_factor


class Pricer:
    """Prices plans for one target."""

    def __init__(self, knobs: Knobs, profile: DeviceProfile, kernels: Kernels | None = None) -> None:
        """Price nothing until it is asked for. ``kernels`` of the same knobs may serve the prices of other targets as well."""
        self.knobs, self.profile = knobs, profile
        self.full: Widths = {group.id: len(group) for group in knobs.groups.prunable}
        self._kernels = Kernels(knobs) if kernels is None else kernels
        self._known: dict[PlanKey, float] = {}
        self._kernels_s: dict[Workload, float] = {}
        self._tables: dict[object, Tables] = {}

    def workloads(self, plan: Plan) -> list[Workload]:
        """The network's kernels under a plan."""
        return self._kernels.of(plan).workloads(widths_of(plan), self.full)

    def latency_s(self, plan: Plan) -> float:
        """Predicted seconds of the whole network."""
        key = plan_key(plan)
        if key not in self._known:
            lowered, widths, left = self._kernels.of(plan), widths_of(plan), self._shares_left(plan)
            kernels = [sided.at(widths, self.full) for sided in lowered.kernels]
            seconds = math.fsum(self._kernel_s(kernel) * left.get(kernel.name, 1.0) for kernel in kernels)
            workloads = lowered.workloads(widths, self.full)
            self._known[key] = seconds + network_overhead_s(workloads, self.profile, seconds)
        return self._known[key]

    def guessed_s(self, plan: Plan) -> float:
        """Seconds of these that are priced as another kind of kernel, of which alone something is known."""
        return min(guessed_s(self.workloads(plan), self.profile), self.latency_s(plan))

    def guesses(self) -> str | None:
        """In words, which kernels of the network are priced as others; None where there are none."""
        found = guessed_paths(self.workloads({}), self.profile)
        if not found:
            return None
        named = ", ".join(f"{path} as {other}" for path, other in found.items())
        return (
            f"no measurement tells what some kernels cost on {self.profile.id}; they have that of a relative: {named}"
        )

    def _kernel_s(self, kernel: Workload) -> float:
        """Seconds of one kernel; plans share most of theirs."""
        if kernel not in self._kernels_s:
            self._kernels_s[kernel] = float(workload_latency_s(kernel, self.profile))
        return self._kernels_s[kernel]

    def _shares_left(self, plan: Plan) -> dict[str, float]:
        """Node to what its zeros leave of its kernel's time."""
        return {n: float(time_factor(z.share, self.profile, z.pattern)) for n, z in zeros_of(plan).items()}

    def fastest(self, options: Mapping[str, Sequence[Plan]]) -> Plan:
        """The option of every element that saves most by itself; the dense network where that is no faster."""
        tables = self.tables(options)
        chosen = [plans[int(tables.alone(element).argmin())] for element, plans in options.items()]
        plan = {knob: setting for option in chosen for knob, setting in option.items()}
        return plan if self.latency_s(plan) < self.latency_s({}) else {}

    def tables(self, options: Mapping[str, Sequence[Plan]]) -> Tables:
        """Prices of all options together.

        Blocks are lowered one at a time: what two of them change in one kernel is seen in `latency_s` only, and so are the
        layout reorders of widths.
        """
        key = tuple((element, tuple(map(plan_key, plans))) for element, plans in options.items())
        if key not in self._tables:
            self._tables[key] = self._tabulated(options)
        return self._tables[key]

    def _tabulated(self, options: Mapping[str, Sequence[Plan]]) -> Tables:
        every = [plan for plans in options.values() for plan in plans]
        variants = {plan_key(plan): self._kernels.of(plan) for plan in every if blocks_of(plan)}
        shares = {plan_key(plan): self._shares_left(plan) for plan in every if zeros_of(plan)}
        kernels = tabulated(options, self.full, self._kernels.of({}), variants, shares, self.profile)
        first = {knob: setting for plans in options.values() for knob, setting in plans[0].items()}
        first_s = self.latency_s(first)
        tables = Tables({element: len(plans) for element, plans in options.items()}, first_s, kernels)
        for element, plans in options.items():
            alone = tables.alone(element)
            for k in (k for k, plan in enumerate(plans) if blocks_of(plan)):
                tables.own[element][k] += self.latency_s({**first, **plans[k]}) - first_s - alone[k]
        return tables
