"""Reads published latency tables and op lists (``networks/*.json``, ``latency.csv``) as measured rows for a fit."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwprofiles.fit import MeasuredNetwork
from hwprofiles.workload import GRAPH_INPUT, Kind, Workload

Op = Mapping[str, Any]
_KINDS: dict[str, Kind] = {
    "conv": "conv", "depthwise_conv": "conv", "grouped_conv": "conv", "linear": "dense",
    "add": "elementwise", "mul": "elementwise", "hswish": "elementwise", "hsigmoid": "elementwise",
    "sigmoid": "elementwise", "clip": "elementwise", "relu": "elementwise", "relu6": "elementwise", "batch_norm": "norm",
    "max_pool": "pool", "avg_pool": "pool", "global_avg_pool": "global_pool",
    "concat": "data_movement", "pad": "data_movement", "slice": "data_movement", "resize": "data_movement",
}  # fmt: skip
_ACTIVATIONS = {"relu", "relu6"}
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


def read_networks(folder: Path) -> dict[str, tuple[Workload, ...]]:
    """Name to kernels for every op list in ``folder/networks``."""
    return {
        path.stem: tuple(lower(json.loads(path.read_text())["ops"])) for path in sorted(folder.glob("networks/*.json"))
    }


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


def lower(ops: list[Op]) -> list[Workload]:
    """Op list to kernels as LiteRT runs them: folded norms vanish, a ReLU runs inside the kernel before it."""
    kernels: list[Workload] = []
    made_by: dict[int, int] = {}
    consumers: dict[int, int] = {}
    for op in ops:
        for value in op["inputs"]:
            consumers[value] = consumers.get(value, 0) + 1
    for op in ops:
        sources = tuple(made_by[value] for value in op["inputs"])
        if op["type"] == "input":
            made_by[op["id"]] = GRAPH_INPUT
        elif op["type"] == "reshape" or (op["type"] == "batch_norm" and op["folded_into"] is not None):
            made_by[op["id"]] = sources[0]
        elif op["type"] in _ACTIVATIONS and sources[0] != GRAPH_INPUT and consumers[op["inputs"][0]] == 1:
            host = sources[0]
            kernels[host] = dataclasses.replace(kernels[host], fused=(*kernels[host].fused, op["type"]))
            made_by[op["id"]] = host
        else:
            made_by[op["id"]] = len(kernels)
            kernels.append(_kernel(op, sources))
    return kernels


def _kernel(op: Op, sources: tuple[int, ...]) -> Workload:
    first, out = op["input_shapes"][0], op["output_shape"]
    full = [shape for shape in op["input_shapes"] if shape[2:] == first[2:] and len(shape) == 4]
    return Workload(
        name=f"{op['type']}_{op['id']}",
        kind=_KINDS[op["type"]],
        c_in=out[1] if op["type"] == "concat" else first[1],
        c_out=out[1],
        in_hw=_hw(first),
        out_hw=_hw(out),
        kernel=tuple(op.get("kernel", (1, 1))) if op["type"] != "global_avg_pool" else (1, 1),
        stride=tuple(op.get("stride", (1, 1))),
        groups=op.get("groups", 1),
        operands=1 if op["type"] == "concat" else max(1, len(full)),
        sources=sources,
    )


def _hw(shape: list[int]) -> tuple[int, int]:
    return (shape[2], shape[3]) if len(shape) == 4 else (1, 1)
