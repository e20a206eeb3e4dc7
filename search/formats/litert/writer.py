"""A .tflite file as it grows: how every value of the graph is stored in it.

ONNX has channels first, LiteRT's kernels want them last. Every value therefore carries how it is stored: with its channel
axes at the end or as ONNX has it. Operators say what they need; a transposition is written only where a value is stored
otherwise. Inputs and outputs with four axes are NHWC in the file, as LiteRT's users expect.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from search.formats.litert.file import TfliteFile
from search.formats.litert.rewrites import fold_gelus
from search.graph.ir import Array, Graph, Node
from search.wire.errors import UnsupportedOperator

Shape = tuple[int, ...]
_SIX = 6.0


@dataclasses.dataclass(frozen=True)
class Stored:
    """A value in the file: ``shape`` as ONNX has it, stored with axes 1 to ``channels`` after all others.

    0 channel axes is ONNX's own order; 1 turns NCHW into NHWC; 2 occur where channels are split to be shuffled.
    """

    tensor: int
    shape: Shape
    channels: int = 0

    @property
    def order(self) -> tuple[int, ...]:
        """ONNX's axes in the order in which the file has them."""
        return stored_order(len(self.shape), self.channels)

    @property
    def stored_shape(self) -> Shape:
        """The shape in the file."""
        return tuple(self.shape[axis] for axis in self.order)

    def axis(self, axis: int) -> int:
        """Where ONNX's ``axis`` is in the file."""
        return self.order.index(axis % len(self.shape))


def stored_order(rank: int, channels: int) -> tuple[int, ...]:
    """Axes 1 to ``channels`` moved to the end."""
    return tuple(range(rank)) if channels == 0 else (0, *range(channels + 1, rank), *range(1, channels + 1))


def unsupported(node: Node, why: str) -> UnsupportedOperator:
    """The refusal of a node."""
    return UnsupportedOperator(f"node `{node.name}` ({node.op}): {why}", node=node.name, operator=node.op)


class TfliteWriter:
    """The file as it grows, and where each value of the graph is in it."""

    def __init__(self, graph: Graph, shapes: Mapping[str, Shape], static: Mapping[str, Array]) -> None:
        self.graph, self.shapes, self.static = fold_gelus(graph), shapes, static
        self.file = TfliteFile(graph.name)
        self.done: set[str] = set()
        """Nodes that an operator written before has taken in."""
        self._stored: dict[str, Stored] = {}
        self._converted: dict[tuple[int, int], Stored] = {}
        self._constants: dict[bytes, int] = {}
        self._outputs = {info.name for info in graph.outputs}
        self._inputs = [self._input(info.name) for info in graph.inputs]

    def serialise(self) -> bytes:
        """The bytes of the file, with the outputs as LiteRT's users expect them."""
        outputs = [self.value(info.name, _of_image(self.shapes[info.name])).tensor for info in self.graph.outputs]
        return self.file.serialise(self._inputs, outputs)

    def value(self, name: str, channels: int | None = None) -> Stored:
        """An activation, stored with ``channels`` channel axes at the end, or however it is where None."""
        stored = self._stored[name]
        if channels is None or stored.order == stored_order(len(stored.shape), channels):
            return stored
        key = (stored.tensor, channels)
        if key not in self._converted:
            wanted = stored_order(len(stored.shape), channels)
            self._converted[key] = self.transposed(
                stored, [stored.axis(axis) for axis in wanted], stored.shape, channels
            )
        return self._converted[key]

    def constant(self, values: Array) -> int:
        """A constant tensor; integers become int32."""
        return self.file.constant(np.asarray(values, np.float32 if values.dtype.kind == "f" else np.int32))

    def integers(self, *values: int) -> int:
        """A constant vector, written once however many operators ask for it."""
        vector = np.array(values, np.int32)
        key = vector.tobytes()
        if key not in self._constants:
            self._constants[key] = self.constant(vector)
        return self._constants[key]

    def emit(
        self,
        op: str,
        inputs: list[int],
        shape: Shape,
        channels: int,
        options: str = "",
        version: int = 1,
        **fields: Any,
    ) -> Stored:
        """Append an operator with one output of ONNX shape ``shape``, stored with ``channels`` channel axes last."""
        result = Stored(-1, shape, channels)
        tensor = self.file.activation(f"{op.lower()}", result.stored_shape)
        self.file.operator(op, inputs, [tensor], options, version, **fields)
        return dataclasses.replace(result, tensor=tensor)

    def set(self, name: str, stored: Stored) -> None:
        """Say where a value of the graph is."""
        self._stored[name] = stored

    def transposed(self, stored: Stored, perm: list[int], shape: Shape, channels: int) -> Stored:
        """The file's axes in the order ``perm``; where only axes of size 1 move that is a reshape or nothing."""
        moving = [axis for axis in perm if stored.stored_shape[axis] > 1]
        if moving == sorted(moving):
            return self.reshaped(stored, shape, channels)
        return self.emit("TRANSPOSE", [stored.tensor, self.integers(*perm)], shape, channels, "TransposeOptions")

    def reshaped(self, stored: Stored, shape: Shape, channels: int) -> Stored:
        """The same elements in the same order under another shape."""
        result = Stored(stored.tensor, shape, channels)
        if result.stored_shape == stored.stored_shape:
            return result
        target = np.array(result.stored_shape, np.int32)
        inputs = [stored.tensor, self.integers(*result.stored_shape)]
        return self.emit("RESHAPE", inputs, shape, channels, "ReshapeOptions", newShape=target)

    def single_reader(self, name: str) -> Node | None:
        """The only node that reads a value, if nobody else wants it."""
        readers = self.graph.consumers().get(name, [])
        return readers[0] if len(readers) == 1 and name not in self._outputs else None

    def activation(self, node: Node) -> tuple[str, str]:
        """The activation that runs inside a node's operator, and the name of the value that then comes out."""
        reader = self.single_reader(node.outputs[0])
        kind = self.clipping(reader) if reader is not None else "NONE"
        if reader is None or kind == "NONE":
            return "NONE", node.outputs[0]
        self.done.add(reader.name)
        return kind, reader.outputs[0]

    def clipping(self, node: Node) -> str:
        """RELU or RELU6 where a node is one, else NONE."""
        if node.op == "Relu":
            return "RELU"
        if node.op != "Clip" or len(node.inputs) < 3 or not {*node.inputs[1:3]} <= self.static.keys():
            return "NONE"
        low, high = (float(self.static[name]) for name in node.inputs[1:3])
        return "RELU6" if (low, high) == (0.0, _SIX) else "NONE"

    def _input(self, name: str) -> int:
        shape = self.shapes[name]
        stored = Stored(-1, shape, _of_image(shape))
        tensor = self.file.activation(name, stored.stored_shape)
        self.set(name, dataclasses.replace(stored, tensor=tensor))
        return tensor


def _of_image(shape: Shape) -> int:
    """Channel axes at the end of an input or output."""
    return int(len(shape) == 4)


def channels_after_reshape(stored: Stored, shape: Shape) -> int | None:
    """Channel axes of ``shape`` where reshaping what is stored gives what reshaping ONNX's order gives, else None.

    Channels may be split or merged among themselves, and positions among themselves.
    """
    if stored.channels == 0:
        return 0
    if not shape or shape[0] != stored.shape[0]:
        return None
    of_channels = math.prod(stored.shape[1 : 1 + stored.channels])
    for channels in range(1, len(shape)):
        if math.prod(shape[1 : 1 + channels]) == of_channels:
            return 0 if channels == len(shape) - 1 else channels
    return None
