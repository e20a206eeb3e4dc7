"""Runs networks in LiteRT, whose CPU kernels are XNNPACK's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from search.formats.litert.write import export_tflite
from search.measure.traced import Traced


def open_interpreter(model: bytes, *, threads: int = 1) -> Any:
    """A LiteRT model, ready to run; with one thread it runs on the calling one."""
    interpreter = Interpreter(model_content=model, num_threads=threads)
    interpreter.allocate_tensors()
    return interpreter


def plain_call(interpreter: Any, *inputs: NDArray[Any]) -> Callable[[], list[NDArray[Any]]]:
    """A call as an application makes it: arrays in, in the file's order and layout, arrays out."""
    into = [detail["index"] for detail in interpreter.get_input_details()]
    out = [detail["index"] for detail in interpreter.get_output_details()]

    def call() -> list[NDArray[Any]]:
        for index, value in zip(into, inputs, strict=True):
            interpreter.set_tensor(index, value)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in out]

    return call


def litert_call(network: Traced, threads: int) -> Callable[[], list[NDArray[Any]]]:
    """A call of a network's LiteRT form on random input."""
    return random_call(export_tflite(network.graph, network.shapes, network.static), threads)


def random_call(model: bytes, threads: int) -> Callable[[], list[NDArray[Any]]]:
    """A call of a LiteRT model on random input."""
    interpreter = open_interpreter(model, threads=threads)
    rng = np.random.default_rng(0)
    shapes = [detail["shape"] for detail in interpreter.get_input_details()]
    return plain_call(interpreter, *(rng.standard_normal(shape, dtype=np.float32) for shape in shapes))
