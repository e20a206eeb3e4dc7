"""LiteRT's operators with weights or windows: convolutions, products, pools.

Activations and biases that LiteRT computes inside an operator are taken in there, as its own converter does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from ai_edge_litert.schema_py_generated import ActivationFunctionType, Padding

from search.formats.litert.writer import Stored, TfliteWriter, unsupported
from search.graph.ir import Array, Node

ACTIVATION: Mapping[str, int] = {name: getattr(ActivationFunctionType, name) for name in ("NONE", "RELU", "RELU6")}
"""LiteRT's numbers of the activations that run inside other operators."""
_IMAGE = 1
"""Channel axes at the end of what convolutions and pools work on: NHWC."""
_KEEPS_AXES = 5
"""Version of FULLY_CONNECTED that keeps the leading axes of its input."""


def conv(writer: TfliteWriter, node: Node) -> None:
    """A 2-D convolution with constant weights; depthwise where every channel is a group."""
    if node.inputs[1] not in writer.static or len(writer.shapes[node.inputs[1]]) != 4:
        raise unsupported(node, "only 2-D convolutions with constant weights have a LiteRT form")
    weight = writer.static[node.inputs[1]]
    x = writer.value(node.inputs[0], _IMAGE)
    groups, c_in = int(node.get("group", 1)), x.shape[1]
    strides, dilations = _pair(node.get("strides")), _pair(node.get("dilations"))
    x, padding = _padded(writer, node, x, weight.shape[2:], strides, dilations)
    bias = writer.static[node.inputs[2]] if node.input(2) else np.zeros(weight.shape[0], np.float32)
    activation, output = writer.activation(node)
    fields = {"padding": padding, "strideH": strides[0], "strideW": strides[1], "dilationHFactor": dilations[0],
              "dilationWFactor": dilations[1], "fusedActivationFunction": ACTIVATION[activation]}  # fmt: skip
    depthwise = groups == c_in > 1
    if depthwise:
        kernel = weight.transpose(1, 2, 3, 0)
        fields["depthMultiplier"] = weight.shape[0] // groups
    else:
        kernel = weight.transpose(0, 2, 3, 1)
    op, options = ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions") if depthwise else ("CONV_2D", "Conv2DOptions")
    inputs = [x.tensor, writer.constant(kernel), writer.constant(bias)]
    writer.set(output, writer.emit(op, inputs, writer.shapes[node.outputs[0]], _IMAGE, options, **fields))


def max_pool(writer: TfliteWriter, node: Node) -> None:
    """Padded with what is never the greatest: after a ReLU that is 0, which LiteRT's fast kernels can pad with."""
    producer = writer.graph.producers().get(node.inputs[0])
    lowest = 0.0 if producer is not None and writer.clipping(producer) != "NONE" else -math.inf
    writer.set(node.outputs[0], _pool(writer, node, "MAX_POOL_2D", lowest)[0])


def average_pool(writer: TfliteWriter, node: Node) -> None:
    """ONNX divides by the elements inside the picture; where padding was written out, a constant map corrects for it."""
    counted = bool(node.get("count_include_pad", 0))
    result, written_out = _pool(writer, node, "AVERAGE_POOL_2D", 0.0, counted=counted)
    if written_out and not counted:
        factor = writer.constant(_window_correction(writer, node)[None, :, :, None])
        result = writer.emit("MUL", [result.tensor, factor], result.shape, _IMAGE, "MulOptions")
    writer.set(node.outputs[0], result)


def _pool(writer: TfliteWriter, node: Node, op: str, filling: float, *, counted: bool = False) -> tuple[Stored, bool]:
    """The pooled map, and whether padding was written out, so that the pool has seen it as a part of the picture."""
    kernel, strides = _pair(node.get("kernel_shape")), _pair(node.get("strides"))
    if len(writer.shapes[node.inputs[0]]) != 4 or node.get("ceil_mode", 0) or _pair(node.get("dilations")) != (1, 1):
        raise unsupported(node, "only 2-D pools without dilation and with ceil_mode=0 have a LiteRT form")
    source = writer.value(node.inputs[0], _IMAGE)
    x, padding = _padded(writer, node, source, kernel, strides, filling=filling, counted=counted)
    result = writer.emit(op, [x.tensor], writer.shapes[node.outputs[0]], _IMAGE, "Pool2DOptions", padding=padding,
                         strideH=strides[0], strideW=strides[1], filterHeight=kernel[0], filterWidth=kernel[1])  # fmt: skip
    return result, x is not source


def _window_correction(writer: TfliteWriter, node: Node) -> Array:
    """Elements of a window over those of them that lie inside the picture, (height, width)."""
    kernel, strides, pads = _pair(node.get("kernel_shape")), _pair(node.get("strides")), _pads(node)
    inside = []
    for axis in range(2):
        size, count = writer.shapes[node.inputs[0]][2 + axis], writer.shapes[node.outputs[0]][2 + axis]
        start = np.arange(count) * strides[axis] - pads[axis]
        inside.append(np.minimum(start + kernel[axis], size) - np.maximum(start, 0))
    return np.asarray(math.prod(kernel) / np.multiply.outer(*inside), np.float32)


def _padded(
    writer: TfliteWriter,
    node: Node,
    x: Stored,
    kernel: tuple[int, ...],
    strides: tuple[int, int],
    dilations: tuple[int, int] = (1, 1),
    filling: float = 0.0,
    *,
    counted: bool = False,
) -> tuple[Stored, int]:
    """The input and LiteRT's name for its padding: VALID without any, SAME where that is the same, else written out.

    Padding that an average counts is always written out: SAME leaves it out.
    """
    if node.get("auto_pad", "NOTSET") not in {"NOTSET", "VALID"}:
        raise unsupported(node, "auto_pad has no LiteRT form; re-export with explicit pads")
    pads, size = _pads(node), x.shape[2:]
    if not any(pads):
        return x, Padding.VALID
    same = [_same_pads(size[i], kernel[i], strides[i], dilations[i]) for i in range(2)]
    if not counted and [(pads[0], pads[2]), (pads[1], pads[3])] == same:
        return x, Padding.SAME
    amounts = np.array([(0, 0), (pads[0], pads[2]), (pads[1], pads[3]), (0, 0)])
    shape = (*x.shape[:2], size[0] + pads[0] + pads[2], size[1] + pads[1] + pads[3])
    inputs = [x.tensor, writer.constant(amounts)]
    if filling == 0:
        return writer.emit("PAD", inputs, shape, _IMAGE, "PadOptions"), Padding.VALID
    inputs.append(writer.constant(np.array(filling, np.float32)))
    return writer.emit("PADV2", inputs, shape, _IMAGE, "PadV2Options"), Padding.VALID


def _same_pads(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """What LiteRT's SAME adds before and after."""
    total = max(0, (-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size)
    return total // 2, total - total // 2


def _pads(node: Node) -> tuple[int, int, int, int]:
    top, left, bottom, right = node.get("pads") or (0, 0, 0, 0)
    return int(top), int(left), int(bottom), int(right)


def _pair(values: Sequence[int] | None) -> tuple[int, int]:
    first, second = values or (1, 1)
    return int(first), int(second)


def gemm(writer: TfliteWriter, node: Node) -> None:
    """A product of two matrices, the second constant."""
    if node.get("transA", 0) or node.inputs[1] not in writer.static:
        raise unsupported(
            node, "only products whose second factor is constant, the first not transposed, have a LiteRT form"
        )
    weight = writer.static[node.inputs[1]] * np.float32(node.get("alpha", 1.0))
    weight = weight if node.get("transB", 0) else weight.T
    bias: Array = np.zeros(len(weight), np.float32)
    if node.input(2):
        bias = np.broadcast_to(writer.static[node.inputs[2]] * np.float32(node.get("beta", 1.0)), bias.shape)
    _fully_connected(writer, node.inputs[0], node, weight, bias)


def matmul(writer: TfliteWriter, node: Node) -> None:
    """A product with a constant matrix, or of two stacks of activations."""
    left, right = node.inputs
    if right in writer.static and writer.static[right].ndim == 2:
        weight = writer.static[right].T
        bias, last = _bias_after(writer, node, len(weight))
        _fully_connected(writer, left, last, weight, bias)
        return
    if {left, right} & writer.static.keys() or len(writer.shapes[left]) != len(writer.shapes[right]):
        raise unsupported(node, "the factors must be two activations of one rank, or the second a constant matrix")
    inputs = [writer.value(left, 0).tensor, writer.value(right, 0).tensor]
    result = writer.emit("BATCH_MATMUL", inputs, writer.shapes[node.outputs[0]], 0, "BatchMatMulOptions")
    writer.set(node.outputs[0], result)


def _bias_after(writer: TfliteWriter, node: Node, width: int) -> tuple[Array, Node]:
    """A constant vector that is added to a product, and the node whose result then comes out."""
    reader = writer.single_reader(node.outputs[0])
    if reader is not None and reader.op == "Add":
        addend = next((writer.static[name] for name in reader.inputs if name in writer.static), None)
        if addend is not None and addend.size == width == addend.shape[-1]:
            writer.done.add(reader.name)
            return addend.reshape(-1), reader
    return np.zeros(width, np.float32), node


def _fully_connected(writer: TfliteWriter, source: str, node: Node, weight: Array, bias: Array) -> None:
    """``weight`` is (outputs, inputs); ``node`` is the last one that the operator stands for."""
    activation, output = writer.activation(node)
    inputs = [writer.value(source, 0).tensor, writer.constant(weight), writer.constant(bias)]
    result = writer.emit("FULLY_CONNECTED", inputs, writer.shapes[node.outputs[0]], 0, "FullyConnectedOptions", _KEEPS_AXES,
                         keepNumDims=True, fusedActivationFunction=ACTIVATION[activation])  # fmt: skip
    writer.set(output, result)
