"""The runtimes of this machine that can be timed: one entry each in `RUNTIMES`."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import math
from collections.abc import Callable

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from hwprofiles.device import LatencyModel
from hwprofiles.kernels import KernelRules, Tiles
from search.measure.benchmark import open_session, plain_call
from search.measure.cpu import l2_cache_bytes, vector_channels
from search.measure.traced import Traced
from search.wire.errors import InvalidProfile

Call = Callable[[], object]
L3_RETENTIONS_S = (0.25e-3, 0.5e-3, 1e-3, 2e-3, math.inf)
"""How long the shared cache may keep weights beside its other users': the fit decides."""


@dataclasses.dataclass(frozen=True)
class Runtime:
    """How to run a network here, and what is believed of the kernels that run it."""

    title: str
    module: str
    profile_id: str
    """The stand-in profile that a calibration fills in."""
    version: Callable[[], str]
    call: Callable[[Traced, int], Call]
    """A call of a network on random input with so many threads, as an application makes it."""
    models: Callable[[], list[LatencyModel]]
    """Kernel rules to try, without coefficients; the fit decides."""


def runtime(name: str) -> Runtime:
    """The runtime of that name.

    Raises:
        InvalidProfile: unknown here, or not installed.
    """
    if name not in RUNTIMES:
        raise InvalidProfile(f"runtime `{name}` cannot be timed on this machine; it can time {', '.join(RUNTIMES)}")
    if not is_installed(name):
        raise InvalidProfile(f"{RUNTIMES[name].title} is not installed: pip install 'secateur[{name}]'")
    return RUNTIMES[name]


def is_installed(name: str) -> bool:
    """Whether a runtime of the table can be imported."""
    return importlib.util.find_spec(RUNTIMES[name].module) is not None


def random_input(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The same values every time."""
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _onnxruntime_call(network: Traced, threads: int) -> Call:
    feeds = {info.name: random_input(network.shapes[info.name]) for info in network.graph.inputs}
    return plain_call(open_session(network.model, threads=threads), feeds)


def _litert_call(network: Traced, threads: int) -> Call:
    from search.measure.litert import litert_call  # an extra  # noqa: PLC0415

    return litert_call(network, threads)


def _onnxruntime_models() -> list[LatencyModel]:
    block = vector_channels()
    return _with_caches("nchwc", Tiles(c_out=block, c_in=block, panel=4 * block, block=block))


def _litert_models() -> list[LatencyModel]:
    """XNNPACK's products compute 7 positions times one or two vectors of channels together."""
    return [
        model
        for vectors in (1, 2)
        for model in _with_caches("nhwc", Tiles(c_out=vectors * vector_channels(), positions=7))
    ]


def _with_caches(kernels: KernelRules, tiles: Tiles) -> list[LatencyModel]:
    l2_bytes = float(l2_cache_bytes())
    return [
        LatencyModel("fitted model", kernels, tiles, None, {"network": {}}, l2_bytes, retention_s)
        for retention_s in L3_RETENTIONS_S
    ]


RUNTIMES = {
    "onnxruntime": Runtime(
        "ONNX Runtime",
        "onnxruntime",
        "host-cpu-onnxruntime",
        lambda: str(ort.__version__),
        _onnxruntime_call,
        _onnxruntime_models,
    ),
    "litert": Runtime(
        "LiteRT",
        "ai_edge_litert",
        "host-cpu-litert",
        lambda: importlib.metadata.version("ai-edge-litert"),
        _litert_call,
        _litert_models,
    ),
}
