"""Integers that stand for floats. What is computed in integers is not cut."""

from __future__ import annotations

import functools

from search.graph.ops import elements, lower_linear, lower_quant
from search.graph.ops.body import by_body
from search.graph.ops.conv import price_conv
from search.graph.ops.dense import price_product
from search.graph.ops.lower import Lower
from search.graph.ops.op import Op


def _product(lower: Lower) -> Op:
    return Op(lower, quantised=True, kind="dense", price=price_product)


def _conv(lower: Lower, weight: int) -> Op:
    """``weight`` is the input that holds the kernels."""
    price = functools.partial(price_conv, weight=weight)
    return Op(lower, quantised=True, elements=elements.no_more, channel_axis=1, kind="conv", price=price)


OPS: dict[str, Op] = {
    "MatMulInteger": _product(lower_linear.matmul_integer),
    "QLinearMatMul": _product(lower_linear.qlinear_matmul),
    "ConvInteger": _conv(lower_quant.conv_integer, 1),
    "QLinearConv": _conv(lower_quant.qlinear_conv, 3),
    "QuantizeLinear": Op(lower_quant.quantize, quantised=True, kind="elementwise"),
    "DequantizeLinear": Op(lower_quant.dequantize, quantised=True, kind="elementwise"),
    "DynamicQuantizeLinear": Op(by_body, by_opset=True, kind="elementwise"),
}
