"""Fits Pixel 3 and Raspberry Pi 4 to 200 measured architectures of NAS-Bench-201 and judges on all the others.

    python -m tests.benchmarks.nas_bench --latency-dir DIR [--write] [--seed 0]

DIR holds ``nasbench201.csv.gz``, from HW-NAS-Bench, which timed every architecture. Architectures whose output does not depend
on the input are left out: what was timed for them is not recorded. ``--write`` replaces the profiles in hwprofiles/devices.
"""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import gzip
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import hwprofiles
from hwprofiles.device import DeviceProfile, LatencyModel
from hwprofiles.fit import Fit, MeasuredNetwork, Regression, fit, held_out_error
from hwprofiles.kernels import Tiles
from hwprofiles.registry import save_profile
from hwprofiles.workload import GRAPH_INPUT, Workload
from tests.benchmarks.fit_phones import XNNPACK_SPARSE, none_executed

FITTED_TO = 200
FLOAT_BYTES = 4.0
TILES = Tiles(c_out=8, positions=6)
"""As the other profiles of LiteRT on 64-bit ARM cores."""
SOURCE = "github.com/HayeonLee/HELP@45f70eb; Li et al., HW-NAS-Bench, ICLR 2021 (github.com/RICE-EIC/HW-NAS-Bench)"
TARGETS = {
    "pixel3": ("Google Pixel 3 (Snapdragon 845), LiteRT, fp32", "Kryo 385"),
    "raspi4": ("Raspberry Pi 4 Model B (BCM2711), LiteRT, fp32", "Cortex-A72"),
}
"""Column to name and core."""
Cell = list[list[tuple[str, int]]]
"""For nodes 1 to 3: the operations that end there, each with the node it starts from."""


def parse(arch: str) -> Cell:
    """The cell of an ``arch_str`` as it was timed.

    A ``none`` edge is zeros times its source. It is absent, and its source is not computed for it, unless its node has no other
    edge or node 2 has such an edge beside it. This was read off the measurements: cells that differ only in parts that are
    dead by this rule take the same time.
    """
    nodes = [
        [(op, int(source)) for op, source in (edge.split("~") for edge in node.strip("|").split("|"))]
        for node in arch.split("+")
    ]
    kept = "none" in {op for op, _ in nodes[1]}
    cell = [edges if kept else [edge for edge in edges if edge[0] != "none"] or edges for edges in nodes]
    needed = {3}
    for number in (3, 2, 1):
        if number in needed:
            needed |= {source for _, source in cell[number - 1]}
    return [edges if number in needed else [] for number, edges in enumerate(cell, start=1)]


def depends_on_input(arch: str) -> bool:
    """Whether anything but zeros reaches the output of the cell."""
    reached = {0}
    for number, edges in enumerate(parse(arch), start=1):
        if any(op != "none" and source in reached for op, source in edges):
            reached.add(number)
    return 3 in reached


class Kernels:
    """Appends kernels of square maps."""

    def __init__(self) -> None:
        self.list: list[Workload] = []

    def conv(self, source: int, widths: tuple[int, int], size: int, kernel: int, *, stride: int = 1) -> int:
        """A convolution padded to its input's size; returns its position."""
        out = size // stride
        hw = {"in_hw": (size, size), "out_hw": (out, out), "kernel": (kernel, kernel), "stride": (stride, stride)}
        return self._append(Workload("conv", "conv", *widths, **hw, sources=(source,)))  # type: ignore[arg-type]

    def pool(self, source: int, width: int, size: int, kernel: int, *, stride: int = 1) -> int:
        """An average over windows."""
        out = size // stride
        hw = {"in_hw": (size, size), "out_hw": (out, out), "kernel": (kernel, kernel), "stride": (stride, stride)}
        return self._append(Workload("pool", "pool", width, width, **hw, sources=(source,)))  # type: ignore[arg-type]

    def arithmetic(self, sources: tuple[int, ...], width: int, size: int) -> int:
        """A ReLU of one tensor, or a sum of two."""
        hw = (size, size)
        return self._append(
            Workload("add", "elementwise", width, width, hw, hw, operands=len(sources), sources=sources)
        )

    def last(self, kind: str, widths: tuple[int, int], size: int) -> int:
        """The mean over the map, or the classifier."""
        hw = (size, size)
        return self._append(Workload(kind, kind, *widths, hw, sources=(len(self.list) - 1,)))  # type: ignore[arg-type]

    def _append(self, workload: Workload) -> int:
        self.list.append(workload)
        return len(self.list) - 1


def network(arch: str) -> tuple[Workload, ...]:
    """The kernels of an architecture: a stem, three stages of five cells, residual blocks between them, a head."""
    cell, kernels = parse(arch), Kernels()
    value, width, size = kernels.conv(GRAPH_INPUT, (3, 16), 32, 3), 16, 32
    for stage in range(3):
        for _ in range(5):
            value = _cell(kernels, cell, value, width, size)
        if stage < 2:
            value, width, size = _reduction(kernels, value, width, size), 2 * width, size // 2
    kernels.arithmetic((value,), width, size)
    kernels.last("global_pool", (width, width), size)
    kernels.last("dense", (width, 10), 1)
    return tuple(kernels.list)


def _cell(kernels: Kernels, cell: Cell, value: int, width: int, size: int) -> int:
    nodes = {0: value}
    for node, edges in enumerate(cell, start=1):
        terms = [_edge(kernels, op, nodes[source], width, size) for op, source in edges]
        if terms:
            nodes[node] = terms[0]
        for term in terms[1:]:
            nodes[node] = kernels.arithmetic((nodes[node], term), width, size)
    return nodes[3]


def _edge(kernels: Kernels, op: str, value: int, width: int, size: int) -> int:
    match op:
        case "skip_connect":
            return value
        case "none":
            return kernels.arithmetic((value,), width, size)
        case "avg_pool_3x3":
            return kernels.pool(value, width, size, 3)
        case _:
            return kernels.conv(
                kernels.arithmetic((value,), width, size), (width, width), size, 3 if "3x3" in op else 1
            )


def _reduction(kernels: Kernels, value: int, width: int, size: int) -> int:
    body = kernels.conv(kernels.arithmetic((value,), width, size), (width, 2 * width), size, 3, stride=2)
    body = kernels.conv(kernels.arithmetic((body,), 2 * width, size // 2), (2 * width, 2 * width), size // 2, 3)
    shortcut = kernels.pool(value, width, size, 2, stride=2)
    shortcut = kernels.conv(shortcut, (width, 2 * width), size // 2, 1)
    return kernels.arithmetic((body, shortcut), 2 * width, size // 2)


def read_rows(path: Path, column: str) -> list[MeasuredNetwork]:
    """Measured architectures of one device; each is a family of its own."""
    with gzip.open(path, "rt", newline="") as table:
        rows: list[Mapping[str, str]] = list(csv.DictReader(table))
    return [
        MeasuredNetwork(row["index"], row["index"], network(row["arch_str"]), float(row[column]) * 1e-3)
        for row in rows
        if depends_on_input(row["arch_str"])
    ]


def profile_of(column: str, fitted: Fit, regression_error: object) -> DeviceProfile:
    """The profile to ship, with its error on the architectures that the fit has not seen."""
    name, core = TARGETS[column]
    return DeviceProfile(
        id=f"{column}-cpu-tflite-fp32",
        name=name,
        runtime="tflite",
        runtime_version="not stated",
        dtype="fp32",
        threads=1,
        core_type=core,
        channel_grid=8,
        latency=fitted.model,
        provenance="fitted to published measurements",
        source=SOURCE,
        licence="MIT",
        date=dt.datetime.now(tz=dt.UTC).date().isoformat(),
        sparsity=(XNNPACK_SPARSE, none_executed("nm"), none_executed("block")),
        held_out_error=regression_error,  # type: ignore[arg-type]
        notes=(
            f"Fitted to {FITTED_TO} architectures of NAS-Bench-201: 32 x 32 pictures, 16 to 64 channels, 1x1 and 3x3 kernels.",
            "Layers that these do not have are priced as their nearest relative.",
            "The source does not state how many threads were used.",
        ),
    )


def main() -> None:
    """Fit, print the table, write the files if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency-dir", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="replace the profiles in hwprofiles/devices")
    options = parser.parse_args()
    skeleton = LatencyModel("fitted model", "nhwc", TILES, paths={"network": {}})
    print(f"{'profile':26}{'fitted to':>10}{'judged on':>10}{'MAPE':>8}{'Spearman':>10}{'FLOPs':>9}{'Spearman':>10}")
    for column in TARGETS:
        rows = read_rows(options.latency_dir / "nasbench201.csv.gz", column)
        order = np.random.default_rng(options.seed).permutation(len(rows))
        seen = np.isin(np.arange(len(rows)), order[:FITTED_TO])
        regression = Regression.of(rows, skeleton, FLOAT_BYTES)
        error = held_out_error(regression.predict_s(~seen, fitted_to=seen), regression.latency_s[~seen])
        macs = np.array([float(sum(w.macs for w in row.workloads)) for row in rows])[~seen]
        measured_s = regression.latency_s[~seen]
        flops = held_out_error(macs * np.median(measured_s / macs), measured_s)
        print(f"{column + '-cpu-tflite-fp32':26}{FITTED_TO:10}{error.n:10}{error.mape:8.1%}{error.spearman:10.4f}"
              f"{flops.mape:9.1%}{flops.spearman:10.4f}")  # fmt: skip
        if options.write:
            fitted = fit([row for row, known in zip(rows, seen, strict=True) if known], skeleton, FLOAT_BYTES)
            save_profile(profile_of(column, fitted, error), Path(hwprofiles.__file__).parent / "devices")


if __name__ == "__main__":
    main()
