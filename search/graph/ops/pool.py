"""Pools, and what undoes them."""

from __future__ import annotations

from typing import Any

from hwprofiles.workload import Kind
from search.graph import flow
from search.graph.ir import Node
from search.graph.lazy_jax import jnp
from search.graph.ops import elements, lower_pool
from search.graph.ops.lower import Inputs, Lower, Value
from search.graph.ops.op import Op


def _pool(lower: Lower, kind: Kind, **more: Any) -> Op:
    """Every channel (axis 1) by itself."""
    return Op(lower, flow.spatial, apart="samples", channel_axis=1, kind=kind, **more)


def _max_pool(node: Node, inputs: Inputs) -> Value:
    x = jnp.asarray(inputs[0])
    indexed = len(node.outputs) > 1 and node.outputs[1]
    return lower_pool.max_pool_with_indices(node, x) if indexed else lower_pool.max_pool(node, x)


def _rounds_down(node: Node) -> bool:
    return not node.get("ceil_mode", 0)  # runtimes differ in where the last window may begin


OPS: dict[str, Op] = {
    "MaxPool": _pool(_max_pool, "pool", told=_rounds_down),
    "AveragePool": _pool(lambda node, v: lower_pool.average_pool(node, jnp.asarray(v[0])), "pool", told=_rounds_down),
    "LpPool": _pool(lambda node, v: lower_pool.lp_pool(node, jnp.asarray(v[0])), "pool"),
    "GlobalAveragePool": _pool(
        lambda _, v: lower_pool.global_pool(v[0], "mean"), "global_pool", scores="makes", told=True
    ),
    "GlobalMaxPool": _pool(lambda _, v: lower_pool.global_pool(v[0], "max"), "global_pool", told=True),
    "GlobalLpPool": _pool(lambda node, v: lower_pool.global_lp_pool(node, jnp.asarray(v[0])), "pool"),
    "MaxUnpool": Op(lower_pool.max_unpool, static=(2,), elements=elements.named_by(2), kind="data_movement"),
    "Col2Im": Op(lower_pool.col2im, static=(1, 2), elements=elements.no_more, kind="data_movement"),
}
