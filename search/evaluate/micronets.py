"""Random small networks of the block kinds that users have, to be timed: what a latency model learns a device from.

Every network is an ONNX file with random weights. Widths lie on and off the grid of any runtime, maps from 4 to 112
pixels, so that pruned networks are inside what the fit has seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Rng = np.random.Generator
OPSET = 17
_IR_VERSION = 8
MAX_MACS = 100_000_000
"""A timing of some hundred networks must end in seconds."""


@dataclasses.dataclass(frozen=True)
class MicroNetwork:
    """One random network; its only input is called ``x``."""

    kind: str
    model: bytes
    input_shape: tuple[int, ...]


class Builder:
    """Appends nodes to a graph and keeps the shape (channels, pixels a side) of what it has built; NCHW, batch 1."""

    def __init__(self, rng: Rng, channels: int, size: int) -> None:
        self.rng, self.channels, self.size = rng, channels, size
        self.input_shape = (1, channels, size, size)
        self.value, self.macs, self.parameters = "x", 0, 0
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def conv(self, width: int, kernel: int = 3, stride: int = 1, *, groups: int = 1, relu: bool = True) -> str:
        """A convolution with bias, padded to keep the map's size when ``stride`` is 1; returns the value's name."""
        shape = (width, self.channels // groups, kernel, kernel)
        self._node("Conv", [self.value, self._weight(shape), self._weight((width,))], kernel_shape=[kernel] * 2,
                   pads=[kernel // 2] * 4, strides=[stride] * 2, group=groups)  # fmt: skip
        self.size = (self.size - 1) // stride + 1
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

    def pool(self, kernel: int = 2, stride: int = 2) -> str:
        """Pooling, padded where windows overlap."""
        pad = (kernel - 1) // 2
        self.size = (self.size + 2 * pad - kernel) // stride + 1
        op = "MaxPool" if self.rng.random() < 0.7 else "AveragePool"
        return self._node(op, [self.value], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)

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

    def _weight(self, shape: tuple[int, ...]) -> str:
        """Uniform, and scaled so that no activation grows to infinity or shrinks to denormals: both change the time."""
        scale = np.float32(np.sqrt(12.0 / max(1, int(np.prod(shape[1:])))))
        values: NDArray[np.float32] = (self.rng.random(shape, dtype=np.float32) - np.float32(0.5)) * scale
        self.weights.append(numpy_helper.from_array(values, f"w{len(self.weights)}"))
        return self.weights[-1].name


def micro_network(rng: Rng) -> MicroNetwork:
    """A random network of a random kind, at most `MAX_MACS` large."""
    while True:
        kind = str(rng.choice(list(_KINDS)))
        builder = _KINDS[kind](rng)
        if builder.macs <= MAX_MACS:
            return builder.build(kind)


def random_width(rng: Rng, low: int = 8, high: int = 384) -> int:
    """A log-uniform width: half on multiples of 16, a third on multiples of 4, the rest anywhere."""
    width = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    step = int(rng.choice([16, 4, 1], p=[0.5, 0.33, 0.17]))
    return max(step, round(width / step) * step)


def _stem(rng: Rng, sizes: tuple[int, ...]) -> Builder:
    """Half of the networks begin at an image, half in the middle of a network."""
    size = int(rng.choice(sizes))
    if rng.random() < 0.5:
        builder = Builder(rng, int(rng.choice([1, 3])), size)
        builder.conv(random_width(rng, 8, 64), int(rng.choice([3, 5])), int(rng.choice([1, 2])))
        return builder
    return Builder(rng, random_width(rng), size)


def _residual(rng: Rng) -> Builder:
    builder = _stem(rng, (8, 14, 16, 28, 32, 56))
    for _ in range(rng.integers(1, 4)):
        shortcut, width = builder.value, builder.channels
        if rng.random() < 0.5:
            builder.conv(random_width(rng))
        else:
            builder.conv(random_width(rng), 1)
            builder.conv(random_width(rng), 3)
        builder.conv(width, int(rng.choice([1, 3])), relu=False)
        builder.add(shortcut)
        if rng.random() < 0.4:
            builder.conv(random_width(rng), int(rng.choice([1, 3])), int(rng.choice([1, 2])))
    builder.head(flatten=False)
    return builder


def _cifar(rng: Rng) -> Builder:
    """Three stages of a narrow residual network, pruned at random inside its blocks."""
    builder = Builder(rng, 3, 32)
    for stage, width in enumerate(sorted(random_width(rng, 8, 80) for _ in range(3))):
        if stage == 0:
            builder.conv(width)
        for block in range(int(rng.integers(1, 3))):
            stride = 2 if stage and not block else 1
            shortcut, into, size = builder.value, builder.channels, builder.size
            builder.conv(random_width(rng, 4, width + 4), stride=stride)
            builder.conv(width, relu=False)
            body = builder.value
            if stride == 2 or into != width:
                after = builder.size
                builder.value, builder.channels, builder.size = shortcut, into, size
                builder.conv(width, 1, stride, relu=False)
                shortcut, builder.value, builder.size = builder.value, body, after
            builder.add(shortcut)
    builder.head(flatten=False)
    return builder


def _inverted(rng: Rng) -> Builder:
    builder = _stem(rng, (7, 8, 14, 16, 28, 56, 112))
    for _ in range(rng.integers(1, 3)):
        shortcut, width = builder.value, builder.channels
        builder.conv(min(random_width(rng, 16, 512), 8 * width), 1)
        stride = int(rng.choice([1, 2]))
        builder.depthwise(int(rng.choice([3, 3, 5])), stride)
        builder.conv(width if stride == 1 else random_width(rng, 8, 160), 1, relu=False)
        if stride == 1:
            builder.add(shortcut)
    builder.head(flatten=False)
    return builder


def _plain(rng: Rng) -> Builder:
    builder = _stem(rng, (8, 16, 28, 32, 56, 64))
    for _ in range(rng.integers(2, 6)):
        builder.conv(random_width(rng), int(rng.choice([1, 3, 3, 5])))
        if rng.random() < 0.4 and builder.size >= 4:
            builder.pool()
    builder.head(flatten=bool(rng.random() < 0.3) and builder.size <= 8)
    return builder


def _depthwise(rng: Rng) -> Builder:
    builder = _stem(rng, (7, 8, 14, 16, 28, 56, 112))
    for _ in range(rng.integers(1, 4)):
        builder.depthwise(int(rng.choice([3, 3, 5])), int(rng.choice([1, 1, 2])))
        builder.conv(random_width(rng), 1)
    builder.head(flatten=False)
    return builder


def _digits(rng: Rng) -> Builder:
    """A small classifier of small pictures: convolution and pooling in turn, then one or two products."""
    builder = Builder(rng, int(rng.choice([1, 3])), int(rng.choice([8, 16, 28, 32])))
    for _ in range(rng.integers(1, 4)):
        builder.conv(random_width(rng, 4, 96), int(rng.choice([3, 3, 5])))
        if rng.random() < 0.3:
            builder.conv(random_width(rng, 4, 96))
        if builder.size >= 4:
            builder.pool()
    builder.head(flatten=builder.size <= 8)
    return builder


def _heavy(rng: Rng) -> Builder:
    """Wide layers on small maps, 1 to 20 MB of weights: more than caches keep, so they are read anew at every call."""
    builder = Builder(rng, random_width(rng, 32, 256), int(rng.choice([2, 2, 4, 4, 7, 8])))
    weights = np.exp(rng.uniform(np.log(0.25e6), np.log(5e6)))
    while builder.parameters < weights and builder.macs < MAX_MACS:
        kernel = int(rng.choice([1, 3, 3]))
        builder.conv(random_width(rng, 96, 1280 if kernel == 1 else 560), kernel)
    builder.head(flatten=builder.size <= 2)
    return builder


def _branches(rng: Rng) -> Builder:
    """Branches that are concatenated, overlapping pools, squeeze-and-excite: what runs beside convolutions."""
    builder = _stem(rng, (7, 8, 14, 16, 28, 56))
    for _ in range(rng.integers(1, 4)):
        start, into = builder.value, builder.channels
        match int(rng.integers(4)):
            case 0:
                left = builder.conv(random_width(rng, 8, 160), 1)
                total = builder.channels
                builder.value, builder.channels = start, into
                right = builder.conv(random_width(rng, 8, 160))
                builder.concat(left, right, channels=total + builder.channels)
            case 1:
                builder.pool(3, int(rng.choice([1, 2])))
            case 2:
                builder.squeeze_excite()
            case _:
                builder.conv(into, 3)
                builder.concat(start, builder.value, channels=2 * into)
        builder.conv(random_width(rng, 8, 192), int(rng.choice([1, 3])))
    builder.head(flatten=False)
    return builder


_KINDS: dict[str, Callable[[Rng], Builder]] = {
    "residual": _residual,
    "cifar": _cifar,
    "inverted": _inverted,
    "plain": _plain,
    "depthwise": _depthwise,
    "digits": _digits,
    "heavy": _heavy,
    "branches": _branches,
}
