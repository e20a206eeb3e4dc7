"""The operator table: what holds weights, normalises, pools, attends or recurs."""

from __future__ import annotations

import jax.numpy as jnp

from search.graph import flow
from search.graph.ir import Node
from search.graph.ops import flow_linear, lower_conv, lower_linear, lower_norm, lower_pool, lower_quant, lower_rnn
from search.graph.ops.body import by_body
from search.graph.ops.lower import Inputs, Value
from search.graph.ops.op import Op


def _conv(node: Node, inputs: Inputs) -> Value:
    return lower_conv.conv(node, *[jnp.asarray(v) for v in inputs if v is not None])


def _conv_transpose(node: Node, inputs: Inputs) -> Value:
    return lower_conv.conv_transpose(node, *[jnp.asarray(v) for v in inputs if v is not None])


def _max_pool(node: Node, inputs: Inputs) -> Value:
    x = jnp.asarray(inputs[0])
    indexed = len(node.outputs) > 1 and node.outputs[1]
    return lower_pool.max_pool_with_indices(node, x) if indexed else lower_pool.max_pool(node, x)


WEIGHTED: dict[str, Op] = {
    "Conv": Op(_conv, flow_linear.conv, weights=(1, 2), kind="conv"),
    "ConvTranspose": Op(_conv_transpose, flow_linear.conv_transpose, weights=(1, 2), kind="conv"),
    "Gemm": Op(lower_linear.gemm, flow_linear.gemm, weights=(1, 2), kind="dense"),
    "MatMul": Op(lower_linear.matmul, flow_linear.matmul, weights=(0, 1), kind="dense"),
    "Einsum": Op(lower_linear.einsum, kind="dense"),
    "Det": Op(lower_linear.determinant, kind="elementwise"),
    "RNN": Op(lower_rnn.recurrent, flow_linear.recurrent, weights=(1, 2, 3), kind="dense"),
    "GRU": Op(lower_rnn.recurrent, flow_linear.recurrent, weights=(1, 2, 3), kind="dense"),
    "LSTM": Op(lower_rnn.recurrent, flow_linear.recurrent, weights=(1, 2, 3, 7), kind="dense"),
    "MatMulInteger": Op(lower_linear.matmul_integer, kind="dense"),
    "QLinearMatMul": Op(lower_linear.qlinear_matmul, kind="dense"),
    "ConvInteger": Op(lower_quant.conv_integer, kind="conv"),
    "QLinearConv": Op(lower_quant.qlinear_conv, kind="conv"),
    "QuantizeLinear": Op(lower_quant.quantize, kind="elementwise"),
    "DequantizeLinear": Op(lower_quant.dequantize, kind="elementwise"),
    "DynamicQuantizeLinear": Op(by_body, kind="elementwise", by_opset=True),
}

NORMS: dict[str, Op] = {
    "BatchNormalization": Op(
        lower_norm.batch_norm, flow_linear.by_channel, weights=(1, 2, 3, 4), kind="norm", fusible=True
    ),
    "LayerNormalization": Op(lower_norm.layer_norm, flow.freeze, weights=(1, 2), kind="norm"),
    "RMSNormalization": Op(by_body, flow.freeze, weights=(1,), kind="norm", by_opset=True),
    "InstanceNormalization": Op(lower_norm.instance_norm, flow_linear.by_channel, weights=(1, 2), kind="norm"),
    "GroupNormalization": Op(lower_norm.group_norm, flow.freeze, weights=(1, 2), kind="norm"),
    "MeanVarianceNormalization": Op(by_body, kind="norm", by_opset=True),
    "LpNormalization": Op(lower_norm.lp_norm, kind="norm"),
    "LRN": Op(lower_norm.local_response_norm, kind="norm"),
    "Softmax": Op(lower_norm.softmax(log=False), flow.softmax, kind="softmax", by_opset=True),
    "LogSoftmax": Op(lower_norm.softmax(log=True), flow.softmax, kind="softmax", by_opset=True),
    "Hardmax": Op(lower_norm.hardmax, flow.freeze, kind="softmax", by_opset=True),
}

POOLS: dict[str, Op] = {
    "MaxPool": Op(_max_pool, flow.spatial, kind="pool"),
    "AveragePool": Op(lambda node, v: lower_pool.average_pool(node, jnp.asarray(v[0])), flow.spatial, kind="pool"),
    "LpPool": Op(lambda node, v: lower_pool.lp_pool(node, jnp.asarray(v[0])), flow.spatial, kind="pool"),
    "GlobalAveragePool": Op(lambda _, v: lower_pool.global_pool(v[0], "mean"), flow.spatial, kind="global_pool"),
    "GlobalMaxPool": Op(lambda _, v: lower_pool.global_pool(v[0], "max"), flow.spatial, kind="global_pool"),
    "GlobalLpPool": Op(lambda node, v: lower_pool.global_lp_pool(node, jnp.asarray(v[0])), flow.spatial, kind="pool"),
    "MaxUnpool": Op(lower_pool.max_unpool, static=(2,), kind="data_movement"),
    "Col2Im": Op(lower_pool.col2im, static=(1, 2), kind="data_movement"),
}

ATTENTION: dict[str, Op] = {
    "Attention": Op(by_body, flow_linear.attention, kind="matmul", by_opset=True),
    **{
        name: Op(by_body, kind="elementwise", by_opset=True)
        for name in ("RotaryEmbedding", "CausalConvWithState", "SwiGLU")
    },
}
