"""How long the prices of all options of ResNet-50 take: 42 widths on each side of every kernel, for every profile.

python -m tests.benchmarks.pricing
"""

from __future__ import annotations

import dataclasses
import time

import numpy as np

from hwprofiles.latency import workload_latency_s
from hwprofiles.registry import list_profiles
from hwprofiles.workload import GRAPH_INPUT, Workload

LEVELS = 42


def conv(c_in: int, c_out: int, size: int, kernel: int, stride: int = 1) -> Workload:
    """A convolution on a square map."""
    out = size // stride
    return Workload("conv", "conv", c_in, c_out, (size, size), (out, out), (kernel, kernel), (stride, stride),
                    fused=("Relu",), sources=(GRAPH_INPUT,))  # fmt: skip


def resnet50() -> list[Workload]:
    """The 53 convolutions and the classifier of ResNet-50 at 224 pixels."""
    layers, width, size = [conv(3, 64, 224, 7, 2)], 64, 56
    for inner, blocks in [(64, 3), (128, 4), (256, 6), (512, 3)]:
        for block in range(blocks):
            stride = 2 if inner > 64 and block == 0 else 1
            if block == 0:
                layers.append(conv(width, 4 * inner, size, 1, stride))
            layers.append(conv(width, inner, size, 1))
            layers.append(conv(inner, inner, size, 3, stride))
            width, size = 4 * inner, size // stride
            layers.append(dataclasses.replace(conv(inner, width, size, 1), fused=("Add", "Relu"), sources=(0, 1)))
    return [*layers, Workload("fc", "dense", width, 1000, sources=(0,))]


def widths(full: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """`LEVELS` widths up to the full one; fewer for the picture's three channels."""
    return np.unique(np.linspace(1, full, LEVELS).round().astype(np.int64))


def main() -> None:
    """Print seconds a profile, and the slowest."""
    layers = resnet50()
    macs = sum(layer.macs for layer in layers)
    times = {}
    for profile in list_profiles():
        start = time.process_time()
        pairs = sum(
            np.size(workload_latency_s(w, profile, c_in=widths(w.c_in)[:, None], c_out=widths(w.c_out))) for w in layers
        )
        times[profile.id] = time.process_time() - start
    slowest = max(times, key=lambda name: times[name])
    print(
        f"{len(layers)} layers, {macs / 1e9:.2f} GMACs, {pairs} pairs of widths; seconds of CPU a profile, {len(times)} profiles:"
    )
    print(f"median {np.median(list(times.values())):.3f}, slowest {times[slowest]:.3f} ({slowest})")


if __name__ == "__main__":
    main()
