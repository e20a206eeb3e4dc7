"""Fronts of CIFAR-10 ResNets, from the command line and over HTTP, with everything a point promises checked.

    python -m tests.benchmarks.cifar_fronts --shared DIR [--model resnet20 ...] [--speedup 2] [--http] [--twice]

DIR holds ``models/*.onnx`` and ``data/cifar10_test_jpeg4k.npz``. Every job must succeed in ten minutes without
fine-tuning, with six points or more; every file must load in ONNX Runtime, be smaller than the upload, keep its batch
size free, and equal its masked model. ``--http`` submits to a service of its own as well; ``--twice`` asks again and
compares points and bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

MODELS = ("resnet20", "resnet32", "resnet32_bn")
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
FEWEST_POINTS, MOST_SECONDS, LARGEST_ERROR = 6, 600, 1e-4


def data_set(shared: Path, folder: Path, samples: int) -> Path:
    """JPEG-shifted test images as the networks want them: NCHW, scaled and normalised."""
    with np.load(shared / "data" / "cifar10_test_jpeg4k.npz") as stored:
        x, y = stored["x"][:samples].astype(np.float32) / 255, stored["y"][:samples]
    path = folder / "data.npz"
    np.savez(path, x=np.ascontiguousarray(((x - MEAN) / DEVIATION).transpose(0, 3, 1, 2)), y=y)
    return path


def check_files(out: Path, model: Path) -> list[str]:
    """What is wrong with a finished job's files; nothing, if all is well."""
    report = json.loads((out / "report.json").read_text())
    faults = []
    for front in report["fronts"].values():
        if len(front["points"]) < FEWEST_POINTS:
            faults.append(f"{len(front['points'])} points")
        for point in front["points"]:
            path = out / point["artifact"]
            session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            entry = session.get_inputs()[0]
            shapes = [session.run(None, {entry.name: np.zeros((n, 3, 32, 32), np.float32)})[0].shape for n in (1, 5)]
            if (
                shapes != [(1, 10), (5, 10)]
                or not onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0].dim_param
            ):
                faults.append(f"{point['id']}: the batch size is not free")
            if path.stat().st_size >= model.stat().st_size:
                faults.append(f"{point['id']}: not smaller")
            if not point["parity"] <= LARGEST_ERROR:
                faults.append(f"{point['id']}: differs from its masked model by {point['parity']:.1e}")
    return faults


def files_of(out: Path) -> dict[str, bytes]:
    """Every model file by its path."""
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.onnx"))}


def compress(model: Path, data: Path, out: Path, profiles: list[str], speedup: float | None) -> float:
    """One job from the command line; wall seconds."""
    shutil.rmtree(out, ignore_errors=True)
    flags = [flag for profile in profiles for flag in ("--profile", profile)]
    flags += [] if speedup is None else ["--speedup", str(speedup)]
    start = time.monotonic()
    subprocess.run(
        [secateur(), "compress", str(model), "--data", str(data), "--out", str(out), *flags],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.monotonic() - start


def secateur() -> str:
    """The command beside this interpreter."""
    return str(Path(sys.executable).with_name("secateur"))


@contextlib.contextmanager
def service(folder: Path) -> Iterator[str]:
    """A service of its own on a free port; its address."""
    command = [secateur(), "up", "--port", "0", "--data-dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "http://" in line)
        try:
            yield re.findall(r"http://\S+", line)[0].rstrip("/")
        finally:
            process.send_signal(signal.SIGINT)


def over_http(url: str, model: Path, data: Path, out: Path, profiles: list[str]) -> float:
    """The same job through the REST interface; wall seconds from submission to the end."""
    shutil.rmtree(out, ignore_errors=True)
    environment = {**os.environ, "SECATEUR_URL": url}
    flags = [flag for profile in profiles for flag in ("--profile", profile)]
    start = time.monotonic()

    def call(*arguments: str) -> Any:
        done = subprocess.run(
            [secateur(), *arguments, "--json"], check=True, env=environment, capture_output=True, text=True
        )
        return json.loads(done.stdout)

    job = call("submit", str(model), "--data", str(data), *flags)["id"]
    while (found := call("status", job))["status"] not in ("succeeded", "failed", "cancelled", "expired"):
        time.sleep(2)
    seconds = time.monotonic() - start
    if found["status"] != "succeeded":
        raise SystemExit(f"{model.name}: {found['status']}: {found['error']}")
    call("download", job, "--out", str(out))
    return seconds


def row(name: str, way: str, out: Path, seconds: float, faults: list[str]) -> None:
    """One line of the table, and the points below it."""
    report = json.loads((out / "report.json").read_text())
    for profile, front in report["fronts"].items():
        verdict = "; ".join(faults) or "all checks hold"
        slow = "" if seconds < MOST_SECONDS else f" (more than {MOST_SECONDS} s)"
        print(f"{name:12} {way:5} {profile:28} {len(front['points'])} points  {seconds:6.0f} s{slow}  {verdict}")
        for point in front["points"]:
            accuracy, kind = point["accuracy"], point["latency_ms"]["kind"]
            speed = f"{kind} {point['speedup']:.2f}x (predicted {point['predicted_speedup']:.2f}x)"
            quality = f"{100 * accuracy['value']:.2f} % ({100 * accuracy['delta']:+.2f})"
            print(f"{'':18} {point['id']}  {speed}  {quality}  {point['bytes']} bytes  parity {point['parity']:.0e}")


def main() -> None:
    """Run the jobs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--model", action="append", choices=MODELS)
    parser.add_argument("--profile", action="append")
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--speedup", type=float, help="the jobs' objective, from the command line")
    parser.add_argument("--http", action="store_true")
    parser.add_argument("--twice", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("out/cifar_fronts"))
    arguments = parser.parse_args()
    profiles = arguments.profile or ["host-cpu-onnxruntime"]
    bad = 0
    with tempfile.TemporaryDirectory() as temporary:
        data = data_set(arguments.shared, Path(temporary), arguments.samples)
        for name in arguments.model or MODELS:
            model, out = arguments.shared / "models" / f"{name}.onnx", arguments.out / name
            seconds = compress(model, data, out, profiles, arguments.speedup)
            faults = check_files(out, model)
            if arguments.twice:
                compress(model, data, out.with_name(f"{name}-again"), profiles, arguments.speedup)
                faults += (
                    []
                    if files_of(out) == files_of(out.with_name(f"{name}-again"))
                    else ["another run gave other bytes"]
                )
            row(name, "cli", out, seconds, faults)
            bad += len(faults)
            if arguments.http:
                with service(Path(temporary) / name) as url:
                    seconds = over_http(url, model, data, out.with_name(f"{name}-http"), profiles)
                faults = check_files(out.with_name(f"{name}-http"), model)
                row(name, "http", out.with_name(f"{name}-http"), seconds, faults)
                bad += len(faults)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
