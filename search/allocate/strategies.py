"""The allocation strategies by the names that a request gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from search.allocate.base import Allocator
from search.allocate.erk import ErdosRenyiKernel, density
from search.allocate.evolution import Evolution
from search.allocate.global_threshold import GlobalThreshold
from search.allocate.knapsack import knapsack
from search.allocate.uniform import Uniform
from search.criteria.base import Evidence, filter_scores
from search.space.plan import Knobs
from search.wire.request import AllocatorName


def allocator(name: AllocatorName, knobs: Knobs, seed: int) -> Allocator:
    """The strategy of this name for one network."""
    return _ALLOCATORS[name](knobs, seed)


def _uniform(knobs: Knobs, _: int) -> Allocator:
    return Uniform({group.id: len(group) for group in knobs.groups.prunable})


def _global(knobs: Knobs, _: int) -> Allocator:
    """By the sum of the absolute weights of every unit."""
    evidence = Evidence(knobs.graph, knobs.groups, {}, {})
    return GlobalThreshold({group.id: filter_scores(group, evidence, 1) for group in knobs.groups.prunable})


def _erk(knobs: Knobs, _: int) -> Allocator:
    groups, weights = knobs.groups.prunable, knobs.graph.initializers
    return ErdosRenyiKernel({g.id: len(g) for g in groups}, {g.id: density(g, weights) for g in groups})


_ALLOCATORS: Mapping[AllocatorName, Callable[[Knobs, int], Allocator]] = {
    "knapsack": lambda _, __: knapsack,
    "uniform": _uniform,
    "global": _global,
    "erk": _erk,
    "evolution": lambda _, seed: Evolution(knapsack, seed=seed),
}
RULES: frozenset[AllocatorName] = frozenset({"uniform", "global", "erk"})
"""The literature's rules are run as they are: no local search around what they allocate."""
