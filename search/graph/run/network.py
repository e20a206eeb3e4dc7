"""A graph as a module of Flax's, for who trains what was imported with tools of their own."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx

from search.graph.ir import Graph
from search.graph.run.execute import forward, trainable


class Network(nnx.Module):
    """An imported graph as a flax module; its parameters are ``nnx.Param`` under the initializers' names.

    Example:
        >>> network = Network(graph)                                  # doctest: +SKIP
        >>> gradients = nnx.grad(lambda m: m({"x": x})[0].sum())(network)  # doctest: +SKIP
    """

    def __init__(self, graph: Graph) -> None:
        """Copy the graph's trainable initializers."""
        self.parameters = nnx.Dict(
            {name: nnx.Param(jnp.asarray(graph.initializers[name])) for name in trainable(graph)}
        )
        self._run = nnx.static(functools.partial(forward(graph)))

    def __call__(self, feeds: Mapping[str, Any]) -> list[Any]:
        """Outputs of the graph, in its order."""
        return self._run({name: parameter[...] for name, parameter in self.parameters.items()}, feeds)
