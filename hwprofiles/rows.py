"""A user's measured rows to a profile: what a device that is not here took for networks that we made.

A manifest lists the networks with their kernels, so that a fit needs neither the files nor a library that reads them.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hwprofiles.device import DeviceProfile, LatencyModel
from hwprofiles.errors import UnfitRows
from hwprofiles.fit import Fit, MeasuredNetwork, fit
from hwprofiles.registry import parse_as
from hwprofiles.workload import Workload

MAX_DISAGREEMENT = 1.5
"""Two measurements of one network further apart than this factor contradict each other."""
MAX_ERROR = 0.5
"""A fit that misses networks kept aside by more than this on average says nothing of the device."""
GPU_OUTPUTS = (1 << 12, 1 << 14, 1 << 16)
"""Outputs that a GPU may compute together: the fit decides."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured network."""

    network: str
    latency_ms: float
    workloads: tuple[Workload, ...]
    family: str = ""
    """Networks of one family are kept aside together; each is its own where this is empty."""


@dataclasses.dataclass(frozen=True)
class Planned:
    """One network of a manifest."""

    network: str
    family: str
    workloads: tuple[Workload, ...]


def parse_rows(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Rows from JSON values.

    Raises:
        MalformedProfile: names the row and the field that does not fit, what was found and what is allowed.
    """
    return [parse_as(dict(row), Row, f"rows.{number}") for number, row in enumerate(rows)]


def profile_from_rows(profile_id: str, name: str, like: DeviceProfile, rows: Iterable[Row]) -> DeviceProfile:
    """Fit the device that gave ``rows``.

    Args:
        profile_id: id of the new profile.
        name: for people.
        like: a profile of the same runtime, data type, channel grid and rules; its kernel rules and tiles are kept.
        rows: measurements; one network may occur several times, and the median of these counts.

    Raises:
        UnfitRows: too few networks, times that contradict each other, or a fit that predicts nothing.
        MalformedProfile: the id does not fit.
    """
    measured = _merged(list(rows))
    fitted = _best_fit(measured, like)
    if fitted.error.mape > MAX_ERROR:
        raise UnfitRows(
            f"networks kept aside are missed by {fitted.error.mape:.0%} on average, more than {MAX_ERROR:.0%}: the times do not "
            "follow from the kernels; check that they are in milliseconds, of one setting, and of these networks"
        )
    return dataclasses.replace(
        like,
        id=profile_id,
        name=name,
        latency=fitted.model,
        provenance="measured by a user",
        source=f"{len(measured)} networks timed by a user of this installation; rules and tiles of {like.id}",
        licence="the user's own",
        date=dt.datetime.now(tz=dt.UTC).date().isoformat(),
        held_out_error=fitted.error,
        calibrated=True,
        measurable_here=False,
        notes=(),
    )


def _best_fit(measured: list[MeasuredNetwork], like: DeviceProfile) -> Fit:
    model = like.latency
    skeleton = LatencyModel("fitted model", model.kernels, model.tiles, paths={"network": {}})
    tiles = [model.tiles]
    if model.kernels == "gpu":
        tiles = [dataclasses.replace(model.tiles, outputs=outputs) for outputs in GPU_OUTPUTS]
    fits = [fit(measured, dataclasses.replace(skeleton, tiles=choice), like.bytes_per_element) for choice in tiles]
    return min(fits, key=lambda fitted: fitted.error.mape)


def _merged(rows: list[Row]) -> list[MeasuredNetwork]:
    """One row a network; the median of several measurements.

    Raises:
        UnfitRows: measurements of one network contradict each other.
    """
    times_ms: dict[str, list[float]] = collections.defaultdict(list)
    for row in rows:
        if not row.latency_ms > 0:
            raise UnfitRows(f"network `{row.network}`: latency_ms is {row.latency_ms}; it must be a number above 0")
        times_ms[row.network].append(row.latency_ms)
    for network, times in times_ms.items():
        if max(times) > MAX_DISAGREEMENT * min(times):
            raise UnfitRows(
                f"network `{network}` took {min(times):g} and {max(times):g} ms: measurements further apart than a factor of "
                f"{MAX_DISAGREEMENT:g} contradict each other; measure again on an idle device with a fixed clock"
            )
    last = {row.network: row for row in rows}
    return [
        MeasuredNetwork(
            name, row.family or name, row.workloads, sorted(times_ms[name])[len(times_ms[name]) // 2] * 1e-3
        )
        for name, row in last.items()
    ]


def write_manifest(path: Path, networks: Iterable[Planned]) -> None:
    """The networks of an export with their kernels, as JSON."""
    listed = [dataclasses.asdict(network) for network in networks]
    path.write_text(json.dumps({"networks": listed}), encoding="utf-8")


def read_results(results: Path) -> list[Row]:
    """Rows of a ``results.csv`` (columns network, latency_ms) beside its ``manifest.json``.

    Raises:
        UnfitRows: no manifest, no such columns, or a network that the manifest does not list.
        MalformedProfile: the manifest is damaged.
    """
    manifest = results.with_name("manifest.json")
    if not manifest.is_file():
        raise UnfitRows(f"{manifest} is missing; keep the results beside the manifest of `secateur calibrate --export`")
    listed = json.loads(manifest.read_text(encoding="utf-8"))["networks"]
    planned = {network["network"]: parse_as(network, Planned, "manifest") for network in listed}
    with results.open(newline="", encoding="utf-8") as table:
        reader = csv.DictReader(table)
        if not {"network", "latency_ms"} <= set(reader.fieldnames or ()):
            raise UnfitRows(f"{results} has the columns {reader.fieldnames}; it needs network and latency_ms")
        return [_row(planned, line, reader.line_num) for line in reader if line["latency_ms"]]


def _row(planned: Mapping[str, Planned], line: Mapping[str, str], number: int) -> Row:
    network = planned.get(line["network"])
    if network is None:
        raise UnfitRows(f"line {number}: the manifest has no network `{line['network']}`; use the names of the export")
    try:
        latency_ms = float(line["latency_ms"])
    except ValueError as error:
        raise UnfitRows(f"line {number}: latency_ms is {line['latency_ms']!r}; it must be a number") from error
    return Row(network.network, latency_ms, network.workloads, network.family)
