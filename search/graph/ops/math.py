"""The operator table: arithmetic, functions of one element, reductions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from search.graph import flow
from search.graph.ops import lower_math, lower_reduce
from search.graph.ops.body import by_body
from search.graph.ops.op import Op, activation, arithmetic, comparison, elementwise, folded, pointwise


def _reduction(function: lower_reduce.Reduce) -> Op:
    return Op(lower_reduce.reduce(function), flow.reduce, static=(1,), kind="global_pool")


ARITHMETIC: dict[str, Op] = {
    "Add": arithmetic("add", fusible=True),
    "Sub": arithmetic("subtract"),
    "Mul": arithmetic("multiply"),
    "Div": Op(lower_math.divide, flow.elementwise, weights=(0, 1), kind="elementwise"),
    "Pow": elementwise(lower_math.power),
    "Mod": elementwise(lower_math.modulo),
    "BitShift": elementwise(lower_math.bit_shift),
    "BitwiseAnd": comparison("bitwise_and"),
    "BitwiseOr": comparison("bitwise_or"),
    "BitwiseXor": comparison("bitwise_xor"),
    "Max": folded("maximum"),
    "Min": folded("minimum"),
    "Sum": folded("add"),
    "Mean": elementwise(lower_math.mean),
    "Equal": comparison("equal"),
    "Greater": comparison("greater"),
    "Less": comparison("less"),
    "GreaterOrEqual": comparison("greater_equal"),
    "LessOrEqual": comparison("less_equal"),
    "And": comparison("logical_and"),
    "Or": comparison("logical_or"),
    "Xor": comparison("logical_xor"),
    "Where": elementwise(lower_math.where),
    "PRelu": Op(lower_math.prelu, flow.elementwise, weights=(1,), kind="elementwise", fusible=True),
}

POINTWISE: dict[str, Op] = {
    "Relu": pointwise(lower_math.relu),
    "LeakyRelu": activation(lambda xp, x, alpha: xp.where(x < 0, x * alpha, x), alpha=0.01),
    "ThresholdedRelu": activation(lambda xp, x, alpha: xp.where(x > alpha, x, xp.zeros_like(x)), alpha=1.0),
    "Elu": activation(lambda _, x, alpha: jax.nn.elu(jnp.asarray(x), alpha), alpha=1.0),
    "Celu": activation(lambda _, x, alpha: jax.nn.celu(jnp.asarray(x), alpha), alpha=1.0),
    "Selu": activation(
        lambda _, x, alpha, gamma: gamma * jax.nn.elu(jnp.asarray(x), alpha),
        alpha=1.67326319217681884765625,
        gamma=1.05070102214813232421875,
    ),
    "Sigmoid": pointwise(lower_math.sigmoid),
    "Swish": activation(lambda xp, x, alpha: x * lower_math.sigmoid(xp, alpha * x), alpha=1.0),
    "HardSwish": pointwise(lambda xp, x: x * xp.clip(x / np.asarray(6, x.dtype) + np.asarray(0.5, x.dtype), 0, 1)),
    "HardSigmoid": activation(
        lambda xp, x, alpha, beta: xp.clip(x * alpha + beta, np.asarray(0, x.dtype), np.asarray(1, x.dtype)),
        alpha=0.2,
        beta=0.5,
    ),
    "Shrink": activation(
        lambda xp, x, lambd, bias: xp.where(x < -lambd, x + bias, xp.where(x > lambd, x - bias, xp.zeros_like(x))),
        lambd=0.5,
        bias=0.0,
    ),
    "Mish": pointwise(lambda _, x: jax.nn.mish(jnp.asarray(x))),
    "Softplus": pointwise(lambda _, x: jax.nn.softplus(jnp.asarray(x))),
    "Softsign": pointwise(lambda xp, x: x / (1 + xp.abs(x))),
    "Gelu": Op(
        lambda node, v: jax.nn.gelu(jnp.asarray(v[0]), approximate=node.get("approximate", "none") == "tanh"),
        flow.same,
        kind="elementwise",
        fusible=True,
    ),
    "Clip": Op(lower_math.clip, flow.same, kind="elementwise", fusible=True),
    **{
        op: pointwise(lambda xp, x, name=name: getattr(xp, name)(x))  # type: ignore[misc]
        for op, name in {
            "Tanh": "tanh", "Exp": "exp", "Log": "log", "Sqrt": "sqrt", "Abs": "abs", "Floor": "floor", "Ceil": "ceil",
            "Round": "round", "Sign": "sign", "Not": "logical_not", "BitwiseNot": "bitwise_not", "IsNaN": "isnan",
            "Sin": "sin", "Cos": "cos", "Tan": "tan", "Asin": "arcsin", "Acos": "arccos", "Atan": "arctan",
            "Sinh": "sinh", "Cosh": "cosh", "Asinh": "arcsinh", "Acosh": "arccosh", "Atanh": "arctanh",
        }.items()
    },
    "IsInf": Op(lower_math.is_inf, flow.same, kind="elementwise", fusible=True),
    "Neg": pointwise(lambda _, x: -x),
    "Reciprocal": pointwise(lambda _, x: 1 / x),
    "Erf": pointwise(lambda _, x: jax.scipy.special.erf(jnp.asarray(x))),
    "Cast": Op(lower_math.cast, flow.same),
    "CastLike": Op(lower_math.cast_like, flow.same),
    "BitCast": Op(lower_math.bitcast, flow.freeze),
    "Identity": Op(lambda _, v: v[0], flow.same),
    "Dropout": Op(lower_math.dropout, flow.same, static=(1, 2)),
}  # fmt: skip

REDUCTIONS: dict[str, Op] = {
    "ReduceMean": _reduction(lower_reduce.MEAN),
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
    "TopK": Op(lower_reduce.top_k, static=(1,), kind="global_pool"),
    **{
        name: Op(by_body, kind="elementwise", by_opset=True)
        for name in ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
    },
}
