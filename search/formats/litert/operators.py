"""What LiteRT executes for each ONNX operator: one entry an operator.

An entry writes one or several LiteRT operators; a use of an operator that has no LiteRT form is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from search.formats.litert.kernels import ACTIVATION, average_pool, conv, gemm, matmul, max_pool
from search.formats.litert.writer import Stored, TfliteWriter, channels_after_reshape, stored_order, unsupported
from search.graph.ir import Array, Node
from search.graph.ops.lower import ints

Emitter = Callable[[TfliteWriter, Node], None]


def _unary(op: str, options: str = "", **fields: Any) -> Emitter:
    def emit(writer: TfliteWriter, node: Node) -> None:
        x = writer.value(node.inputs[0])
        writer.set(node.outputs[0], writer.emit(op, [x.tensor], x.shape, x.channels, options, **fields))

    return emit


def _alias(writer: TfliteWriter, node: Node) -> None:
    writer.set(node.outputs[0], writer.value(node.inputs[0]))


def _clip(writer: TfliteWriter, node: Node) -> None:
    kind = writer.clipping(node)
    if kind == "NONE":
        raise unsupported(node, "LiteRT clips from 0, to nothing or to 6")
    _unary(kind)(writer, node)


def _binary(op: str, options: str = "") -> Emitter:
    """Arithmetic with broadcasting; ``options`` where LiteRT computes an activation inside."""

    def emit(writer: TfliteWriter, node: Node) -> None:
        channels = _layout(writer, node)
        shape = writer.shapes[node.outputs[0]]
        inputs = [_operand(writer, name, len(shape), channels) for name in node.inputs]
        activation, output = writer.activation(node) if options else ("NONE", node.outputs[0])
        fields = {"fusedActivationFunction": ACTIVATION[activation]} if options else {}
        writer.set(output, writer.emit(op, inputs, shape, channels, options, **fields))

    return emit


def _layout(writer: TfliteWriter, node: Node) -> int:
    """Channel axes at the end that most suits the operands: those of the one with most elements."""
    active = [writer.value(name) for name in node.inputs if name not in writer.static]
    rank = len(writer.shapes[node.outputs[0]])
    full = [value for value in active if len(value.shape) == rank]
    return max(full, key=lambda value: np.prod(value.shape)).channels if full else 0


def _operand(writer: TfliteWriter, name: str, rank: int, channels: int) -> int:
    """An operand with ``rank`` axes in the layout asked for; axes that ONNX adds in front are written out."""
    if name in writer.static:
        return writer.constant(_in_layout(writer.static[name], rank, channels))
    value = writer.value(name)
    if len(value.shape) == rank:
        return writer.value(name, channels).tensor
    plain = writer.value(name, 0)
    wide = writer.reshaped(plain, (1,) * (rank - len(plain.shape)) + plain.shape, 0)
    return writer.transposed(wide, list(stored_order(rank, channels)), wide.shape, channels).tensor


def _in_layout(values: Array, rank: int, channels: int) -> Array:
    wide = values.reshape((1,) * (rank - values.ndim) + values.shape)
    return wide.transpose(stored_order(rank, channels))


def _batch_norm(writer: TfliteWriter, node: Node) -> None:
    """A product and a sum with constants, one value a channel; such a norm is only here if no convolution could take it in."""
    scale, shift, mean, variance = (writer.static[name].astype(np.float64) for name in node.inputs[1:5])
    factor = scale / np.sqrt(variance + node.get("epsilon", 1e-5))
    x = writer.value(node.inputs[0])
    by_channel = (1, -1, *[1] * (len(x.shape) - 2))
    product, sum_ = (
        writer.constant(_in_layout(v.astype(np.float32).reshape(by_channel), len(x.shape), x.channels))
        for v in (factor, shift - mean * factor)
    )
    scaled = writer.emit("MUL", [x.tensor, product], x.shape, x.channels, "MulOptions")
    activation, output = writer.activation(node)
    result = writer.emit(
        "ADD", [scaled.tensor, sum_], x.shape, x.channels, "AddOptions", fusedActivationFunction=ACTIVATION[activation]
    )
    writer.set(output, result)


def _layer_norm(writer: TfliteWriter, node: Node) -> None:
    """Mean, variance, and the normalised value scaled and shifted, operator by operator."""
    x = writer.value(node.inputs[0], 0)
    first = int(node.get("axis", -1)) % len(x.shape)
    axes = writer.integers(*range(first, len(x.shape)))
    narrow = (*x.shape[:first], *[1] * (len(x.shape) - first))
    mean = writer.emit("MEAN", [x.tensor, axes], narrow, 0, "ReducerOptions", keepDims=True)
    squares = writer.emit("SQUARED_DIFFERENCE", [x.tensor, mean.tensor], x.shape, 0, "SquaredDifferenceOptions")
    variance = writer.emit("MEAN", [squares.tensor, axes], narrow, 0, "ReducerOptions", keepDims=True)
    epsilon = writer.constant(np.full([1] * len(x.shape), node.get("epsilon", 1e-5), np.float32))
    padded = writer.emit("ADD", [variance.tensor, epsilon], narrow, 0, "AddOptions")
    inverse = writer.emit("RSQRT", [padded.tensor], narrow, 0)
    centred = writer.emit("SUB", [x.tensor, mean.tensor], x.shape, 0, "SubOptions")
    result = writer.emit("MUL", [centred.tensor, inverse.tensor], x.shape, 0, "MulOptions")
    for op, options, name in (("MUL", "MulOptions", node.inputs[1]), ("ADD", "AddOptions", node.input(2))):
        if name:
            factor = writer.constant(_in_layout(writer.static[name], len(x.shape), 0))
            result = writer.emit(op, [result.tensor, factor], x.shape, 0, options)
    writer.set(node.outputs[0], result)


def _softmax(writer: TfliteWriter, node: Node) -> None:
    """LiteRT's works on the last axis of the file."""
    x = writer.value(node.inputs[0])
    if x.axis(int(node.get("axis", -1))) != len(x.shape) - 1:
        x = writer.value(node.inputs[0], 0)
    if x.axis(int(node.get("axis", -1))) != len(x.shape) - 1:
        raise unsupported(
            node, "a softmax over another axis than the last, or the channels of a map, has no LiteRT form"
        )
    result = writer.emit("SOFTMAX", [x.tensor], x.shape, x.channels, "SoftmaxOptions", beta=1.0)
    writer.set(node.outputs[0], result)


def _global_average(writer: TfliteWriter, node: Node) -> None:
    _mean(writer, node, range(2, len(writer.shapes[node.inputs[0]])))


def _reduce_mean(writer: TfliteWriter, node: Node) -> None:
    axes = node.get("axes") or ints(writer.static[node.inputs[1]])
    _mean(writer, node, [int(axis) for axis in axes])


def _mean(writer: TfliteWriter, node: Node, axes: Iterable[int]) -> None:
    x = writer.value(node.inputs[0])
    reduced = {axis % len(x.shape) for axis in axes}
    narrow = tuple(1 if axis in reduced else size for axis, size in enumerate(x.shape))
    where = writer.integers(*sorted(x.axis(axis) for axis in reduced))
    result = writer.emit("MEAN", [x.tensor, where], narrow, x.channels, "ReducerOptions", keepDims=True)
    writer.set(node.outputs[0], _reshape_to(writer, result, writer.shapes[node.outputs[0]]))


def _reshape(writer: TfliteWriter, node: Node) -> None:
    x = writer.value(node.inputs[0])
    writer.set(node.outputs[0], _reshape_to(writer, x, writer.shapes[node.outputs[0]]))


def _reshape_to(writer: TfliteWriter, x: Stored, shape: tuple[int, ...]) -> Stored:
    channels = channels_after_reshape(x, shape)
    if channels is None:
        x = writer.transposed(x, [x.axis(axis) for axis in range(len(x.shape))], x.shape, 0)
    return writer.reshaped(x, shape, channels or 0)


def _transpose(writer: TfliteWriter, node: Node) -> None:
    """Where the file already has the axes in the order asked for, nothing is written."""
    x, shape = writer.value(node.inputs[0]), writer.shapes[node.outputs[0]]
    perm = [int(axis) for axis in node.get("perm") or reversed(range(len(shape)))]
    plain = [x.axis(axis) for axis in perm]
    channels = 0 if plain == sorted(plain) else x.channels
    stored = [x.axis(perm[axis]) for axis in stored_order(len(shape), channels)]
    writer.set(node.outputs[0], writer.transposed(x, stored, shape, channels))


def _concat(writer: TfliteWriter, node: Node) -> None:
    channels = _layout(writer, node)
    shape = writer.shapes[node.outputs[0]]
    inputs = [_operand(writer, name, len(shape), channels) for name in node.inputs]
    axis = Stored(-1, shape, channels).axis(int(node.get("axis")))
    result = writer.emit("CONCATENATION", inputs, shape, channels, "ConcatenationOptions", axis=axis)
    writer.set(node.outputs[0], result)


def _split(writer: TfliteWriter, node: Node) -> None:
    """A slice for each part: LiteRT's fast kernels know no split into unequal parts."""
    x = writer.value(node.inputs[0])
    axis, begin = int(node.get("axis", 0)) % len(x.shape), 0
    for name in node.outputs:
        part = Stored(-1, writer.shapes[name], x.channels)
        start = np.zeros(len(x.shape), np.int32)
        start[x.axis(axis)] = begin
        inputs = [x.tensor, writer.integers(*start), writer.integers(*part.stored_shape)]
        writer.set(name, writer.emit("SLICE", inputs, part.shape, part.channels, "SliceOptions"))
        begin += part.shape[axis]


def _gather(writer: TfliteWriter, node: Node) -> None:
    """Only with a constant vector: an order of channels, as channel shuffles become."""
    x, axis = writer.value(node.inputs[0]), int(node.get("axis", 0)) % len(writer.shapes[node.inputs[0]])
    indices, shape = writer.static.get(node.inputs[1]), writer.shapes[node.outputs[0]]
    if indices is None or indices.ndim != 1:
        raise unsupported(node, "only a constant vector of indices has a LiteRT form here")
    positive = indices % x.shape[axis]
    groups = _shuffled_groups(positive) if axis == 1 and len(positive) == x.shape[1] else 0
    if groups and x.channels == 1:
        writer.set(node.outputs[0], _shuffled(writer, x, groups))
        return
    inputs = [x.tensor, writer.constant(positive)]
    writer.set(node.outputs[0], writer.emit("GATHER", inputs, shape, x.channels, "GatherOptions", axis=x.axis(axis)))


def _shuffled_groups(indices: Array) -> int:
    """Groups whose channels are taken in turn; 0 where the order is another. The second index is the size of a group."""
    size = int(indices[1]) if len(indices) > 1 else 0
    if size < 2 or len(indices) % size:
        return 0
    in_turn = np.arange(len(indices)).reshape(-1, size).T.reshape(-1)
    return len(indices) // size if np.array_equal(indices, in_turn) else 0


def _shuffled(writer: TfliteWriter, x: Stored, groups: int) -> Stored:
    """Channels of all groups in turn, without a gather, which LiteRT's fast kernels do not have."""
    batch, channels, *positions = x.shape
    split = writer.reshaped(x, (batch, groups, channels // groups, *positions), 2)
    perm = [*range(len(x.shape) - 1), len(x.shape), len(x.shape) - 1]
    turned = writer.transposed(split, perm, (batch, channels // groups, groups, *positions), 2)
    return writer.reshaped(turned, x.shape, 1)


EMITTERS: dict[str, Emitter] = {
    "Conv": conv,
    "Gemm": gemm,
    "MatMul": matmul,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": _global_average,
    "ReduceMean": _reduce_mean,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "Softmax": _softmax,
    "Add": _binary("ADD", "AddOptions"),
    "Sub": _binary("SUB", "SubOptions"),
    "Mul": _binary("MUL", "MulOptions"),
    "Div": _binary("DIV", "DivOptions"),
    "Clip": _clip,
    "Relu": _unary("RELU"),
    "Sigmoid": _unary("LOGISTIC"),
    "Tanh": _unary("TANH"),
    "HardSwish": _unary("HARD_SWISH"),
    "Gelu": _unary("GELU", "GeluOptions", approximate=False),
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Gather": _gather,
    "Identity": _alias,
    "Dropout": _alias,
}
