"""Convolutions: x (N, C, *spatial) with a weight of (M, C / groups, *kernel), and transposed ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from hwprofiles.workload import Workload
from search.graph import flow
from search.graph.flow import Coupling, Ids
from search.graph.ir import Array, Graph, Node
from search.graph.lazy_jax import jnp
from search.graph.ops import lower_conv, pointwise
from search.graph.ops.cut import Cut, with_attributes
from search.graph.ops.elements import Shape
from search.graph.ops.linear_map import Linear
from search.graph.ops.lower import Inputs, Value, optional
from search.graph.ops.lower_conv import pads_of
from search.graph.ops.op import Op
from search.graph.ops.price import Shapes, height_width, window


def _lower(node: Node, inputs: Inputs) -> Value:
    return lower_conv.conv(node, *[jnp.asarray(v) for v in inputs if v is not None])


def _lower_transposed(node: Node, inputs: Inputs) -> Value:
    return lower_conv.conv_transpose(node, *[jnp.asarray(v) for v in inputs if v is not None])


def _lower_fused(node: Node, inputs: Inputs) -> Value:
    """Input 3 is added to the convolution, then comes an activation."""
    x, weight, bias, added = (optional(inputs, position) for position in range(4))
    y = _lower(node, [x, weight, bias])
    y = y if added is None else y + added
    name = node.get("activation", "")
    if not name:
        return y
    attributes = dict(zip(_PARAMETERS.get(name, ()), node.get("activation_params", ()), strict=False))
    return pointwise.OPS[name].lowering(0)(dataclasses.replace(node, op=name, attributes=attributes), [y])


def flow_conv(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
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


def _flow_transposed(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """As `flow_conv`; the weight is (c_in, c_out / groups, ...)."""
    weight, bias, out = node.inputs[1], node.input(2), node.outputs[0]
    if inputs[0] is None or weight not in at.initializers or int(node.get("group", 1)) != 1:
        return flow.freeze(node, inputs, at)
    at.slot(node, weight, 0, at.channels(node, inputs[0], 1), "consumes")
    fresh = at.fresh(node, at.initializers[weight].shape[1])
    at.slot(node, weight, 1, fresh, "produces")
    at.slot(node, bias, 0, fresh, "produces")
    return [at.along(fresh, 1, out)]


def _flow_fused(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """As `flow_conv`, whose units meet those of what is added."""
    made = flow_conv(node, inputs, at)
    if not node.input(3):
        return made
    return flow.elementwise(dataclasses.replace(node, inputs=("", node.inputs[3])), [*made, inputs[3]], at)


def cut_conv(node: Node, at: Cut) -> Node:
    """As many groups as the input's channels fill."""
    if int(node.get("group", 1)) == 1:
        return node
    return with_attributes(node, group=at.shape(node.inputs[0])[1] // at.initializers[node.inputs[1]].shape[1])


def elements_of_conv(node: Node, _inputs: Sequence[Any], shapes: Sequence[Shape]) -> int:
    """Padding makes a map larger, strides are left out."""
    x, weight = shapes[0], shapes[1]
    pads = [abs(int(p)) for p in node.get("pads", [0] * 2 * (len(x) - 2))]
    rank = len(x) - 2
    return x[0] * weight[0] * math.prod(size + pads[i] + pads[i + rank] for i, size in enumerate(x[2:]))


def _elements_of_transposed(node: Node, _inputs: Sequence[Any], shapes: Sequence[Shape]) -> int:
    x, weight = shapes[0], shapes[1]
    strides = [int(s) for s in node.get("strides", [1] * (len(x) - 2))]
    dilations = [int(s) for s in node.get("dilations", [1] * (len(x) - 2))]
    spatial = zip(x[2:], strides, weight[2:], dilations, strict=True)
    named = math.prod(int(size) for size in node.get("output_shape", [1]))
    channels = weight[1] * int(node.get("group", 1))
    return (
        x[0] * channels * max(named, math.prod(size * stride + k * dilation for size, stride, k, dilation in spatial))
    )


def price_conv(node: Node, base: Workload, active: Sequence[str], shapes: Shapes, weight: int = 1) -> Workload:
    """The kernel of a convolution whose weight is the input at ``weight``."""
    out = shapes[next(name for name in node.outputs if name)]
    return _priced(node, base, shapes[active[0]], out, shapes[node.inputs[weight]])


def _price_fused(node: Node, base: Workload, active: Sequence[str], shapes: Shapes) -> Workload:
    fused = (*(["Add"] if node.input(3) else []), *filter(None, [node.get("activation", "")]))
    return dataclasses.replace(price_conv(node, base, active, shapes), fused=fused)


def _price_transposed(node: Node, base: Workload, active: Sequence[str], shapes: Shapes) -> Workload:
    """A transposed convolution multiplies once per input position."""
    first, out = shapes[active[0]], shapes[node.outputs[0]]
    return _priced(node, base, first, (*out[:2], *first[2:]), shapes[node.inputs[1]])


def _priced(
    node: Node, base: Workload, first: tuple[int, ...], out: tuple[int, ...], weight: tuple[int, ...]
) -> Workload:
    axes = len(weight) - 2
    return dataclasses.replace(
        base,
        c_in=first[1],
        c_out=out[1],
        in_hw=height_width(first),
        out_hw=height_width(out),
        kernel=window(weight[2:]),
        stride=window(node.get("strides", [1] * axes)),
        dilation=window(node.get("dilations", [1] * axes)),
        groups=int(node.get("group", 1)),
        spatial_axes=axes,
    )


class Convolution(Linear):
    """A convolution: rows are what its windows see."""

    spatial: ClassVar[bool] = True

    def matrix(self, params: Mapping[str, Array]) -> Array:
        """Weights as (groups, d, m)."""
        kernel = self._turned(params[self.weight])
        return np.swapaxes(kernel.reshape(self.groups, kernel.shape[0] // self.groups, -1), 1, 2)

    def write(self, matrix: Array, offset: Array, params: dict[str, Array]) -> None:
        """Store weights (groups, d, m) and biases (groups, m) in the operator's own layout."""
        shape = self._turned(params[self.weight]).shape
        self.store(self._turned(np.swapaxes(matrix, 1, 2).reshape(shape)), offset, params)

    def input_rows(self, x: Array, params: Mapping[str, Array], positions: Array, out_size: tuple[int, ...]) -> Array:
        """Inputs of the map at some output positions: (groups, R, d), R = samples * positions."""
        kernel = params[self.weight].shape[2:]
        padded, strides = self._padded(x, kernel)
        dilations = self.node.get("dilations", [1] * len(kernel))
        places, taps = np.unravel_index(positions, out_size), np.unravel_index(np.arange(np.prod(kernel)), kernel)
        index = [
            (place * stride)[:, None] + (tap * dilation)[None, :]
            for place, stride, tap, dilation in zip(places, strides, taps, dilations, strict=True)
        ]
        windows = padded[(slice(None), slice(None), *index)]  # (N, C, P, taps)
        rows = windows.transpose(0, 2, 1, 3).reshape(len(x) * len(positions), self.groups, -1)
        return np.ascontiguousarray(rows.transpose(1, 0, 2))

    def _turned(self, weight: Array) -> Array:
        """A weight as the (M, C, *kernel) of a plain convolution, or back."""
        return weight

    def _padded(self, x: Array, kernel: tuple[int, ...]) -> tuple[Array, list[int]]:
        """The input (N, C, *spatial) as the windows see it, and the steps from window to window."""
        strides = [int(stride) for stride in self.node.get("strides", [1] * len(kernel))]
        return np.pad(x, [(0, 0), (0, 0), *pads_of(self.node, x.shape[2:], kernel)]), strides


class Transposed(Convolution):
    """A transposed convolution: one of its input with zeros between the elements, by the kernel turned round."""

    def _turned(self, weight: Array) -> Array:
        return np.flip(np.swapaxes(weight, 0, 1), tuple(range(2, weight.ndim)))

    def _padded(self, x: Array, kernel: tuple[int, ...]) -> tuple[Array, list[int]]:
        node, axes = self.node, len(kernel)
        strides = [int(stride) for stride in node.get("strides", [1] * axes)]
        spread = np.zeros(
            (*x.shape[:2], *((n - 1) * s + 1 for n, s in zip(x.shape[2:], strides, strict=True))), x.dtype
        )
        spread[(slice(None), slice(None), *(slice(None, None, stride) for stride in strides))] = x
        reach = [(k - 1) * d for k, d in zip(kernel, node.get("dilations", [1] * axes), strict=True)]
        cut, extra = pads_of(node, x.shape[2:], kernel), node.get("output_padding", [0] * axes)
        wide = [(r, r + e) for r, e in zip(reach, extra, strict=True)]
        spread = np.pad(spread, [(0, 0), (0, 0), *wide])
        inner = [slice(a, spread.shape[2 + i] - b) for i, (a, b) in enumerate(cut)]
        return spread[(slice(None), slice(None), *inner)], [1] * axes


def _linear(node: Node, _graph: Graph) -> Linear:
    return Convolution(node, node.inputs[1], node.input(2), int(node.get("group", 1)), node.outputs[0])


def _linear_transposed(node: Node, _graph: Graph) -> Linear | None:
    """Where what is left off is written in the node, not found from the sizes in use."""
    stated = node.get("output_shape") is None and node.get("auto_pad", "NOTSET") in ("NOTSET", "", "VALID")
    plain = stated and int(node.get("group", 1)) == 1
    return Transposed(node, node.inputs[1], node.input(2), 1, node.outputs[0]) if plain else None


def _linear_fused(node: Node, graph: Graph) -> Linear | None:
    """Where nothing comes behind the map."""
    return None if node.input(3) or node.get("activation", "") else _linear(node, graph)


_PARAMETERS = {"Clip": ("min", "max"), "HardSigmoid": ("alpha", "beta"), "LeakyRelu": ("alpha",)}
"""Attributes of activations in the order of ``activation_params``, see ONNX Runtime's ``fused_activation.cc``."""


OPS: dict[str, Op] = {
    "Conv": Op(
        _lower,
        flow_conv,
        fits=lambda node, given, _: given[0][1] == given[1][1] * int(node.get("group", 1)),
        told=True,
        weights=(1, 2),
        apart="samples",
        elements=elements_of_conv,
        scores="makes",
        cut=cut_conv,
        linear=_linear,
        output_axis=lambda _: 0,
        channel_axis=1,
        kind="conv",
        price=price_conv,
        product=True,
    ),
    "ConvTranspose": Op(
        _lower_transposed,
        _flow_transposed,
        weights=(1, 2),
        apart="samples",
        elements=_elements_of_transposed,
        linear=_linear_transposed,
        output_axis=lambda node: 1 if int(node.get("group", 1)) == 1 else None,
        channel_axis=1,
        kind="conv",
        price=_price_transposed,
        product=True,
    ),
    "com.microsoft::FusedConv": Op(
        _lower_fused,
        _flow_fused,
        weights=(1, 2),
        apart="samples",
        elements=elements_of_conv,
        cut=cut_conv,
        sized_as="Conv",
        linear=_linear_fused,
        channel_axis=1,
        kind="conv",
        price=_price_fused,
        product=True,
    ),
}
