"""Functions of several operands, element by element."""

from __future__ import annotations

from search.graph.ops import lower_math
from search.graph.ops.op import Op, arithmetic, by_elements, comparison, folded

OPS: dict[str, Op] = {
    "Add": arithmetic("add", scores="passes", fused="addition", in_cluster=True, told=True),
    "Sub": arithmetic("subtract", scores="passes", told=True),
    "Mul": arithmetic("multiply", scores="passes", fused="scale", in_cluster=True, told=True),
    "Div": by_elements(lower_math.divide, scores="passes", weights=(0, 1), fused="scale", told=True),
    "Pow": by_elements(lower_math.power),
    "Mod": by_elements(lower_math.modulo, wraps=True),
    "BitShift": by_elements(lower_math.bit_shift, wraps=True),
    "BitwiseAnd": comparison("bitwise_and", wraps=True),
    "BitwiseOr": comparison("bitwise_or", wraps=True),
    "BitwiseXor": comparison("bitwise_xor", wraps=True),
    "Max": folded("maximum"),
    "Min": folded("minimum"),
    "Sum": folded("add"),
    "Mean": by_elements(lower_math.mean),
    "Equal": comparison("equal"),
    "Greater": comparison("greater"),
    "Less": comparison("less"),
    "GreaterOrEqual": comparison("greater_equal"),
    "LessOrEqual": comparison("less_equal"),
    "And": comparison("logical_and"),
    "Or": comparison("logical_or"),
    "Xor": comparison("logical_xor"),
    "Where": by_elements(lower_math.where),
    "PRelu": by_elements(lower_math.prelu, weights=(1,), fused="activation"),
}
