"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping

import onnxruntime as ort

from hwprofiles.device import LatencyModel
from hwprofiles.kernels import Tiles
from search.graph.ir import Array
from search.measure.benchmark import open_session, plain_call
from search.measure.cpu import vector_channels
from search.measure.runtimes.base import Call, with_caches


class OnnxRuntime:
    """A `Runtime`."""

    title = "ONNX Runtime"
    module = "onnxruntime"
    profile_id = "host-cpu-onnxruntime"
    format = "onnx"
    sequences = True

    def version(self) -> str:
        """Of the package."""
        return str(ort.__version__)

    def models(self) -> list[LatencyModel]:
        """Its blocked layout holds as many channels together as a vector does."""
        block = vector_channels()
        return with_caches("nchwc", Tiles(c_out=block, c_in=block, panel=4 * block, block=block))

    def call(self, file: bytes, feeds: Mapping[str, Array], threads: int) -> Call:
        """Of a session."""
        return plain_call(open_session(file, threads=threads), feeds)


RUNTIME = OnnxRuntime()
