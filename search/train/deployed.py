"""A candidate as it will be deployed: its cut graph, the zeros that pruning gave it, and what it inherits of a neighbour."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from search.graph.ir import Array, Graph
from search.space.plan import Candidate, zeros_of
from search.space.surgery import cut, mask


def cut_graph(candidate: Candidate) -> Graph:
    """The candidate as it will be deployed."""
    masked = candidate.variant.graph.with_initializers(candidate.params)
    return cut(masked, candidate.variant.groups, candidate.keep)


def made_zeros(candidate: Candidate) -> dict[str, Array]:
    """Masks of the cut weights that pruning gave zeros of its own (unstructured, N:M, block): False where they are.

    Zeros that the dense network has too, such as those of a shortcut that copies channels, are free to move, but for those in a
    weight whose zeros the plan asks for: they count among these.
    """
    dense = cut(candidate.variant.graph, candidate.variant.groups, candidate.keep).initializers
    mine, asked = cut_graph(candidate), zeros_of(candidate.plan)
    sparse = {node.input(1) for node in mine.nodes if node.name in asked}
    masks = {
        name: (value != 0) | ((dense[name] == 0) & (name not in sparse))
        for name, value in mine.initializers.items()
        if value.dtype == np.float32
    }
    return {name: mask for name, mask in masks.items() if not mask.all()}


def chosen_zeros(candidate: Candidate) -> dict[str, float]:
    """Cut weights with unstructured zeros, to the share of them."""
    masks, nodes = made_zeros(candidate), {node.name: node for node in candidate.variant.graph.nodes}
    sparse = [node for node, zeros in zeros_of(candidate.plan).items() if zeros.pattern == "unstructured"]
    weights = [nodes[node].input(1) for node in sparse if node in nodes]
    return {name: float(1 - masks[name].mean()) for name in weights if name in masks}


def refilled(graph: Graph, candidate: Candidate, names: Iterable[str]) -> Graph:
    """A cut graph with the dense network's values where zeros were chosen, so that a schedule may choose others."""
    dense = cut(candidate.variant.graph, candidate.variant.groups, candidate.keep).initializers
    mine = graph.initializers
    return graph.with_initializers({name: np.where(mine[name] == 0, dense[name], mine[name]) for name in names})


def inherit(candidate: Candidate, neighbour: Candidate) -> Candidate:
    """The candidate with its neighbour's weights wherever both have a weight, cut to its own units."""
    own = {**candidate.variant.graph.initializers, **candidate.params}
    shared = {name: value for name, value in neighbour.params.items() if name in own and own[name].shape == value.shape}
    params = {**candidate.params, **shared}
    full = {**candidate.variant.graph.initializers, **params}
    return dataclasses.replace(candidate, params={**params, **mask(full, candidate.variant.groups, candidate.keep)})
