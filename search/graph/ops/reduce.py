"""Sums, means and extremes along axes, and what runs or sorts along them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from search.graph import flow
from search.graph.flow import Coupling, Ids
from search.graph.ir import Node
from search.graph.ops import elements, lower_reduce
from search.graph.ops.body import by_body
from search.graph.ops.op import Op


def _flow(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """Passes units that are the same along every reduced axis; a reduction over channels freezes them."""
    ids, out = inputs[0], node.outputs[0]
    if ids is None:
        return [at.none(out)]
    axes = node.get("axes")
    if axes is None:
        axes = at.static[node.inputs[1]].reshape(-1).tolist() if node.input(1) else list(range(ids.ndim))
    for axis in sorted((int(a) % ids.ndim for a in axes), reverse=True):
        if (ids != ids.take([0], axis)).any():
            return flow.freeze(node, inputs, at)
        ids = ids.take([0], axis)
    return [np.broadcast_to(ids.reshape(at.shapes[out]), at.shapes[out])]


def _reduction(function: lower_reduce.Reduce, **more: Any) -> Op:
    return Op(lower_reduce.reduce(function), _flow, static=(1,), kind="global_pool", **more)


OPS: dict[str, Op] = {
    "ReduceMean": _reduction(lower_reduce.MEAN, scores="makes"),
    "ReduceSum": _reduction(lower_reduce.SUM),
    "ReduceMax": _reduction(lower_reduce.LARGEST),
    "ReduceMin": _reduction(lower_reduce.SMALLEST),
    "ReduceProd": _reduction(lower_reduce.PRODUCT),
    "ReduceL1": _reduction(lower_reduce.l1),
    "ReduceL2": _reduction(lower_reduce.l2),
    "ReduceSumSquare": _reduction(lower_reduce.sum_square),
    "ReduceLogSum": _reduction(lower_reduce.log_sum),
    "ReduceLogSumExp": _reduction(lower_reduce.log_sum_exp),
    "ArgMax": Op(lower_reduce.arg("argmax"), kind="global_pool"),
    "ArgMin": Op(lower_reduce.arg("argmin"), kind="global_pool"),
    "CumSum": Op(lower_reduce.cumulative("cumsum"), static=(1,), kind="elementwise"),
    "CumProd": Op(lower_reduce.cumulative("cumprod"), static=(1,), kind="elementwise"),
    "TopK": Op(lower_reduce.top_k, static=(1,), elements=elements.no_more, kind="global_pool"),
    "NegativeLogLikelihoodLoss": Op(by_body, by_opset=True, kind="elementwise"),
    "SoftmaxCrossEntropyLoss": Op(by_body, by_opset=True, kind="elementwise"),
}
