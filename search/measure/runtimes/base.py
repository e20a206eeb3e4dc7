"""What every runtime of this machine says. To add one: its file, with a `RUNTIME` in it, a stand-in profile, its test."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from hwprofiles.device import LatencyModel
from hwprofiles.kernels import KernelRules, Tiles
from search.graph.ir import Array
from search.measure.cpu import l2_cache_bytes

Call = Callable[[], Sequence[Array]]
"""One inference as an application makes it, arrays in, arrays out; the inputs are laid out before it."""
L3_RETENTIONS_S = (0.25e-3, 0.5e-3, 1e-3, 2e-3, math.inf)
"""How long the shared cache may keep weights beside its other users': the fit decides."""


class Runtime(Protocol):
    """How to run a network here, and what is believed of the kernels that run it. Calibration, stopwatch and proofs use it."""

    title: str
    module: str
    """What has to be installed."""
    profile_id: str
    """The stand-in profile that a calibration fills in."""
    format: str
    """What it loads, of `search.formats.FORMATS`."""
    sequences: bool
    """Whether recurrent networks can be calibrated on."""

    def version(self) -> str:
        """Of the runtime that is installed."""

    def models(self) -> list[LatencyModel]:
        """Kernel rules to try, without coefficients; the fit decides."""

    def call(self, file: bytes, feeds: Mapping[str, Array], threads: int) -> Call:
        """A loaded file on some inputs, which are in the file's order and layout; with one thread it runs on the calling one."""


def with_caches(kernels: KernelRules, tiles: Tiles) -> list[LatencyModel]:
    """Models of these kernels, one for each time that the shared cache may keep weights."""
    l2_bytes = float(l2_cache_bytes())
    return [
        LatencyModel("fitted model", kernels, tiles, None, {"network": {}}, l2_bytes, retention_s)
        for retention_s in L3_RETENTIONS_S
    ]
