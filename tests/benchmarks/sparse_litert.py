"""LiteRT files whose 1x1 convolutions with many zeros are stored sparse, as XNNPACK's sparse kernels ask for."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from search.formats.litert.file import TfliteFile
from search.formats.litert.write import write
from search.formats.litert.writer import TfliteWriter
from search.graph.onnx.traced import Traced

SPARSE_FROM = 2 / 3
"""Share of zeros from which LiteRT's converter and XNNPACK treat a weight as sparse."""


def sparse_file(network: Traced) -> bytes:
    """The network in LiteRT's format; equal to `export_tflite` where no weight has enough zeros."""
    return write(_SparseWriter(network.graph, network.shapes, network.static))


class _SparseWriter(TfliteWriter):
    """Stores every 1x1 kernel with enough zeros as compressed rows, and a DENSIFY operator that gives it to its convolution."""

    def constant(self, values: NDArray[Any]) -> int:
        """A constant tensor, or the output of a DENSIFY operator."""
        if values.ndim != 4 or values.shape[1:3] != (1, 1) or np.mean(values == 0) <= SPARSE_FROM:
            return super().constant(values)
        stored = super().constant(values[values != 0])
        _describe(self.file, stored, values)
        dense = self.file.activation("densified", values.shape)
        self.file.operator("DENSIFY", [stored], [dense], "DensifyOptions")
        return dense


def _describe(file: TfliteFile, tensor: int, values: NDArray[Any]) -> None:
    """Say of a tensor of nonzero values where they are: three dense axes, and the last as compressed rows."""
    rows = values.reshape(-1, values.shape[-1])
    sparsity = schema.SparsityParametersT()
    sparsity.traversalOrder = np.arange(4, dtype=np.int32)
    sparsity.dimMetadata = [_dense_axis(size) for size in values.shape[:3]]
    last = schema.DimensionMetadataT()
    last.format = schema.DimensionType.SPARSE_CSR
    last.arraySegmentsType = last.arrayIndicesType = schema.SparseIndexVector.Int32Vector
    last.arraySegments = _vector(np.concatenate([[0], np.cumsum(np.count_nonzero(rows, axis=1))]))
    last.arrayIndices = _vector(np.nonzero(rows)[1])
    sparsity.dimMetadata.append(last)
    described = file._graph.tensors[tensor]
    described.sparsity, described.shape = sparsity, np.array(values.shape, np.int32)


def _dense_axis(size: int) -> Any:
    axis = schema.DimensionMetadataT()
    axis.format, axis.denseSize = schema.DimensionType.DENSE, size
    return axis


def _vector(values: NDArray[Any]) -> Any:
    vector = schema.Int32VectorT()
    vector.values = values.astype(np.int32)
    return vector
