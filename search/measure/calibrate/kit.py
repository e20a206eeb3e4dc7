"""The kit for a device that is not here: random networks as files, and a script that times them there."""

from __future__ import annotations

from pathlib import Path

from hwprofiles.rows import Planned, write_manifest
from search.formats import FORMATS, is_installed
from search.graph.onnx.traced import trace
from search.measure.calibrate.calibration import random_networks

SCRIPT = """#!/bin/sh
# Times every network of this folder on a device and fills in results.csv (network,latency_ms).
# Fix the clock, let the device cool, close what else runs. Three runs of this script give three rows a network: all are used.
#
#   ./measure.sh onnxruntime    onnxruntime_perf_test of this machine
#   ./measure.sh trtexec        TensorRT of this machine
#   ./measure.sh adb            LiteRT's benchmark_model in /data/local/tmp of a phone
#   ./measure.sh benchmark_model    LiteRT's benchmark_model of this machine; both need the .tflite files, which are here if
#                               the kit was written with 'secateur[litert]' installed
set -eu
cd "$(dirname "$0")"
for file in networks/*.onnx; do
  name=$(basename "$file" .onnx)
  case "${1:-}" in
    onnxruntime)
      ms=$(onnxruntime_perf_test -I -e cpu -x 1 -y 1 -m times -r 50 "$file" |
        awk '/Average inference time cost/ {print $(NF-1)}') ;;
    trtexec)
      ms=$(trtexec --onnx="$file" --fp16 --iterations=50 --avgRuns=50 |
        sed -n 's/.*GPU Compute Time.*median = \\([0-9.]*\\) ms.*/\\1/p') ;;
    adb)
      adb push "networks/$name.tflite" /data/local/tmp/network.tflite >/dev/null
      ms=$(adb shell "cd /data/local/tmp && taskset 80 ./benchmark_model --graph=network.tflite --num_threads=1 --num_runs=50" |
        sed -n 's/.*Inference (avg): \\([0-9.]*\\).*/\\1/p' | awk '{print $1 / 1000}') ;;
    benchmark_model)
      ms=$(benchmark_model --graph="networks/$name.tflite" --num_threads=1 --num_runs=50 2>&1 |
        sed -n 's/.*Inference (avg): \\([0-9.]*\\).*/\\1/p' | awk '{print $1 / 1000}') ;;
    *) echo "usage: $0 onnxruntime | trtexec | adb | benchmark_model" >&2; exit 2 ;;
  esac
  echo "$name,$ms" >> results.csv
done
echo "now: secateur calibrate --import results.csv --id NAME --like PROFILE"
"""


def write_kit(folder: Path, *, networks: int, seed: int = 0) -> int:
    """Write the networks in every format, ``manifest.json``, an empty ``results.csv`` and ``measure.sh``.

    Returns how many networks; formats that are not installed are left out.
    """
    (folder / "networks").mkdir(parents=True, exist_ok=True)
    planned = []
    for number, network in zip(range(networks), random_networks(seed), strict=False):
        name = f"{network.kind}-{number:03}"
        traced = trace(network.model)
        for form in (each for each in FORMATS.values() if is_installed(each)):
            (folder / "networks" / f"{name}{form.suffix}").write_bytes(form.write(traced))
        planned.append(Planned(name, name, tuple(traced.workloads())))
    write_manifest(folder / "manifest.json", planned)
    (folder / "results.csv").write_text("network,latency_ms\n", encoding="utf-8")
    script = folder / "measure.sh"
    script.write_text(SCRIPT, encoding="utf-8")
    script.chmod(0o755)
    return len(planned)
