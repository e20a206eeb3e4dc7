"""Writes a .tflite file: tensors and operators in order, and the flatbuffer around them.

The format is that of tensorflow/compiler/mlir/lite/schema/schema.fbs, through the classes that LiteRT ships.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from search.graph.ir import Array

_TYPES: dict[np.dtype[Any], int] = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int32): schema.TensorType.INT32,
}
_LAST_OLD_CODE = 127
"""Operators beyond this number have 127 in the field that was a byte once."""


class TfliteFile:
    """One subgraph; tensors and operators are numbered as they are added."""

    def __init__(self, description: str) -> None:
        self._model = schema.ModelT()
        self._model.version = 3
        self._model.description = description
        self._model.buffers = [schema.BufferT()]
        self._model.operatorCodes = []
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._codes: dict[tuple[int, int], int] = {}

    def constant(self, values: Array) -> int:
        """A tensor with fixed values, float32 or int32; returns its number."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), dtype=np.uint8)
        self._model.buffers.append(buffer)
        return self._tensor("constant", values.shape, values.dtype, len(self._model.buffers) - 1)

    def activation(self, name: str, shape: tuple[int, ...]) -> int:
        """A float32 tensor that is computed or fed; returns its number."""
        return self._tensor(name, shape, np.dtype(np.float32), 0)

    def operator(
        self, name: str, inputs: list[int], outputs: list[int], options: str = "", version: int = 1, **fields: Any
    ) -> None:
        """Append an operator.

        Args:
            name: in `BuiltinOperator`, e.g. ``CONV_2D``.
            inputs: tensors, -1 for one that is left out.
            outputs: tensors.
            options: in `BuiltinOptions`, e.g. ``Conv2DOptions``; none where empty.
            version: the least that has what the fields ask for.
            **fields: members of the options; a name that the options do not have is an AttributeError.
        """
        operator = schema.OperatorT()
        operator.opcodeIndex = self._code(getattr(schema.BuiltinOperator, name), version)
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        if options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
            for field, value in fields.items():
                getattr(operator.builtinOptions, field)
                setattr(operator.builtinOptions, field, value)
        self._graph.operators.append(operator)

    def serialise(self, inputs: list[int], outputs: list[int]) -> bytes:
        """The bytes of the file, with these tensors as its inputs and outputs."""
        self._graph.inputs, self._graph.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        self._model.subgraphs = [self._graph]
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(self._model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _tensor(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], buffer: int) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.type, tensor.buffer = name, _TYPES[dtype], buffer
        tensor.shape, tensor.hasRank = np.array(shape, np.int32), True
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _code(self, builtin: int, version: int) -> int:
        if (builtin, version) not in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode, code.version = builtin, version
            code.deprecatedBuiltinCode = min(builtin, _LAST_OLD_CODE)
            self._codes[builtin, version] = len(self._model.operatorCodes)
            self._model.operatorCodes.append(code)
        return self._codes[builtin, version]
