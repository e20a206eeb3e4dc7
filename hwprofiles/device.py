"""A device profile: what a target is, what its runtime executes, what a kernel costs, and how well that is known."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import math
import re
from typing import Any, Literal

import cattrs

from hwprofiles.errors import MalformedProfile
from hwprofiles.features import FEATURES
from hwprofiles.kernels import PATHS, KernelRules, Tiles

Structure = Literal["channel", "depth", "block", "nm", "unstructured"]
LatencyKind = Literal["measured table", "fitted model", "roofline"]
Provenance = Literal["measured here", "measured by a user", "fitted to published measurements", "data sheet"]
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
WIDEST_SEEN = 64
"""Channels of the widest layers of NAS-Bench-201, whose rows do not tell multiplications from what a window reads."""
BYTES_PER_ELEMENT = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "int8": 1.0}


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Limits that no kernel can beat: a latency made of them alone is a lower bound."""

    macs_per_s: float
    dram_bytes_per_s: float | None = None
    """None where no source states it: the arithmetic alone bounds the time."""
    kernel_overhead_s: float = 0.0
    """Time to start one kernel; 0 where no source states it."""

    def __post_init__(self) -> None:
        """Rates must be positive."""
        _require_positive("macs_per_s", self.macs_per_s)
        if self.dram_bytes_per_s is not None:
            _require_positive("dram_bytes_per_s", self.dram_bytes_per_s)
        _require(self.kernel_overhead_s >= 0, "kernel_overhead_s", self.kernel_overhead_s, "seconds, 0 or more")


@dataclasses.dataclass(frozen=True)
class LatencyModel:
    """Seconds of a kernel: the roofline, or the sum over features of ``paths[path][feature]`` x feature."""

    kind: LatencyKind
    kernels: KernelRules = "nhwc"
    tiles: Tiles = dataclasses.field(default_factory=Tiles)
    roofline: Roofline | None = None
    paths: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    """Seconds per unit of a feature, by kernel path; the path ``network`` is paid once per inference."""
    l2_bytes: float = math.inf
    """What one core's second-level cache holds of a kernel's tensors or a network's weights; infinite: not modelled."""
    l3_retention_s: float = math.inf
    """How long the shared cache keeps a network's weights; four times as long, and others have pushed out all of them.
    Infinite: not modelled."""

    @functools.cached_property
    def least_s_per_mac(self) -> float:
        """What a multiplication costs at least: the least that any path tells.

        Where none does, as all rows had as many output channels as input ones, it is that of a window's input spread over
        `WIDEST_SEEN` outputs; where nothing is known of windows either, 0.
        """
        told = [table["macs"] for table in self.paths.values() if table.get("macs")]
        hidden = [4 * table["patch_bytes"] / WIDEST_SEEN for table in self.paths.values() if table.get("patch_bytes")]
        return min(told or hidden, default=0.0)

    def __post_init__(self) -> None:
        """The model must have the numbers that its kind needs, none of them negative."""
        for path, coefficients in self.paths.items():
            _require(path in PATHS, f"paths.{path}", path, f"a kernel path: {', '.join(PATHS)}")
            for feature, seconds in coefficients.items():
                field = f"paths.{path}.{feature}"
                _require(feature in FEATURES, field, feature, f"a unit: {', '.join(FEATURES)}")
                _require(
                    math.isfinite(seconds) and seconds >= 0, field, seconds, "seconds per unit, finite and 0 or more"
                )
        for tile in dataclasses.fields(self.tiles):
            width = getattr(self.tiles, tile.name)
            _require(width >= 1, f"tiles.{tile.name}", width, "an integer, 1 or more")
        if self.kind == "roofline":
            _require(self.roofline is not None, "roofline", None, "a table with macs_per_s and dram_bytes_per_s")
        else:
            _require(
                bool(self.paths), "paths", self.paths, "at least one table of coefficients, e.g. [latency.paths.conv]"
            )


@dataclasses.dataclass(frozen=True)
class SparsityRule:
    """Whether a runtime turns one kind of removal into speed."""

    structure: Structure
    executed: bool
    reason: str
    """Why, in words for a person."""
    source: str
    min_level: float = 0.0
    """Share of zeros from which it pays."""
    conditions: tuple[str, ...] = ()
    """What else must hold, in words."""

    def __post_init__(self) -> None:
        """A level is a share."""
        _require(0 <= self.min_level <= 1, "min_level", self.min_level, "a share from 0 to 1")


@dataclasses.dataclass(frozen=True)
class HeldOutError:
    """Error of the latency model on networks that its fit has not seen."""

    mape: float
    """Mean of |predicted / measured - 1|."""
    spearman: float
    n: int
    """Networks kept aside."""
    log_error_q90: float
    """90 % of the networks have |log(predicted / measured)| below this."""

    def __post_init__(self) -> None:
        """Ranges of the statistics."""
        _require(self.mape >= 0, "mape", self.mape, "0 or more")
        _require(-1 <= self.spearman <= 1, "spearman", self.spearman, "a rank correlation from -1 to 1")
        _require(self.n >= 2, "n", self.n, "at least 2 networks")
        _require(self.log_error_q90 >= 0, "log_error_q90", self.log_error_q90, "0 or more")


@dataclasses.dataclass(frozen=True)
class DeviceProfile:
    """A target: device, runtime, what pays off there, the price of every kernel. The TOML file has the same fields."""

    id: str
    name: str
    runtime: str
    runtime_version: str
    dtype: str
    threads: int
    core_type: str
    channel_grid: int
    """Widths between two multiples of this cost as much as the upper one."""
    latency: LatencyModel
    provenance: Provenance
    source: str
    licence: str
    date: str
    """Day of the measurement or fit, or on which the data sheet was read, YYYY-MM-DD."""
    batch: int = 1
    minimum_channels: int | None = None
    """Narrowest width offered; one grid step when None."""
    sparsity: tuple[SparsityRule, ...] = ()
    held_out_error: HeldOutError | None = None
    """None: not validated."""
    calibrated: bool = True
    """False for the stand-in of a device that should be measured where it is."""
    anchors_s: tuple[float, ...] = ()
    """Seconds of the first networks of a calibration of this machine, timed again with every job; empty: none."""
    measurable_here: bool = False
    """True when the device is the host, so that candidates can be timed."""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Names are plain, counts positive, the data type and the date known."""
        _require(
            _ID.fullmatch(self.id) is not None,
            "id",
            self.id,
            "1 to 100 of a-z A-Z 0-9 - _ . with a letter or digit first",
        )
        _require(self.dtype in BYTES_PER_ELEMENT, "dtype", self.dtype, ", ".join(BYTES_PER_ELEMENT))
        for field in ("threads", "channel_grid", "batch"):
            _require(getattr(self, field) >= 1, field, getattr(self, field), "an integer, 1 or more")
        _require(
            self.minimum_channels is None or self.minimum_channels >= 1,
            "minimum_channels",
            self.minimum_channels,
            "1 or more",
        )
        _require(_is_date(self.date), "date", self.date, "a day as YYYY-MM-DD")

    @property
    def latency_kind(self) -> LatencyKind:
        """Where a predicted latency comes from."""
        return self.latency.kind

    @property
    def bytes_per_element(self) -> float:
        """Size of one weight or activation in bytes."""
        return BYTES_PER_ELEMENT[self.dtype]

    def to_dict(self) -> dict[str, Any]:
        """The profile as JSON-able values; an infinite limit of a cache is left out, as JSON has no infinity."""
        fields: dict[str, Any] = cattrs.unstructure(self)
        for limit in ("l2_bytes", "l3_retention_s"):
            if math.isinf(fields["latency"][limit]):
                del fields["latency"][limit]
        return fields


def _require(holds: bool, field: str, found: object, allowed: str) -> None:
    if not holds:
        raise MalformedProfile(field, found, allowed)


def _require_positive(field: str, value: float) -> None:
    _require(math.isfinite(value) and value > 0, field, value, "a finite number above 0")


def _is_date(text: str) -> bool:
    try:
        return dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
