"""THE operator table: one entry an operator.

An entry says how the operator is computed (`lower`), how unit ids flow through it when channels are coupled (`flow`),
which inputs hold trainable weights (`weights`) and what kernel a device runs for it (`kind`). An operator that is not
in the table freezes its neighbours and is explained; it never fails a job on its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwprofiles.workload import Kind
from search.graph import flow, lower, lower_conv, lower_pool
from search.graph.ir import Node
from search.graph.lower import Inputs, Lower, Value, unary


@dataclasses.dataclass(frozen=True)
class Op:
    """What the engine knows of one operator."""

    lower: Lower | Callable[[int], Lower]
    """The computation; with ``by_opset`` a function that gives it for a version."""
    flow: flow.Flow = flow.freeze
    weights: tuple[int, ...] = ()
    kind: Kind | None = None
    """Kind of the kernel that a device runs; None when the operator costs nothing at run time."""
    fusible: bool = False
    """Runs inside the kernel that produces its first input (activations, norms, a residual addition)."""
    by_opset: bool = False

    def lowering(self, opset: int) -> Lower:
        """The computation for a version of the operator set."""
        return self.lower(opset) if self.by_opset else self.lower  # type: ignore[return-value, call-arg, arg-type]


def _pointwise(function: Callable[[Any, Value], Value]) -> Op:
    return Op(unary(function), flow.same, kind="elementwise", fusible=True)


def _binary(name: str, *, fusible: bool = False) -> Op:
    return Op(lower.binary(name), flow.elementwise, weights=(0, 1), kind="elementwise", fusible=fusible)


def _movement(function: Lower) -> Op:
    return Op(function, flow.move, kind="data_movement")


def _view(function: Lower) -> Op:
    """A movement that costs nothing at run time."""
    return Op(function, flow.move)


def _reduction(name: str) -> Op:
    return Op(lower.reduce(name), flow.reduce, kind="global_pool")


def _comparison(name: str) -> Op:
    return Op(lower.binary(name), flow.elementwise, kind="elementwise")


def _conv(node: Node, inputs: Inputs) -> Value:
    return lower_conv.conv(node, *[jnp.asarray(v) for v in inputs if v is not None])


def _conv_transpose(node: Node, inputs: Inputs) -> Value:
    return lower_conv.conv_transpose(node, *[jnp.asarray(v) for v in inputs if v is not None])


OPS: dict[str, Op] = {
    # weights
    "Conv": Op(_conv, flow.conv, weights=(1, 2), kind="conv"),
    "ConvTranspose": Op(_conv_transpose, flow.conv_transpose, weights=(1, 2), kind="conv"),
    "Gemm": Op(lower.gemm, flow.gemm, weights=(1, 2), kind="dense"),
    "MatMul": Op(lower.matmul, flow.matmul, weights=(0, 1), kind="dense"),
    "BatchNormalization": Op(lower.batch_norm, flow.batch_norm, weights=(1, 2, 3, 4), kind="norm", fusible=True),
    "LayerNormalization": Op(lower.layer_norm, flow.freeze, weights=(1, 2), kind="norm"),
    "PRelu": Op(lower.prelu, flow.elementwise, weights=(1,), kind="elementwise", fusible=True),
    # arithmetic of two
    "Add": _binary("add", fusible=True),
    "Sub": _binary("subtract"),
    "Mul": _binary("multiply"),
    "Div": Op(lower.divide, flow.elementwise, weights=(0, 1), kind="elementwise"),
    "Pow": _binary("power"),
    "Max": Op(lower.variadic("maximum"), flow.elementwise, kind="elementwise"),
    "Min": Op(lower.variadic("minimum"), flow.elementwise, kind="elementwise"),
    "Sum": Op(lower.variadic("add"), flow.elementwise, kind="elementwise"),
    "Equal": _comparison("equal"),
    "Greater": _comparison("greater"),
    "Less": _comparison("less"),
    "GreaterOrEqual": _comparison("greater_equal"),
    "LessOrEqual": _comparison("less_equal"),
    "And": _comparison("logical_and"),
    "Or": _comparison("logical_or"),
    "Where": Op(lower.where, flow.elementwise, kind="elementwise"),
    # functions of one element
    "Relu": _pointwise(lambda xp, x: xp.maximum(x, np.array(0, x.dtype))),
    "LeakyRelu": Op(
        lambda node, v: lower.namespace(v[0]).where(
            v[0] < 0, v[0] * np.asarray(node.get("alpha", 0.01), v[0].dtype), v[0]
        ),
        flow.same,
        kind="elementwise",
        fusible=True,
    ),
    "Elu": Op(
        lambda node, v: jax.nn.elu(jnp.asarray(v[0]), node.get("alpha", 1.0)),
        flow.same,
        kind="elementwise",
        fusible=True,
    ),
    "Selu": _pointwise(lambda _, x: jax.nn.selu(jnp.asarray(x))),
    "Sigmoid": _pointwise(lower.sigmoid),
    "Tanh": _pointwise(lambda xp, x: xp.tanh(x)),
    "Softplus": _pointwise(lambda _, x: jax.nn.softplus(jnp.asarray(x))),
    "Gelu": Op(
        lambda node, v: jax.nn.gelu(jnp.asarray(v[0]), approximate=node.get("approximate", "none") == "tanh"),
        flow.same,
        kind="elementwise",
        fusible=True,
    ),
    "HardSwish": _pointwise(lambda xp, x: x * xp.clip(x / np.asarray(6, x.dtype) + np.asarray(0.5, x.dtype), 0, 1)),
    "HardSigmoid": Op(
        lambda node, v: lower.namespace(v[0]).clip(
            v[0] * np.asarray(node.get("alpha", 0.2), v[0].dtype) + np.asarray(node.get("beta", 0.5), v[0].dtype), 0, 1
        ),
        flow.same,
        kind="elementwise",
        fusible=True,
    ),
    "Clip": Op(lower.clip, flow.same, kind="elementwise", fusible=True),
    "Exp": _pointwise(lambda xp, x: xp.exp(x)),
    "Log": _pointwise(lambda xp, x: xp.log(x)),
    "Sqrt": _pointwise(lambda xp, x: xp.sqrt(x)),
    "Abs": _pointwise(lambda xp, x: xp.abs(x)),
    "Neg": _pointwise(lambda _, x: -x),
    "Reciprocal": _pointwise(lambda _, x: 1 / x),
    "Floor": _pointwise(lambda xp, x: xp.floor(x)),
    "Ceil": _pointwise(lambda xp, x: xp.ceil(x)),
    "Round": _pointwise(lambda xp, x: xp.round(x)),
    "Erf": _pointwise(lambda _, x: jax.scipy.special.erf(jnp.asarray(x))),
    "Not": _pointwise(lambda xp, x: xp.logical_not(x)),
    "Cast": Op(lower.cast, flow.same),
    "Identity": Op(lambda _, v: v[0], flow.same),
    "Dropout": Op(lambda _, v: v[0], flow.same),
    # reductions and pools
    "MaxPool": Op(lambda node, v: lower_pool.max_pool(node, jnp.asarray(v[0])), flow.spatial, kind="pool"),
    "AveragePool": Op(lambda node, v: lower_pool.average_pool(node, jnp.asarray(v[0])), flow.spatial, kind="pool"),
    "GlobalAveragePool": Op(lambda _, v: lower_pool.global_pool(v[0], "mean"), flow.spatial, kind="global_pool"),
    "GlobalMaxPool": Op(lambda _, v: lower_pool.global_pool(v[0], "max"), flow.spatial, kind="global_pool"),
    "ReduceMean": _reduction("mean"),
    "ReduceSum": _reduction("sum"),
    "ReduceMax": _reduction("max"),
    "ReduceMin": _reduction("min"),
    "ReduceProd": _reduction("prod"),
    "ArgMax": Op(lower.argmax, flow.freeze, kind="global_pool"),
    "Softmax": Op(lower.softmax(log=False), flow.freeze, kind="softmax", by_opset=True),
    "LogSoftmax": Op(lower.softmax(log=True), flow.freeze, kind="softmax", by_opset=True),
    # movement: unit ids travel through the very same code
    "Reshape": _view(lower.reshape),
    "Flatten": _view(lower.flatten),
    "Squeeze": _view(lower.squeeze),
    "Unsqueeze": _view(lower.unsqueeze),
    "Transpose": _movement(lower.transpose),
    "Concat": _movement(lower.concat),
    "Split": _movement(lower.split),
    "Slice": _movement(lower.slice_),
    "Pad": _movement(lower.pad),
    "Gather": _movement(lower.gather),
    "Expand": _movement(lower.expand),
    "Resize": Op(
        lambda opset: lambda node, v: lower.resize_nearest(node, v, opset),
        flow.spatial,
        kind="data_movement",
        by_opset=True,
    ),
    "Upsample": Op(
        lambda opset: lambda node, v: lower.resize_nearest(node, v, opset),
        flow.spatial,
        kind="data_movement",
        by_opset=True,
    ),
    # static values
    "Shape": Op(lower.shape, flow.forget),
    "Size": Op(lambda _, v: np.array(np.prod(v[0].shape), np.int64), flow.forget),
    "ConstantOfShape": Op(lower.constant_of_shape, flow.forget),
    "Range": Op(lower.range_, flow.forget),
}
