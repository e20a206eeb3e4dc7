"""A file as it is in ONNX Runtime, tried at any sizes with values that nobody gave. Loads no JAX."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime as ort

from search.graph.draw import drawn
from search.graph.ir import Array, Graph
from search.graph.sampling import Shape
from search.wire.errors import InvalidModel


class Trial:
    """A file in ONNX Runtime, at any sizes."""

    def __init__(self, proto: onnx.ModelProto, graph: Graph) -> None:
        """Open the file.

        Raises:
            InvalidModel: ONNX Runtime does not open it.
        """
        options = ort.SessionOptions()
        options.log_severity_level = 4
        self._graph = graph
        self._quietly = ort.RunOptions()
        self._quietly.log_severity_level = 4
        try:
            self._session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's own errors have no common class
            raise InvalidModel(
                f"ONNX Runtime does not open the model: {_first_line(error)}; export it for ONNX Runtime"
            ) from error
        self.said = ""
        """Why the last run failed."""
        self.names = [output.name for output in self._session.get_outputs()]

    def feeds(self, shapes: Mapping[str, Shape], seed: int = 0) -> dict[str, Array]:
        """Values of these shapes for every input; the same seed gives the same ones."""
        rng = np.random.default_rng(seed)
        return {info.name: drawn(self._graph, info, shapes[info.name], rng) for info in self._graph.inputs}

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array] | None:
        """All outputs that are arrays; None where the runtime refuses."""
        try:
            made = self._session.run(None, dict(feeds), self._quietly)
        except Exception as error:  # noqa: BLE001 - the runtime's own errors have no common class
            self.said = _first_line(error)
            return None
        return {name: value for name, value in zip(self.names, made, strict=True) if isinstance(value, np.ndarray)}


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
