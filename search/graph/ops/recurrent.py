"""Recurrences: W (directions, gates * hidden, c_in), R (directions, gates * hidden, hidden), and vectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from hwprofiles.workload import Workload
from search.graph import flow
from search.graph.flow import Coupling, Ids
from search.graph.ir import Node
from search.graph.ops import elements, lower_rnn
from search.graph.ops.cut import Cut, with_attributes
from search.graph.ops.op import Op
from search.graph.ops.price import Shapes


def _flow(gates: int) -> flow.Flow:
    """Hidden unit j holds row j of every gate, of both directions; the recurrence consumes it again."""

    def recur(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
        x, (w, r) = inputs[0], node.inputs[1:3]
        states = [name for name in (node.input(5), node.input(6)) if name]
        if x is None or node.input(4) or any(name not in at.initializers for name in (w, r, *states)):
            return flow.freeze(node, inputs, at)
        fresh = at.fresh(node, at.initializers[r].shape[-1])
        at.slot(node, w, 2, at.channels(node, x, -1), "consumes")
        at.slot(node, w, 1, np.tile(fresh, gates), "produces")
        at.slot(node, r, 1, np.tile(fresh, gates), "produces")
        at.slot(node, r, 2, fresh, "consumes")
        at.slot(node, node.input(3), 1, np.tile(fresh, 2 * gates), "produces")
        at.slot(node, node.input(7), 1, np.tile(fresh, 3), "scales")
        for state in states:
            at.slot(node, state, at.initializers[state].ndim - 1, fresh, "scales")
        return [at.along(fresh, -1, value) for value in node.outputs if value]

    return recur


def _cut(node: Node, at: Cut) -> Node:
    return with_attributes(node, hidden_size=at.initializers[node.inputs[2]].shape[-1])


def _price(node: Node, base: Workload, active: Sequence[str], shapes: Shapes) -> Workload:
    """Time steps of a recurrence."""
    x, (directions, rows, hidden) = shapes[active[0]], shapes[node.inputs[2]]
    steps = x[1] if node.get("layout", 0) else x[0]
    return dataclasses.replace(
        base, kind="recurrence", c_in=x[-1], c_out=hidden, rows=steps, groups=directions, gates=rows // hidden
    )


def _recurrent(gates: int, *peephole: int) -> Op:
    return Op(
        lower_rnn.recurrent,
        _flow(gates),
        weights=(1, 2, 3, *peephole),
        zeros=(5, 6),
        elements=elements.no_more,
        cut=_cut,
        channel_axis=-1,
        kind="dense",
        price=_price,
    )


OPS: dict[str, Op] = {"RNN": _recurrent(1), "GRU": _recurrent(3), "LSTM": _recurrent(4, 7)}
