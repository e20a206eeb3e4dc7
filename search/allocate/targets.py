"""The targets of a request: what each makes of the network, what cannot help there, and what is out of reach."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hwprofiles.device import DeviceProfile
from hwprofiles.rules import executed_structures, sparsity_rule
from search.allocate.goals import Goals
from search.allocate.lowered import Kernels
from search.allocate.price import Pricer
from search.measure import profiles
from search.space.options import Options, states_for
from search.space.plan import Knobs, Plan
from search.space.structures.cluster import runs_zeros
from search.wire.errors import InfeasibleConstraints
from search.wire.progress import Progress
from search.wire.request import JobSpec

NOTHING_TO_PRUNE = "no channel and no block of this model can be removed"


@dataclasses.dataclass(frozen=True)
class Target:
    """One profile and what it makes of the network."""

    profile: DeviceProfile
    pricer: Pricer
    states: Sequence[Options]
    """Options with dense kernels and, where a switch of the runtime allows it, with sparse ones."""

    @functools.cached_property
    def fastest(self) -> Plan:
        """The option of every element that saves most, in the state that saves most."""
        return min((self.pricer.fastest(options) for options in self.states), key=self.pricer.latency_s)


def target_of(name: str, spec: JobSpec, knobs: Knobs, kernels: Kernels, cache_dir: Path, progress: Progress) -> Target:
    """Load a profile, price the network on it, list what the request lets it turn.

    Raises:
        InvalidProfile: as `search.measure.profiles.resolve`.
    """
    profile = profiles.resolve(name, cache_dir, progress, spec.threads, spec.batch)
    states = states_for(knobs, profile, spec.constraints.structures, spec.constraints.min_widths)
    return Target(profile, Pricer(knobs, profile, kernels), states)


def explain(spec: JobSpec, targets: Sequence[Target], knobs: Knobs, progress: Progress) -> None:
    """Say before the search what cannot help."""
    if not knobs.groups.prunable and not knobs.blocks:
        progress.warn(f"{NOTHING_TO_PRUNE}; the front is empty")
    for target in targets:
        if target.profile.held_out_error is None:
            notes = " ".join(target.profile.notes)
            progress.warn(
                f"the latency model of {target.profile.id} is not validated: {notes or target.profile.source}"
            )
        if words := target.pricer.guesses():
            progress.warn(words)
        for structure in spec.constraints.structures:
            rule = sparsity_rule(structure, target.profile)
            if structure not in executed_structures(target.profile):
                progress.warn(f"{target.profile.id} gains nothing from {structure} removal: {rule.reason}")
            elif structure == "unstructured":
                whole = runs_zeros(target.profile, knobs.graph, knobs.groups.shapes)
                if isinstance(whole, str):
                    progress.warn(f"{target.profile.id} skips no zeros of this network: {whole}")
        if target.pricer.latency_s(target.fastest) >= target.pricer.latency_s({}):
            progress.warn(
                f"pruning cannot help on {target.profile.id}: nothing that the request allows is cheaper there"
            )


def why_nothing(knobs: Knobs, targets: Sequence[Target], failure: str | None) -> str:
    """In words, why a front may be empty; ``failure``: what ended the candidates, where something did."""
    if not knobs.groups.prunable and not knobs.blocks:
        return NOTHING_TO_PRUNE
    if failure:
        return f"no candidate is left: {failure}"
    if all(target.pricer.latency_s(target.fastest) >= target.pricer.latency_s({}) for target in targets):
        return "nothing that the request allows is cheaper on the target"
    return "no candidate is cheaper than the dense model"


def refuse_unreachable(spec: JobSpec, targets: Sequence[Target]) -> None:
    """Refuse a latency that no width reaches on any target, before the search.

    Raises:
        InfeasibleConstraints: with the best reachable of every target.
    """
    goals = Goals(spec)
    reach = {t.profile.id: (t.pricer.latency_s({}), t.pricer.latency_s(t.fastest)) for t in targets}
    if any(least_s <= (goals.latency_s(dense_s) or np.inf) for dense_s, least_s in reach.values()):
        return
    best = {
        name: {"latency_ms": 1e3 * least_s, "speedup": dense_s / least_s} for name, (dense_s, least_s) in reach.items()
    }
    words = "; ".join(
        f"{name}: {v['latency_ms']:.3g} ms, {v['speedup']:.2f} times as fast as dense" for name, v in best.items()
    )
    raise InfeasibleConstraints(
        f"the objective asks for {goals.in_words}; the best reachable is {words} (predicted); relax it",
        best_reachable=best,
    )
