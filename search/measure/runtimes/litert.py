"""LiteRT on the CPU, whose kernels are XNNPACK's."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Any

import numpy as np

from hwprofiles.device import LatencyModel
from hwprofiles.kernels import Tiles
from search.graph.ir import Array
from search.measure.cpu import vector_channels
from search.measure.runtimes.base import Call, with_caches


class LiteRTRuntime:
    """A `Runtime`; an extra, so it is loaded when it is first asked."""

    title = "LiteRT"
    module = "ai_edge_litert"
    profile_id = "host-cpu-litert"
    format = "tflite"
    sequences = False

    def version(self) -> str:
        """Of the package."""
        return importlib.metadata.version("ai-edge-litert")

    def models(self) -> list[LatencyModel]:
        """Its products compute 7 positions times one or two vectors of channels together."""
        tiles = [Tiles(c_out=vectors * vector_channels(), positions=7) for vectors in (1, 2)]
        return [model for each in tiles for model in with_caches("nhwc", each)]

    def call(self, file: bytes, feeds: Mapping[str, Array], threads: int) -> Call:
        """Of an interpreter; inputs by position."""
        return plain_call(open_interpreter(file, threads=threads), *map(np.ascontiguousarray, feeds.values()))


RUNTIME = LiteRTRuntime()


def open_interpreter(model: bytes, *, threads: int = 1) -> Any:
    """A LiteRT model, ready to run; with one thread it runs on the calling one."""
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

    interpreter = Interpreter(model_content=model, num_threads=threads)
    interpreter.allocate_tensors()
    return interpreter


def plain_call(interpreter: Any, *inputs: Array) -> Call:
    """A call as an application makes it: arrays in, in the file's order and layout, arrays out."""
    into = [detail["index"] for detail in interpreter.get_input_details()]
    out = [detail["index"] for detail in interpreter.get_output_details()]

    def call() -> list[Array]:
        for index, value in zip(into, inputs, strict=True):
            interpreter.set_tensor(index, value)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in out]

    return call
