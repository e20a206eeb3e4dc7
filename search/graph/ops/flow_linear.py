"""How unit ids flow through operators with weights and through products: who produces, consumes and scales units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.graph import flow
from search.graph.flow import Coupling, Ids
from search.graph.ir import Node


def conv(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """Consumes c_in units and produces c_out; with groups, see `_grouped`."""
    weight, bias, out = node.inputs[1], node.input(2), node.outputs[0]
    if inputs[0] is None or weight not in at.initializers:
        return flow.freeze(node, inputs, at)
    ids = at.channels(node, inputs[0], 1)
    groups = int(node.get("group", 1))
    if groups > 1:
        return [at.along(_grouped(node, ids, groups, at), 1, out)]
    at.slot(node, weight, 1, ids, "consumes")
    fresh = at.fresh(node, at.initializers[weight].shape[0])
    at.slot(node, weight, 0, fresh, "produces")
    at.slot(node, bias, 0, fresh, "produces")
    return [at.along(fresh, 1, out)]


def _grouped(node: Node, ids: Ids, groups: int, at: Coupling) -> Ids:
    """Ids of the output channels of a convolution in groups; every group must stay as wide as the others.

    Many narrow groups (depthwise, ResNeXt) go as a whole: a group's inputs and outputs are one unit. Of few wide groups
    (AlexNet, RegNet) the same positions go in every group.
    """
    weight, bias = node.inputs[1], node.input(2)
    c_out, width = at.initializers[weight].shape[:2]
    by_group = ids.reshape(groups, width)
    if groups >= width:
        unit = at.unite_along(node, by_group, 1)
        passed = np.repeat(unit, c_out // groups)
        at.slot(node, weight, 0, passed, "scales")
        at.slot(node, bias, 0, passed, "scales")
        return passed
    at.slot(node, weight, 1, at.unite_along(node, by_group, 0), "consumes")
    fresh = at.fresh(node, c_out)
    at.unite_along(node, fresh.reshape(groups, -1), 0)
    at.slot(node, weight, 0, fresh, "produces")
    at.slot(node, bias, 0, fresh, "produces")
    return fresh


def conv_transpose(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """As `conv`; the weight is (c_in, c_out / groups, ...)."""
    weight, bias, out = node.inputs[1], node.input(2), node.outputs[0]
    if inputs[0] is None or weight not in at.initializers or int(node.get("group", 1)) != 1:
        return flow.freeze(node, inputs, at)
    at.slot(node, weight, 0, at.channels(node, inputs[0], 1), "consumes")
    fresh = at.fresh(node, at.initializers[weight].shape[1])
    at.slot(node, weight, 1, fresh, "produces")
    at.slot(node, bias, 0, fresh, "produces")
    return [at.along(fresh, 1, out)]


def gemm(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """Rows of features times a weight matrix."""
    weight, bias, out = node.inputs[1], node.input(2), node.outputs[0]
    usable = inputs[0] is not None and weight in at.initializers and not node.get("transA", 0)
    if not usable or (bias and bias not in at.initializers):
        return flow.freeze(node, inputs, at)
    assert inputs[0] is not None
    consumed = 1 if node.get("transB", 0) else 0
    at.slot(node, weight, consumed, at.channels(node, inputs[0], 1), "consumes")
    fresh = at.fresh(node, at.initializers[weight].shape[1 - consumed])
    at.slot(node, weight, 1 - consumed, fresh, "produces")
    if bias and at.initializers[bias].shape[-1:] == fresh.shape:
        at.slot(node, bias, at.initializers[bias].ndim - 1, fresh, "produces")
    return [at.along(fresh, 1, out)]


def matmul(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """Features on the last axis times a weight matrix (c_in, c_out), or a product of activations."""
    weight, out = node.inputs[1], node.outputs[0]
    if inputs[0] is not None and inputs[1] is not None:
        return [product(node, inputs[0], inputs[1], at)]
    if inputs[0] is None or weight not in at.initializers or at.initializers[weight].ndim != 2:
        return flow.freeze(node, inputs, at)
    at.slot(node, weight, 0, at.channels(node, inputs[0], -1), "consumes")
    fresh = at.fresh(node, at.initializers[weight].shape[1])
    at.slot(node, weight, 1, fresh, "produces")
    return [at.along(fresh, -1, out)]


def by_channel(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """A normalisation that treats every channel by itself, with vectors of one number a channel."""
    if inputs[0] is None or any(weight not in at.initializers for weight in node.inputs[1:]):
        return flow.freeze(node, inputs, at)
    ids = at.channels(node, inputs[0], 1)
    for weight in node.inputs[1:]:
        at.slot(node, weight, 0, ids, "scales")
    return [at.along(ids, 1, value) for value in node.outputs if value]


def product(node: Node, a: Ids, b: Ids, at: Coupling) -> Ids:
    """Ids of a (..., i, k) times b (..., k, j): units of a whole matrix (an attention head) meet and go on.

    Units along k are summed over; nothing that has weights says which of them goes, so they stay.
    """
    left, right = at.summed(node, a, -1), at.summed(node, b, -2)
    return flow.meet(node, [left, right], at.shapes[node.outputs[0]], at)


def attention(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """ONNX ``Attention``: a unit is a key head with the query heads that read it; q, k, v and the output share it."""
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


GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def recurrent(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """RNN, GRU, LSTM: hidden unit j holds row j of every gate, of both directions; the recurrence consumes it again."""
    x, (w, r) = inputs[0], node.inputs[1:3]
    states = [name for name in (node.input(5), node.input(6)) if name]
    if x is None or node.input(4) or any(name not in at.initializers for name in (w, r, *states)):
        return flow.freeze(node, inputs, at)
    gates, hidden = GATES[node.op], at.initializers[r].shape[-1]
    fresh = at.fresh(node, hidden)
    at.slot(node, w, 2, at.channels(node, x, -1), "consumes")
    at.slot(node, w, 1, np.tile(fresh, gates), "produces")
    at.slot(node, r, 1, np.tile(fresh, gates), "produces")
    at.slot(node, r, 2, fresh, "consumes")
    at.slot(node, node.input(3), 1, np.tile(fresh, 2 * gates), "produces")
    at.slot(node, node.input(7), 1, np.tile(fresh, 3), "scales")
    for state in states:
        at.slot(node, state, at.initializers[state].ndim - 1, fresh, "scales")
    return [at.along(fresh, -1, value) for value in node.outputs if value]
