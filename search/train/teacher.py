"""The dense network as the teacher of its pruned copies: its outputs and activations for any batch, from ONNX Runtime.

ONNX Runtime computes a forward pass several times faster than a gradient step takes, so nothing needs to be stored, every
batch may be augmented afresh, and the work is done beside the training step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from search.graph.ir import Array, Graph, TensorInfo
from search.graph.onnx.write import export
from search.graph.run.execute import trainable
from search.judge.sessions import Session


class Teacher:
    """A dense graph that answers with its outputs and with the values that pruned copies shall match."""

    def __init__(self, graph: Graph, shapes: Mapping[str, Sequence[int]], values: Sequence[str] = ()) -> None:
        """Open the graph in ONNX Runtime.

        Args:
            graph: the dense network.
            shapes: shape of every value at batch 1.
            values: names of activations to answer with, beside the outputs.
        """
        self.graph = graph
        self.values = tuple(values)
        known = {info.name for info in graph.outputs}
        inner = [
            TensorInfo(name, np.dtype(np.float32), ("N", *shapes[name][1:])) for name in values if name not in known
        ]
        # one thread: the order of sums, and so every bit, is the same in every run
        self._session = Session(export(graph.replace(outputs=(*graph.outputs, *inner))), graph.sampling, threads=1)
        self._names = [info.name for info in (*graph.outputs, *inner)]

    def __call__(self, feeds: Mapping[str, Array]) -> tuple[list[Array], dict[str, Array]]:
        """Outputs, and the values asked for by name, of all samples."""
        found = dict(zip(self._names, self._session(feeds), strict=True))
        return [found[info.name] for info in self.graph.outputs], {name: found[name] for name in self.values}


def tunable(graph: Graph) -> tuple[str, ...]:
    """Weights that training may move: all but the running statistics of batch norm, which its scale and bias subsume."""
    statistics = {name for node in graph.nodes if node.op == "BatchNormalization" for name in node.inputs[3:5]}
    return tuple(name for name in trainable(graph) if name not in statistics)
