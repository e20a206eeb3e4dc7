"""Fits the phone profiles to published measurements and prints how well they predict networks of families kept aside.

    python -m tests.benchmarks.fit_phones --latency-dir DIR [--write] [--only pixel4-1large-tflite-fp32]

DIR holds ``latency.csv`` and ``onnx/*.onnx``, the networks without weights. Every network is predicted by a fit that has
seen none of its family. FLOPs get the one scale factor that suits all networks best. ``--write`` replaces the files in
hwprofiles/devices.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import hwprofiles
from hwprofiles.device import BYTES_PER_ELEMENT, DeviceProfile, LatencyModel, SparsityRule, Structure
from hwprofiles.fit import Fit, MeasuredNetwork, fit, held_out_error
from hwprofiles.kernels import Tiles
from hwprofiles.registry import save_profile
from tests.benchmarks.published_networks import read_rows

RUNTIME, RUNTIME_VERSION = "tflite", "2.10"
SOURCE = "github.com/qed-usc/mobile-ml-benchmark@40ba833; Li, Paolieri, Golubchik, EdgeSys 2024; op lists of pytorchcv 0.0.74"
LICENCE = "MIT"
FOLDS = 10
KIB = 1024.0
CPU_TILES = Tiles(c_out=8, positions=6)
"""XNNPACK's fp32 matrix kernel for large 64-bit ARM cores computes 6 rows by 8 columns (its src/gemm-config.c)."""
GPU_TILES = Tiles(c_out=4, c_in=4)
"""The LiteRT GPU delegate keeps channels in slices of four."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """One device and way to run it, named as in latency.csv."""

    device: str
    label: str
    cores: str
    core_type: str
    threads: int = 1
    dtype: str = "fp32"
    l2_bytes: float = np.inf
    """Of one core, after the WikiChip pages of the chips; not modelled where infinite."""

    @property
    def id(self) -> str:
        """The profile's id."""
        return f"{self.device}-{self.cores}-{RUNTIME}-{self.dtype}"

    @property
    def is_gpu(self) -> bool:
        """Whether the setting is a GPU's."""
        return self.cores == "gpu"


SETTINGS = (
    Setting("pixel4", "Google Pixel 4 (Snapdragon 855)", "1large", "Kryo 485 Gold Prime", l2_bytes=512 * KIB),
    Setting("pixel4", "Google Pixel 4 (Snapdragon 855)", "1small", "Kryo 485 Silver", l2_bytes=128 * KIB),
    Setting("pixel4", "Google Pixel 4 (Snapdragon 855)", "1large", "Kryo 485 Gold Prime", 1, "int8", 512 * KIB),
    Setting("pixel4", "Google Pixel 4 (Snapdragon 855)", "gpu", "Adreno 640"),
    Setting("s10", "Samsung Galaxy S10 (Exynos 9820)", "1large", "Exynos M4", l2_bytes=1024 * KIB),
    Setting("s10", "Samsung Galaxy S10 (Exynos 9820)", "gpu", "Mali-G76"),
    Setting("mi8se", "Xiaomi Mi 8 SE (Snapdragon 710)", "gpu", "Adreno 616"),
    Setting("iphonexs", "Apple iPhone XS (A12 Bionic)", "1large", "Vortex"),
)

_XNNPACK_SPARSE = SparsityRule(
    structure="unstructured",
    executed=True,
    reason="XNNPACK runs 1x1 convolutions as sparse products, as a switch of a whole cluster of layers",
    source="measured: 66.0 % zeros no, 67.5 % yes; Elsen et al., Fast Sparse ConvNets, CVPR 2020: 1.2 to 2.4 times as fast",
    min_level=2 / 3,
    conditions=(
        "more than 2/3 of the weights of all 1x1 convolutions of the cluster together are zero",
        "the cluster begins with a 3x3 stride 2 convolution of 3 channels with explicit padding",
        "its body has only 1x1 stride 1 and depthwise 3x3 or 5x5 convolutions, additions and products",
        "it ends with a mean over height and width",
        "at least one weight is stored sparse (DENSIFY); with a dense 3x3 in the body the outputs are wrong",
    ),
)
_NO_GPU_SPARSE = SparsityRule(
    "unstructured",
    executed=False,
    reason="the GPU delegate multiplies the zeros",
    source="no sparse kernel in the delegate",
)


def none_executed(structure: Structure) -> SparsityRule:
    """The rule for a pattern that no kernel of LiteRT makes use of."""
    return SparsityRule(
        structure,
        executed=False,
        reason=f"LiteRT has no kernel for {'N:M' if structure == 'nm' else structure} sparsity",
        source="XNNPACK and the GPU delegate: sparse kernels exist for unstructured zeros in 1x1 fp32 convolutions only",
    )


def fit_setting(rows: list[MeasuredNetwork], setting: Setting) -> Fit:
    """The fit of one setting's rows."""
    skeleton = LatencyModel(
        kind="fitted model",
        kernels="nhwc",
        tiles=GPU_TILES if setting.is_gpu else CPU_TILES,
        paths={"network": {}},
        l2_bytes=setting.l2_bytes,
    )
    return fit(rows, skeleton, BYTES_PER_ELEMENT[setting.dtype], folds=FOLDS)


def profile_of(setting: Setting, fitted: Fit) -> DeviceProfile:
    """The profile to ship."""
    sparse = _NO_GPU_SPARSE if setting.is_gpu else _XNNPACK_SPARSE
    if setting.dtype == "int8":
        sparse = none_executed("unstructured")
    return DeviceProfile(
        id=setting.id,
        name=f"{setting.label}, {setting.cores}, LiteRT, {setting.dtype}",
        runtime=RUNTIME,
        runtime_version=RUNTIME_VERSION,
        dtype=setting.dtype,
        threads=setting.threads,
        core_type=setting.core_type,
        channel_grid=4 if setting.is_gpu else 8,
        latency=fitted.model,
        provenance="fitted to published measurements",
        source=SOURCE,
        licence=LICENCE,
        date=dt.datetime.now(tz=dt.UTC).date().isoformat(),
        sparsity=(sparse, none_executed("nm"), none_executed("block")),
        held_out_error=fitted.error,
        notes=("The held-out error is on networks whose whole family the fit had not seen.",)
        + (("The file's label is fp32; the GPU computes in 16-bit floats.",) if setting.is_gpu else ()),
    )


def flops_prediction_s(rows: list[MeasuredNetwork]) -> NDArray[np.float64]:
    """Seconds in proportion to MACs."""
    macs = np.array([float(sum(workload.macs for workload in row.workloads)) for row in rows])
    return np.asarray(macs * np.median(np.array([row.latency_s for row in rows]) / macs))


def speedup_error(rows: list[MeasuredNetwork], predicted_s: NDArray[np.float64]) -> float:
    """Mean error of predicted speed-ups between width variants of one network, held out; NaN where there are none."""
    by_base: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        base, _, width = row.name.rpartition("_w")
        if base and width:
            by_base.setdefault(base, []).append(index)
    errors = [
        abs(predicted_s[a] / predicted_s[b] / (rows[a].latency_s / rows[b].latency_s) - 1)
        for members in by_base.values()
        for a in members
        for b in members
        if rows[a].latency_s > rows[b].latency_s
    ]
    return float(np.mean(errors)) if errors else float("nan")


def main() -> None:
    """Fit, print the table, write the files if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency-dir", type=Path, required=True)
    parser.add_argument("--write", action="store_true", help="replace the profiles in hwprofiles/devices")
    parser.add_argument("--only", help="one profile id")
    options = parser.parse_args()
    print(
        f"{'profile':32}{'n':>4}{'MAPE':>8}{'<=10 %':>8}{'Spearman':>10}{'speed-up':>10}{'FLOPs MAPE':>12}{'Spearman':>10}"
    )
    for setting in SETTINGS:
        if options.only not in {None, setting.id}:
            continue
        rows = read_rows(options.latency_dir, setting.device, setting.cores, RUNTIME, setting.dtype)
        fitted = fit_setting(rows, setting)
        measured_s = np.array([row.latency_s for row in rows])
        flops = held_out_error(flops_prediction_s(rows), measured_s)
        near = np.mean(np.abs(fitted.held_out_s / measured_s - 1) <= 0.1)
        print(f"{setting.id:32}{fitted.error.n:4}{fitted.error.mape:8.1%}{near:8.0%}{fitted.error.spearman:10.3f}"
              f"{speedup_error(rows, fitted.held_out_s):10.1%}{flops.mape:12.1%}{flops.spearman:10.3f}")  # fmt: skip
        if options.write:
            save_profile(profile_of(setting, fitted), Path(hwprofiles.__file__).parent / "devices")


if __name__ == "__main__":
    main()
