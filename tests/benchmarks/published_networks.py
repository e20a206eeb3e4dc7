"""Reads published latencies (``latency.csv``) and their networks (``onnx/*.onnx``) as measured rows for a fit."""

from __future__ import annotations

import csv
import functools
import re
from pathlib import Path

from hwprofiles.fit import MeasuredNetwork
from hwprofiles.workload import Workload
from search.graph.onnx.traced import trace

_FAMILIES = {
    "resnet": r"(se|pre|sepre)?resnet(bc)?\d+b?",
    "resnext": r"resnext.*",
    "mobilenetv2": r"mobilenetv2b?_.*",
    "squeezenet": r"squeeze.*",
}
"""Names whose networks share most of their layers, so that they are kept aside together."""


def family(name: str) -> str:
    """The family of a network: its name without sizes, and near relatives under one name."""
    for label, pattern in _FAMILIES.items():
        if re.fullmatch(pattern, name):
            return label
    return re.sub(r"_.*|(v3|\d).*", "", name)


@functools.cache
def read_networks(folder: Path) -> dict[str, tuple[Workload, ...]]:
    """Name to kernels for every file of ``folder/onnx``, lowered as a user's model is when its latency is predicted."""
    files = sorted(folder.glob("onnx/*.onnx"))
    return {path.stem: tuple(trace(path.read_bytes(), rewrite=True).workloads()) for path in files}


def read_rows(folder: Path, device: str, cores: str, runtime: str, dtype: str) -> list[MeasuredNetwork]:
    """Measured rows of one setting of ``folder/latency.csv``."""
    networks = read_networks(folder)
    wanted = {"device": device, "cores": cores, "runtime": runtime, "dtype": dtype}
    with (folder / "latency.csv").open(newline="") as table:
        chosen = [row for row in csv.DictReader(table) if wanted.items() <= row.items() and row["network"] in networks]
    return [
        MeasuredNetwork(
            row["network"], family(row["network"]), networks[row["network"]], float(row["latency_ms"]) * 1e-3
        )
        for row in chosen
    ]
