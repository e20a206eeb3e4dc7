"""An ONNX file of fixed shapes as the engine sees it: its graph, the shape of every value, what is constant."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from hwprofiles.workload import Workload
from search.graph.ir import Array, Graph
from search.graph.onnx.read import load, read
from search.graph.run.fuse import workloads

_UNKNOWN: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
"""Stands for a constant whose value does not matter."""


@dataclasses.dataclass(frozen=True)
class Traced:
    """A file, its graph, the shape of each of its values, and the values that depend on no input."""

    model: bytes
    graph: Graph
    shapes: Mapping[str, tuple[int, ...]]
    static: Mapping[str, Array]

    def workloads(self) -> list[Workload]:
        """Its kernels."""
        return workloads(self.graph, self.shapes, self.static)


def trace(model: bytes, *, rewrite: bool = False) -> Traced:
    """Read a file whose input shapes are fixed; ONNX's own shape inference is quicker than the engine's.

    Args:
        model: an ONNX file.
        rewrite: whether to normalise the graph as a user's model is. What `search.measure.calibrate.builder` writes stays
            as it is, and rewriting a file takes 0.1 s instead of 0.01.
    """
    graph = load(model) if rewrite else read(model)
    inferred = onnx.shape_inference.infer_shapes(onnx.load_from_string(model)).graph
    shapes = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    static = dict(graph.initializers)
    for node in graph.nodes:  # weights that a node makes from constants are weights too
        if all(name in static for name in node.inputs if name):
            static |= dict.fromkeys(node.outputs, _UNKNOWN)
    shapes |= {name: tuple(array.shape) for name, array in graph.initializers.items()}
    return Traced(model, graph, shapes, static)
