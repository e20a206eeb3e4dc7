"""Fits the phone profiles to published measurements and prints how well they predict networks kept aside.

    python -m tests.benchmarks.fit_phones --latency-dir DIR [--write] [--only pixel4-1large-tflite-fp32]

DIR holds ``latency.csv`` and ``onnx/*.onnx``, the networks without weights. Every network is predicted twice: by a fit that has
seen none of its family (the error that the file states), and by one that has seen neither its width variants nor a network
whose convolutions overlap with its own by 90 % of the multiplications (how the source was split for evaluation). FLOPs get
the one scale factor that suits all networks best. ``--write`` replaces the files in hwprofiles/devices.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime as dt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import hwprofiles
from hwprofiles.device import BYTES_PER_ELEMENT, DeviceProfile, LatencyModel, SparsityRule, Structure
from hwprofiles.fit import Fit, MeasuredNetwork, Regression, fit, held_out_error
from hwprofiles.kernels import Tiles
from hwprofiles.registry import save_profile
from tests.benchmarks.published_networks import read_rows

RUNTIME, RUNTIME_VERSION = "tflite", "2.10"
SOURCE = "github.com/qed-usc/mobile-ml-benchmark@40ba833; Li, Paolieri, Golubchik, EdgeSys 2024; op lists of pytorchcv 0.0.74"
LICENCE = "MIT"
CPU_TILES = {
    "fp32": Tiles(c_out=8, positions=6),  # XNNPACK: f32-gemm-6x8-minmax-asm-aarch64-neonfma-cortex-a75
    "int8": Tiles(c_out=16, positions=4),  # XNNPACK: qs8-gemm-4x16c4-aarch64-neondot
}
"""The matrix kernels whose tile the file names state."""
GPU_OUTPUTS = (1 << 14, 3 << 13, 1 << 15, 3 << 14, 1 << 16)
"""Outputs that a GPU may compute together: the fit decides."""
NEAR = 0.9
"""Shared part of the multiplications from which two networks are near duplicates."""


@dataclasses.dataclass(frozen=True)
class Device:
    """One phone of latency.csv: the name for people, its GPU and its core classes with the settings measured."""

    name: str
    gpu: str | None
    cores: dict[str, str]
    """Setting of latency.csv to the core type in words."""


_855 = {"large": "Kryo 485 Gold Prime", "med": "Kryo 485 Gold", "small": "Kryo 485 Silver"}
_9820 = {"large": "Exynos M4", "med": "Cortex-A75", "small": "Cortex-A55"}
_710 = {"large": "Kryo 360 Gold", "small": "Kryo 360 Silver"}
_P35 = {"large": "Cortex-A53, 2.3 GHz", "small": "Cortex-A53, 1.8 GHz"}
_A12 = {"large": "Vortex", "small": "Tempest"}


def _cores(words: dict[str, str], *settings: str) -> dict[str, str]:
    """Setting to words, e.g. ``4small`` to ``4 x Cortex-A55``."""
    kinds = {setting: setting.lstrip("0123456789") for setting in settings}
    return {setting: f"{setting.removesuffix(kind)} x {words[kind]}" for setting, kind in kinds.items()}


DEVICES = {
    "pixel4": Device("Google Pixel 4 (Snapdragon 855)", "Adreno 640", _cores(_855, "1large", "1med", "3med", "1small", "4small")),
    "s10": Device("Samsung Galaxy S10 (Exynos 9820)", "Mali-G76", _cores(_9820, "1large", "2large", "1med", "1small", "4small")),
    "mi8se": Device("Xiaomi Mi 8 SE (Snapdragon 710)", "Adreno 616", _cores(_710, "1large", "2large", "1small", "6small")),
    "a03s": Device("Samsung Galaxy A03s (Helio P35)", "PowerVR GE8320", _cores(_P35, "1large", "4large", "1small", "4small")),
    "iphone7": Device("Apple iPhone 7 (A10 Fusion)", "PowerVR GT7600 Plus", _cores({"large": "Hurricane"}, "1large", "2large")),
    "iphonexs": Device("Apple iPhone XS (A12 Bionic)", "Apple G11P", _cores(_A12, "1large", "2large", "1small", "4small")),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Setting:
    """One device and way to run it, named as in latency.csv."""

    device: str
    cores: str
    core_type: str
    dtype: str

    @property
    def id(self) -> str:
        """The profile's id."""
        return f"{self.device}-{self.cores}-{RUNTIME}-{self.dtype}"

    @property
    def is_gpu(self) -> bool:
        """Whether the setting is a GPU's."""
        return self.cores == "gpu"

    @property
    def threads(self) -> int:
        """As many as cores; 1 for a GPU."""
        return 1 if self.is_gpu else int(self.cores.rstrip("adegilmrs"))


SETTINGS = tuple(
    [Setting(name, cores, words, dtype) for name, device in DEVICES.items() for cores, words in device.cores.items()
     for dtype in ("fp32", "int8")]
    + [Setting(name, "gpu", device.gpu, "fp32") for name, device in DEVICES.items() if device.gpu]
)  # fmt: skip

XNNPACK_SPARSE = SparsityRule(
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


def skeletons(setting: Setting) -> list[LatencyModel]:
    """The models to choose from: kernel rules and tiles, without coefficients."""
    bare = LatencyModel(kind="fitted model", kernels="gpu" if setting.is_gpu else "nhwc", paths={"network": {}})
    if not setting.is_gpu:
        return [dataclasses.replace(bare, tiles=CPU_TILES[setting.dtype])]
    return [dataclasses.replace(bare, tiles=Tiles(c_out=4, c_in=4, outputs=outputs)) for outputs in GPU_OUTPUTS]


def fit_setting(rows: list[MeasuredNetwork], setting: Setting) -> Fit:
    """The fit of one setting's rows; every family is kept aside once."""
    families, size = len({row.family for row in rows}), BYTES_PER_ELEMENT[setting.dtype]
    fits = [fit(rows, skeleton, size, folds=families) for skeleton in skeletons(setting)]
    return min(fits, key=lambda fitted: fitted.error.mape)


def profile_of(setting: Setting, fitted: Fit) -> DeviceProfile:
    """The profile to ship."""
    sparse = _NO_GPU_SPARSE if setting.is_gpu else XNNPACK_SPARSE
    if setting.dtype == "int8":
        sparse = none_executed("unstructured")
    return DeviceProfile(
        id=setting.id,
        name=f"{DEVICES[setting.device].name}, {setting.cores}, LiteRT, {setting.dtype}",
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
        + (
            ("The source calls its float models fp32; the GPU computes them in 16-bit floats.",)
            if setting.is_gpu
            else ()
        ),
    )


def by_name_s(rows: list[MeasuredNetwork], setting: Setting, model: LatencyModel) -> NDArray[np.float64]:
    """Every network predicted by a fit without itself, its width variants and its near duplicates."""
    size = BYTES_PER_ELEMENT[setting.dtype]
    regression, numbers = Regression.of(rows, model, size), np.arange(len(rows))
    apart = [np.array([related(row, other) for other in rows]) for row in rows]
    return np.array([regression.predict_s(numbers == i, fitted_to=~apart[i])[0] for i in numbers])


def related(one: MeasuredNetwork, other: MeasuredNetwork) -> bool:
    """Whether two networks are the same but for the width, or share 90 % of their multiplications."""
    if width_base(one.name) == width_base(other.name):
        return True
    ours, theirs = _macs_by_shape(one), _macs_by_shape(other)
    return sum(min(macs, theirs[shape]) for shape, macs in ours.items()) >= NEAR * max(ours.total(), theirs.total())


def width_base(name: str) -> str:
    """The name without its width factor."""
    return name.rpartition("_w")[0] or name


def _macs_by_shape(row: MeasuredNetwork) -> collections.Counter[tuple[object, ...]]:
    counter: collections.Counter[tuple[object, ...]] = collections.Counter()
    for w in row.workloads:
        counter[w.c_in, w.c_out, w.out_hw, w.kernel, w.stride, w.groups] += w.macs
    return counter


def flops_prediction_s(rows: list[MeasuredNetwork]) -> NDArray[np.float64]:
    """Seconds in proportion to MACs."""
    macs = np.array([float(sum(workload.macs for workload in row.workloads)) for row in rows])
    return np.asarray(macs * np.median(np.array([row.latency_s for row in rows]) / macs))


def speedup_error(rows: list[MeasuredNetwork], predicted_s: NDArray[np.float64]) -> float:
    """Mean error of predicted speed-ups between width variants of one network; NaN where there are none."""
    by_base: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        if "_w" in row.name:
            by_base.setdefault(width_base(row.name), []).append(index)
    errors = [
        abs(predicted_s[a] / predicted_s[b] / (rows[a].latency_s / rows[b].latency_s) - 1)
        for members in by_base.values()
        for a in members
        for b in members
        if rows[a].latency_s > rows[b].latency_s
    ]
    return float(np.mean(errors)) if errors else float("nan")


def table_row(predicted_s: NDArray[np.float64], rows: list[MeasuredNetwork]) -> str:
    """MAPE, share within 10 %, rank correlation, error of speed-ups."""
    measured_s = np.array([row.latency_s for row in rows])
    error = held_out_error(predicted_s, measured_s)
    near = np.mean(np.abs(predicted_s / measured_s - 1) <= 0.1)
    return f"{error.mape:7.1%}{near:7.0%}{error.spearman:8.4f}{speedup_error(rows, predicted_s):7.1%}"


def main() -> None:
    """Fit, print the table, write the files if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency-dir", type=Path, required=True)
    parser.add_argument("--write", action="store_true", help="replace the profiles in hwprofiles/devices")
    parser.add_argument("--only", help="one profile id")
    options = parser.parse_args()
    columns = f"{'MAPE':>7}{'<=10 %':>7}{'rank':>8}{'speed':>7}"
    print(f"{'':31}|{'families kept aside':^29} |{'networks kept aside by name':^29} |{'FLOPs':^29}")
    print(f"{'profile':31}|{columns} |{columns} |{columns}", flush=True)
    for setting in SETTINGS:
        if options.only not in {None, setting.id}:
            continue
        rows = read_rows(options.latency_dir, setting.device, setting.cores, RUNTIME, setting.dtype)
        fitted = fit_setting(rows, setting)
        parts = [fitted.held_out_s, by_name_s(rows, setting, fitted.model), flops_prediction_s(rows)]
        print(f"{setting.id:31}|" + " |".join(table_row(part, rows) for part in parts), flush=True)
        if options.write:
            save_profile(profile_of(setting, fitted), Path(hwprofiles.__file__).parent / "devices")


if __name__ == "__main__":
    main()
