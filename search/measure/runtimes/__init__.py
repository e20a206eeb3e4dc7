"""The runtimes of this machine that can be timed, one file each, named as profiles name it, which has a `RUNTIME`."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import platform
from collections.abc import Mapping

import numpy as np

from search.formats import FORMATS
from search.graph.ir import Array
from search.graph.onnx.traced import Traced
from search.measure.cpu import cpu_name, instruction_set, vector_channels
from search.measure.runtimes.base import Call, Runtime
from search.wire.errors import InvalidProfile

RUNTIMES: Mapping[str, Runtime] = {
    module.name: importlib.import_module(f"{__name__}.{module.name}").RUNTIME
    for module in reversed(list(pkgutil.iter_modules(__path__)))
    if module.name != "base"
}
"""By the name that a profile has for it; messages name ONNX Runtime, which runs uploads as they are, first."""


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


def random_call(timed: Runtime, network: Traced, threads: int) -> Call:
    """A call of a network on random input with so many threads."""
    form = FORMATS[timed.format]
    feeds = {info.name: form.given(random_input(network.shapes[info.name])) for info in network.graph.inputs}
    return timed.call(form.write(network), feeds, threads)


def random_input(shape: tuple[int, ...]) -> Array:
    """The same values every time."""
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def identity(runtime_name: str, threads: int) -> dict[str, str]:
    """What tells this machine, and what runs on it, from others: the fields of a profile that a calibration of it has."""
    timed = runtime(runtime_name)
    return {
        "name": f"{cpu_name()}, {timed.title}, {threads} thread{'s' if threads > 1 else ''}",
        "runtime_version": timed.version(),
        "core_type": f"{platform.machine()}, {instruction_set()}, vectors of {vector_channels()} channels",
    }
