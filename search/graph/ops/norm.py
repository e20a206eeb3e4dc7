"""Normalisations, and what normalises over an axis: softmax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from search.graph import flow
from search.graph.flow import Coupling, Ids
from search.graph.ir import Array, Graph, Node
from search.graph.ops import elements, lower_norm
from search.graph.ops.body import by_body
from search.graph.ops.linear_map import Linear
from search.graph.ops.op import Op


def _by_channel(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """Every channel (axis 1) by itself, with vectors of one number a channel."""
    if inputs[0] is None or any(weight not in at.initializers for weight in node.inputs[1:]):
        return flow.freeze(node, inputs, at)
    ids = at.channels(node, inputs[0], 1)
    for weight in node.inputs[1:]:
        at.slot(node, weight, 0, ids, "scales")
    return [at.along(ids, 1, value) for value in node.outputs if value]


def _over_axis(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """Passes units (attention heads) that are the same along the axis, and along those behind it (older opsets)."""
    ids = inputs[0]
    if ids is None or any(flow.varies(ids, axis) for axis in range(int(node.get("axis", 1)) % ids.ndim, ids.ndim)):
        return flow.freeze(node, inputs, at)
    return [ids]


class Gain(Linear):
    """A batch norm: one gain and one offset a channel, of its input as it is."""

    spatial: ClassVar[bool] = True

    def matrix(self, params: Mapping[str, Array]) -> Array:
        """Weights as (groups, 1, 1)."""
        return (params[self.weight] / self._deviation(params)).reshape(-1, 1, 1)

    def write(self, matrix: Array, offset: Array, params: dict[str, Array]) -> None:
        """Store gains and offsets: gain x + offset = scale (x - mean) / deviation + bias."""
        mean = params[self.node.inputs[3]]
        params[self.weight] = (matrix.reshape(-1) * self._deviation(params)).astype(np.float32)
        params[self.bias] = (offset.reshape(-1) + mean * matrix.reshape(-1)).astype(np.float32)

    def input_rows(
        self,
        x: Array,
        params: Mapping[str, Array],  # noqa: ARG002
        positions: Array,
        out_size: tuple[int, ...],  # noqa: ARG002
    ) -> Array:
        """Inputs of the map at some output positions: (groups, R, 1), R = samples * positions."""
        return self.output_rows(x, positions)

    def _deviation(self, params: Mapping[str, Array]) -> Array:
        return np.asarray(np.sqrt(params[self.node.inputs[4]].astype(np.float64) + self.node.get("epsilon", 1e-5)))


def _linear(node: Node, graph: Graph) -> Linear | None:
    if any(name not in graph.initializers for name in node.inputs[1:5]):
        return None
    weight = node.inputs[1]
    return Gain(node, weight, node.input(2), len(graph.initializers[weight]), node.outputs[0])


OPS: dict[str, Op] = {
    "BatchNormalization": Op(
        lower_norm.batch_norm,
        _by_channel,
        weights=(1, 2, 3, 4),
        apart="samples",
        fits=lambda _, given, __: all(shape == given[0][1:2] for shape in given[1:]),
        told=lambda node: not node.get("training_mode", 0),
        elements=elements.no_more,
        linear=_linear,
        channel_axis=1,
        kind="norm",
        fused="norm",
    ),
    "InstanceNormalization": Op(
        lower_norm.instance_norm,
        _by_channel,
        weights=(1, 2),
        apart="samples",
        elements=elements.no_more,
        channel_axis=1,
        kind="norm",
    ),
    "LayerNormalization": Op(lower_norm.layer_norm, weights=(1, 2), elements=elements.no_more, kind="norm"),
    "GroupNormalization": Op(lower_norm.group_norm, weights=(1, 2), elements=elements.no_more, kind="norm"),
    "RMSNormalization": Op(by_body, weights=(1,), by_opset=True, elements=elements.no_more, kind="norm"),
    "MeanVarianceNormalization": Op(by_body, by_opset=True, kind="norm"),
    "LpNormalization": Op(lower_norm.lp_norm, kind="norm"),
    "LRN": Op(lower_norm.local_response_norm, kind="norm"),
    "Softmax": Op(lower_norm.softmax(log=False), _over_axis, by_opset=True, scores="makes", kind="softmax", told=True),
    "LogSoftmax": Op(lower_norm.softmax(log=True), _over_axis, by_opset=True, scores="makes", kind="softmax"),
    "Hardmax": Op(lower_norm.hardmax, by_opset=True, kind="softmax"),
}
