"""Writes small ONNX networks with random weights, layer by layer: what calibrations and benchmarks time."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Rng = np.random.Generator
OPSET = 17
_IR_VERSION = 8


@dataclasses.dataclass(frozen=True)
class MicroNetwork:
    """One random network; its only input is called ``x``."""

    kind: str
    model: bytes
    input_shape: tuple[int, ...]


class Builder:
    """Appends nodes to a graph and keeps the shape (channels, pixels a side) of what it has built; NCHW, batch 1."""

    def __init__(self, rng: Rng, channels: int, size: int, input_shape: tuple[int, ...] | None = None) -> None:
        self.rng, self.channels, self.size = rng, channels, size
        self.input_shape = input_shape or (1, channels, size, size)
        self.value, self.macs, self.parameters = "x", 0, 0
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def conv(
        self,
        width: int,
        kernel: int = 3,
        stride: int = 1,
        *,
        groups: int = 1,
        relu: bool = True,
        pad: int | None = None,
    ) -> str:
        """A convolution with bias, padded to keep the map's size when ``stride`` is 1; returns the value's name."""
        pad = kernel // 2 if pad is None else pad
        shape = (width, self.channels // groups, kernel, kernel)
        self._node("Conv", [self.value, self._weight(shape), self._weight((width,))], kernel_shape=[kernel] * 2,
                   pads=[pad] * 4, strides=[stride] * 2, group=groups)  # fmt: skip
        self.size = (self.size + 2 * pad - kernel) // stride + 1
        self.channels = width
        self.macs += self.size**2 * int(np.prod(shape))
        self.parameters += int(np.prod(shape))
        return self._node("Relu", [self.value]) if relu else self.value

    def depthwise(self, kernel: int = 3, stride: int = 1) -> str:
        """A depthwise convolution and a ReLU."""
        return self.conv(self.channels, kernel, stride, groups=self.channels)

    def add(self, other: str) -> str:
        """The sum of the current value and an earlier one, mostly with a ReLU."""
        self._node("Add", [self.value, other])
        return self._node("Relu", [self.value]) if self.rng.random() < 0.7 else self.value

    def sum(self, other: str) -> str:
        """The sum of the current value and an earlier one, as it is."""
        return self._node("Add", [other, self.value])

    def conv1d(self, width: int, kernel: int = 3, *, groups: int = 1) -> str:
        """A convolution over signals (1, channels, size) with bias and a ReLU that keeps their length."""
        shape = (width, self.channels // groups, kernel)
        self._node("Conv", [self.value, self._weight(shape), self._weight((width,))], kernel_shape=[kernel],
                   pads=[kernel // 2] * 2, group=groups)  # fmt: skip
        self.channels = width
        self.macs += self.size * int(np.prod(shape))
        self.parameters += int(np.prod(shape))
        return self._node("Relu", [self.value])

    def pool(self, kernel: int = 2, stride: int = 2) -> str:
        """Pooling, padded where windows overlap."""
        pad = (kernel - 1) // 2
        self.size = (self.size + 2 * pad - kernel) // stride + 1
        op = "MaxPool" if self.rng.random() < 0.7 else "AveragePool"
        return self._node(op, [self.value], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)

    def batch_norm(self) -> str:
        """A normalisation that no convolution before it can take in, and a ReLU."""
        names = [self._weight((self.channels,)) for _ in range(3)]
        self.weights.append(numpy_helper.from_array(np.ones(self.channels, np.float32), f"w{len(self.weights)}"))
        self._node("BatchNormalization", [self.value, *names, self.weights[-1].name])
        return self._node("Relu", [self.value])

    def split(self, left: int) -> tuple[str, str]:
        """The first ``left`` channels and the others."""
        self.weights.append(numpy_helper.from_array(np.array([left, self.channels - left]), f"w{len(self.weights)}"))
        names = [f"split_{len(self.nodes)}_{side}" for side in ("left", "right")]
        self.nodes.append(helper.make_node("Split", [self.value, self.weights[-1].name], names, name=names[0], axis=1))
        return names[0], names[1]

    def shuffle(self, groups: int = 2) -> str:
        """Channels of ``groups`` parts in turn, as one selection, which is what normalising makes of a shuffle."""
        order = np.arange(self.channels).reshape(groups, -1).T.reshape(-1)
        self.weights.append(numpy_helper.from_array(order, f"w{len(self.weights)}"))
        return self._node("Gather", [self.value, self.weights[-1].name], axis=1)

    def tokens(self) -> int:
        """The map as a sequence of its positions, (1, tokens, channels); returns how many there are."""
        count = self.size**2
        self._reshape(1, self.channels, count)
        self._node("Transpose", [self.value], perm=[0, 2, 1])
        return count

    def dense(self, width: int) -> str:
        """A product with a weight and a bias, of every token."""
        weight = self._weight((self.channels, width))
        self.parameters += self.channels * width
        self.channels = width
        self._node("MatMul", [self.value, weight])
        return self._node("Add", [self.value, self._weight((width,))])

    def recurrent(self, op: str, hidden: int, steps: int, *, directions: int = 1) -> str:
        """An RNN, GRU or LSTM over (steps, 1, channels); gives (steps, 1, channels) again."""
        rows = {"RNN": 1, "GRU": 3, "LSTM": 4}[op] * hidden
        weights = [self._weight((directions, rows, self.channels)), self._weight((directions, rows, hidden))]
        self.parameters += directions * rows * (self.channels + hidden)
        self.macs += steps * directions * rows * (self.channels + hidden)
        direction = "bidirectional" if directions > 1 else "forward"
        self._node(op, [self.value, *weights], hidden_size=hidden, direction=direction)
        self.channels = directions * hidden
        self._node("Transpose", [self.value], perm=[0, 2, 1, 3])
        return self._reshape(steps, 1, self.channels)

    def layer_norm(self) -> str:
        """Normalisation over the channels of every token."""
        return self._node(
            "LayerNormalization", [self.value, self._weight((self.channels,)), self._weight((self.channels,))]
        )

    def gelu(self) -> str:
        """The exact form, as exporters write it."""
        x = self.value
        self._node("Div", [x, self._scalar(2**0.5)])
        self._node("Erf", [self.value])
        self._node("Add", [self.value, self._scalar(1.0)])
        self._node("Mul", [x, self.value])
        return self._node("Mul", [self.value, self._scalar(0.5)])

    def attention(self, tokens: int, heads: int, width: int) -> str:
        """Self-attention of ``heads`` heads of ``width`` channels each, and the product that joins them."""
        x, outer, inner = self.value, self.channels, heads * width
        parts = []
        for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):  # queries, keys already transposed, values
            self.value, self.channels = x, outer
            self.dense(inner)
            self._reshape(1, tokens, heads, width)
            parts.append(self._node("Transpose", [self.value], perm=perm))
        self._node("MatMul", [parts[0], parts[1]])
        self._node("Mul", [self.value, self._scalar(width**-0.5)])
        self._node("Softmax", [self.value], axis=-1)
        self._node("MatMul", [self.value, parts[2]])
        self._node("Transpose", [self.value], perm=[0, 2, 1, 3])
        self._reshape(1, tokens, inner)
        self.macs += 2 * tokens**2 * inner + 3 * tokens * outer * inner
        self.channels = inner
        return self.dense(outer)

    def sequence_head(self) -> None:
        """A classifier over the mean of the time steps, (steps, 1, channels)."""
        self.token_head(axis=0)

    def token_head(self, axis: int = 1) -> None:
        """A classifier over the mean of the tokens."""
        self._node("ReduceMean", [self.value], axes=[axis], keepdims=0)
        features, classes = self.channels, int(self.rng.choice([10, 100]))
        self.channels = classes
        self._node("Gemm", [self.value, self._weight((classes, features)), self._weight((classes,))], transB=1)

    def concat(self, *values: str, channels: int) -> str:
        """Values of the same map side by side, ``channels`` in all."""
        self.channels = channels
        return self._node("Concat", list(values), axis=1)

    def squeeze_excite(self) -> str:
        """The current value scaled, channel by channel, by what two small layers make of its mean."""
        value, width, size = self.value, self.channels, self.size
        self._node("GlobalAveragePool", [value])
        self.size = 1
        self.conv(max(4, width // 4), 1)
        self.conv(width, 1, relu=False)
        self._node("Sigmoid", [self.value])
        self.size = size
        return self._node("Mul", [value, self.value])

    def head(self, *, flatten: bool) -> None:
        """A classifier over the mean of the map, or over the whole map."""
        features = self.channels
        if flatten:
            features *= self.size**2
        else:
            self._node("GlobalAveragePool", [self.value])
        self._node("Flatten", [self.value])
        classes = self.channels = int(self.rng.choice([10, 100]))
        self._node("Gemm", [self.value, self._weight((classes, features)), self._weight((classes,))], transB=1)

    def build(self, kind: str) -> MicroNetwork:
        """The ONNX file."""
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(self.input_shape))
        y = helper.make_tensor_value_info(self.value, TensorProto.FLOAT, [1, self.channels])
        graph = helper.make_graph(self.nodes, kind, [x], [y], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION)
        return MicroNetwork(kind, model.SerializeToString(), self.input_shape)

    def _node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        self.value = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [self.value], name=self.value, **attributes))
        return self.value

    def _reshape(self, *shape: int) -> str:
        self.weights.append(numpy_helper.from_array(np.array(shape, dtype=np.int64), f"w{len(self.weights)}"))
        return self._node("Reshape", [self.value, self.weights[-1].name])

    def _scalar(self, value: float) -> str:
        self.weights.append(numpy_helper.from_array(np.array(value, dtype=np.float32), f"w{len(self.weights)}"))
        return self.weights[-1].name

    def _weight(self, shape: tuple[int, ...]) -> str:
        """Uniform, and scaled so that no activation grows to infinity or shrinks to denormals: both change the time."""
        scale = np.float32(np.sqrt(12.0 / max(1, int(np.prod(shape[1:])))))
        values: NDArray[np.float32] = (self.rng.random(shape, dtype=np.float32) - np.float32(0.5)) * scale
        self.weights.append(numpy_helper.from_array(values, f"w{len(self.weights)}"))
        return self.weights[-1].name
