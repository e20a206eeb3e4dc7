"""A whole job on ResNet-18 with an operator in its middle that only ONNX Runtime knows.

    python -m tests.benchmarks.foreign_operator [--profile a100-tensorrt-fp16] [--samples 160]

The operator must run, its neighbours must be frozen and say why, the rest must be pruned, and every file must run in ONNX
Runtime. Then the same network with an operator that nobody knows, which must be refused by name.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from search.wire.request import JobSpec, SearchOptions
from tests.search.graph.nets import Net, images

PIXELS, CLASSES = 64, 10


def resnet18(operator: str) -> bytes:
    """ResNet-18 at full width, its batch norms folded, the operator behind the second of its four stages."""
    net = Net(("N", 3, PIXELS, PIXELS), seed=3)
    x = net.op("Relu", net.conv("x", 3, 64, 7, stride=2))
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    before = 64
    for stage, width in enumerate((64, 128, 256, 512)):
        for block in range(2):
            stride = 2 if stage and not block else 1
            y = net.op("Relu", net.conv(x, before, width, stride=stride))
            shortcut = net.conv(x, before, width, 1, stride=stride) if before != width else x
            x = net.op("Relu", net.op("Add", net.conv(y, width, width), shortcut))
            before = width
        if stage == 1:
            x = net.op(operator, x, domain="com.microsoft")
    net.classifier(x, 512, CLASSES)
    return net.bytes()


def run_job(folder: Path, model: bytes, spec: JobSpec, samples: int) -> dict[str, Any]:
    """The report of a job, or its refusal."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(model)
    (folder / "request.json").write_text(spec.to_json())
    x = images(samples, 3, PIXELS, PIXELS)
    np.savez(folder / "data.npz", x=x)
    command = [sys.executable, "-m", "search", "run", str(folder), "--cache-dir", str(folder.parent / "cache")]
    code = subprocess.run(command, check=False).returncode
    answer = folder / ("out/report.json" if code == 0 else "error.json")
    return {"exit code": code, **json.loads(answer.read_text(encoding="utf-8"))}


def main() -> None:
    """Both jobs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="a100-tensorrt-fp16")
    parser.add_argument("--samples", type=int, default=160)
    options = parser.parse_args()
    spec = JobSpec((options.profile,), search=SearchOptions(points=3))
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        report = run_job(Path(folder, "known"), resnet18("QuickGelu"), spec, options.samples)
        print(f"exit code {report['exit code']}, {time.monotonic() - start:.0f} s")
        for group in report["frozen"]:
            print(f"frozen: {group['node']}: {group['reason']}")
        print(f"{len(report['groups'])} groups can be pruned")
        for point in report["fronts"][options.profile]["points"]:
            session = ort.InferenceSession(str(Path(folder, "known", "out", point["artifact"])))
            shape = session.run(None, {"x": images(2, 3, PIXELS, PIXELS)})[0].shape
            print(
                f"{point['id']}: {point['speedup']:.2f} times as fast, {point['parameters']} parameters, runs: {shape}"
            )
        refusal = run_job(Path(folder, "unknown"), resnet18("NoSuchThing"), spec, options.samples)
        print(f"unknown operator: exit code {refusal['exit code']}, {refusal['type']}: {refusal['detail']}")


if __name__ == "__main__":
    main()
