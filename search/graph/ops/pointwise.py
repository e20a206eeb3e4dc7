"""Functions of one element."""

from __future__ import annotations

import numpy as np

from search.graph import flow
from search.graph.lazy_jax import jax, jnp
from search.graph.ops import lower_math
from search.graph.ops.op import Op, activation, by_element, pointwise

_FREE = {"kind": None, "fused": None}
"""Of what costs nothing at run time."""

OPS: dict[str, Op] = {
    "Relu": pointwise(lower_math.relu, in_cluster=True, told=True),
    "LeakyRelu": activation(lambda xp, x, alpha: xp.where(x < 0, x * alpha, x), alpha=0.01),
    "ThresholdedRelu": activation(lambda xp, x, alpha: xp.where(x > alpha, x, xp.zeros_like(x)), alpha=1.0),
    "Elu": activation(lambda _, x, alpha: jax.nn.elu(jnp.asarray(x), alpha), alpha=1.0),
    "Celu": activation(lambda _, x, alpha: jax.nn.celu(jnp.asarray(x), alpha), alpha=1.0),
    "Selu": activation(
        lambda _, x, alpha, gamma: gamma * jax.nn.elu(jnp.asarray(x), alpha),
        alpha=1.67326319217681884765625,
        gamma=1.05070102214813232421875,
    ),
    "Sigmoid": pointwise(lower_math.sigmoid, in_cluster=True, told=True),
    "Swish": activation(lambda xp, x, alpha: x * lower_math.sigmoid(xp, alpha * x), alpha=1.0),
    "HardSwish": pointwise(
        lambda xp, x: x * xp.clip(x / np.asarray(6, x.dtype) + np.asarray(0.5, x.dtype), 0, 1), in_cluster=True, told=True
    ),
    "HardSigmoid": activation(
        lambda xp, x, alpha, beta: xp.clip(x * alpha + beta, np.asarray(0, x.dtype), np.asarray(1, x.dtype)),
        alpha=0.2,
        beta=0.5,
        told=True,
    ),
    "Shrink": activation(
        lambda xp, x, lambd, bias: xp.where(x < -lambd, x + bias, xp.where(x > lambd, x - bias, xp.zeros_like(x))),
        lambd=0.5,
        bias=0.0,
    ),
    "Mish": pointwise(lambda _, x: jax.nn.mish(jnp.asarray(x))),
    "Softplus": pointwise(lambda _, x: jax.nn.softplus(jnp.asarray(x))),
    "Softsign": pointwise(lambda xp, x: x / (1 + xp.abs(x))),
    "Gelu": by_element(
        lambda node, v: jax.nn.gelu(jnp.asarray(v[0]), approximate=node.get("approximate", "none") == "tanh")
    ),
    "Clip": by_element(lower_math.clip, in_cluster=True, told=True),
    **{
        op: pointwise(lambda xp, x, name=name: getattr(xp, name)(x))  # type: ignore[misc]
        for op, name in {
            "Tanh": "tanh", "Exp": "exp", "Log": "log", "Sqrt": "sqrt", "Abs": "abs", "Floor": "floor", "Ceil": "ceil",
            "Round": "round", "Sign": "sign", "Not": "logical_not", "BitwiseNot": "bitwise_not", "IsNaN": "isnan",
            "Sin": "sin", "Cos": "cos", "Tan": "tan", "Asin": "arcsin", "Acos": "arccos", "Atan": "arctan",
            "Sinh": "sinh", "Cosh": "cosh", "Asinh": "arcsinh", "Acosh": "arccosh", "Atanh": "arctanh",
        }.items()
    },
    "IsInf": by_element(lower_math.is_inf),
    "Neg": pointwise(lambda _, x: -x),
    "Reciprocal": pointwise(lambda _, x: 1 / x),
    "Erf": pointwise(lambda _, x: jax.scipy.special.erf(jnp.asarray(x))),
    "Cast": by_element(lower_math.cast, scores="passes", moves="first", **_FREE),
    "CastLike": by_element(lower_math.cast_like, **_FREE),
    "BitCast": Op(lower_math.bitcast, flow.freeze, reads_bits=True),
    "Identity": by_element(lambda _, v: v[0], scores="passes", moves="first", **_FREE),
    "Dropout": by_element(lower_math.dropout, moves="first", static=(1, 2), **_FREE),
}  # fmt: skip
