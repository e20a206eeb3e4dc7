"""Attention as one operator, and what comes with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from hwprofiles.workload import Workload
from search.graph import flow
from search.graph.flow import Coupling, Ids
from search.graph.ir import Node
from search.graph.ops import elements
from search.graph.ops.body import by_body
from search.graph.ops.cut import Cut, with_attributes
from search.graph.ops.op import Op
from search.graph.ops.price import Shapes


def _flow(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """A unit is a key head with the query heads that read it; q, k, v and the output share it."""
    q, k, v = inputs[:3]
    if q is None or k is None or v is None or [name for name in (*node.inputs[4:], *node.outputs[1:]) if name]:
        return flow.freeze(node, inputs, at)
    counts = [int(node.get(name, 0)) for name in ("q_num_heads", "kv_num_heads", "kv_num_heads")]
    heads = [_heads(node, ids, count, at) for ids, count in zip((q, k, v), counts, strict=True)]
    each = len(heads[0]) // len(heads[1])
    unit = at.unite(node, heads[1], heads[2])
    of_query = at.unite(node, heads[0], np.repeat(unit, each))
    of_query = at.unite_along(node, of_query.reshape(-1, each), 1)
    mask = at.shapes[node.input(3)] if node.input(3) else ()
    if len(mask) > 2 and mask[-3] > 1:
        at.keep(node, of_query, "its mask has a width of its own")
    out = at.shapes[node.outputs[0]]
    spread = np.repeat(of_query, each)
    if len(out) == 4:
        return [at.along(spread, 1, node.outputs[0])]
    return [at.along(np.repeat(spread, out[-1] // len(spread)), -1, node.outputs[0])]


def _heads(node: Node, ids: Ids, count: int, at: Coupling) -> Ids:
    """One id a head, from (N, heads, T, d) or (N, T, heads * d)."""
    if ids.ndim == 4:
        return at.channels(node, ids, 1)
    return at.unite_along(node, at.channels(node, ids, -1).reshape(count, -1), 1)


def _cut(node: Node, at: Cut) -> Node:
    """Heads in proportion to what is kept of the features (N, T, heads * width)."""
    counts = {"q_num_heads": node.inputs[0], "kv_num_heads": node.inputs[1]}
    shares = {name: (at.shape(value)[-1], at.shapes[value][-1]) for name, value in counts.items()}
    heads = {name: int(node.get(name)) * new // old for name, (new, old) in shares.items() if node.get(name)}
    return with_attributes(node, **heads)


def _price(node: Node, base: Workload, _active: Sequence[str], shapes: Shapes) -> Workload:
    """Two products a head, of queries with keys and of what these give with values; one exponential a pair between them."""
    q, k = (shapes[name] for name in node.inputs[:2])
    heads = q[1] if len(q) == 4 else int(node.get("q_num_heads", 1))
    width = q[-1] if len(q) == 4 else q[-1] // heads
    return dataclasses.replace(base, c_in=width, c_out=k[-2], rows=q[-2], groups=2 * heads, operands=2, fused=("Exp",))


OPS: dict[str, Op] = {
    "Attention": Op(by_body, _flow, by_opset=True, elements=elements.no_more, cut=_cut, kind="matmul", price=_price),
    "RotaryEmbedding": Op(by_body, by_opset=True, elements=elements.no_more, kind="elementwise"),
    "CausalConvWithState": Op(by_body, by_opset=True, elements=elements.no_more, kind="elementwise"),
    "SwiGLU": Op(by_body, by_opset=True, kind="elementwise"),
}
