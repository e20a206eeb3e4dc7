"""What a search costs: time by stage, memory, more targets, more layers, and what a killed job loses.

``python -m tests.benchmarks.search_cost PART --shared DIR --workdir DIR`` with PART one of

- ``stages``: whole jobs for ResNet-20 and an inverted-residual network at 64 pixels, time by stage, units, peak memory
- ``layers``: jobs for residual networks of 20 and 38 layers
- ``targets``: a job for one phone, and one for three
- ``resume``: a job killed at 30, 60 and 90 % and started again
- ``allocation``: the knapsack on a ResNet-50

Jobs are child processes; seconds are CPU seconds of the child unless wall is named, because the machine may be shared.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from hwprofiles.registry import load_profile
from search.allocate.knapsack import knapsack
from search.allocate.price import Pricer
from search.allocate.problem import build_problem
from search.graph.ir import Array
from search.graph.onnx.read import load
from search.space.options import options_for
from search.space.plan import Knobs, blocks_of, widths_of
from search.wire.request import JobSpec, SearchOptions
from tests.benchmarks.search_fronts import inputs
from tests.benchmarks.small_networks import mobilenet
from tests.search.graph.nets import Net

PHONES = ("pixel4-1large-tflite-fp32", "pixel4-gpu-tflite-fp32", "s10-1large-tflite-fp32")
HOST = "host-cpu-onnxruntime"
KILLED_AT = (0.3, 0.6, 0.9)


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one job took."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    stage_s: dict[str, float]
    units: int


def job(
    folder: Path, model: bytes, data: Path, profiles: Sequence[str], cache: Path, *, front_points: int = 8
) -> list[str]:
    """A fresh job folder; the command that runs it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model)
    (folder / "request.json").write_text(JobSpec(tuple(profiles), search=SearchOptions(points=front_points)).to_json())
    os.link(data, folder / "data.npz")
    return [sys.executable, "-m", "search", "run", str(folder), "--cache-dir", str(cache)]


def run(folder: Path, command: Sequence[str]) -> Cost:
    """Run a job to its end."""
    start = time.monotonic()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{folder} failed: {(folder / 'error.json').read_text()}")
    report = json.loads((folder / "out" / "report.json").read_text())
    units = len(list((folder / "units").glob("*.npz")))
    seconds = usage.ru_utime + usage.ru_stime
    return Cost(time.monotonic() - start, seconds, usage.ru_maxrss * 1024, report["stage_s"], units)


def line(name: str, cost: Cost) -> str:
    """One row."""
    stages = ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in cost.stage_s.items())
    memory = f"{cost.peak_bytes / 2**30:.2f} GiB"
    rate = f"{cost.units / cost.cpu_s:.2f} units a CPU second"
    return f"{name:28} {cost.cpu_s:5.0f} s CPU, {cost.wall_s:5.0f} s wall, {memory}, {rate}; wall by stage: {stages}"


def at_64_pixels(model: bytes, data: Path, workdir: Path) -> tuple[bytes, Path]:
    """The trained inverted-residual network and its images, both at twice the size."""
    larger = mobilenet(64).proto()
    weights = {tensor.name: tensor for tensor in onnx.load_from_string(model).graph.initializer}
    for tensor in larger.graph.initializer:
        tensor.CopyFrom(weights[tensor.name])
    path = workdir / "data64.npz"
    if not path.exists():
        with np.load(data) as stored:
            np.savez(path, x=stored["x"][:3000].repeat(2, 2).repeat(2, 3), y=stored["y"][:3000])
    return larger.SerializeToString(), path


def stages(arguments: argparse.Namespace) -> None:
    """Time by stage of two jobs; the host is calibrated before, as it is once per machine."""
    cache = arguments.workdir / "cache"
    model, data = inputs("resnet20", arguments.shared, arguments.workdir)
    small, _ = inputs("mobilenet", arguments.shared, arguments.workdir)
    larger, data64 = at_64_pixels(small.read_bytes(), data, arguments.workdir)
    for name, content, images in (("resnet20", model.read_bytes(), data), ("mobilenet 64 px", larger, data64)):
        folder = arguments.workdir / "jobs" / name.replace(" ", "")
        print(line(name, run(folder, job(folder, content, images, [HOST], cache))), flush=True)


def residual(blocks: int) -> bytes:
    """A CIFAR residual network of 6 * blocks + 2 layers with random weights."""
    net = Net(("N", 3, 32, 32))
    x, before = net.op("Relu", net.conv("x", 3, 16)), 16
    for stage, width in enumerate((16, 32, 64)):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            y = net.conv(net.op("Relu", net.conv(x, before, width, stride=stride)), width, width)
            shortcut = net.conv(x, before, width, 1, stride=stride) if before != width else x
            x, before = net.op("Relu", net.op("Add", y, shortcut)), width
    net.classifier(x, before, 10)
    return net.bytes()


def layers(arguments: argparse.Namespace) -> None:
    """Twice the layers: how much more time."""
    _, data = inputs("resnet20", arguments.shared, arguments.workdir)
    costs = {}
    for blocks in (3, 6):
        folder = arguments.workdir / "jobs" / f"layers{blocks}"
        costs[blocks] = run(folder, job(folder, residual(blocks), data, PHONES[:1], arguments.workdir / "cache"))
        print(line(f"{6 * blocks + 2} layers", costs[blocks]), flush=True)
    print(f"twice the layers cost {costs[6].cpu_s / costs[3].cpu_s:.2f} times the CPU time")


def targets(arguments: argparse.Namespace) -> None:
    """Three targets against one."""
    model, data = inputs(arguments.network, arguments.shared, arguments.workdir)
    costs = []
    for count in (1, 3):
        folder = arguments.workdir / "jobs" / f"targets{count}"
        cache = arguments.workdir / "cache"
        command = job(folder, model.read_bytes(), data, PHONES[:count], cache, front_points=arguments.points)
        costs.append(run(folder, command))
        print(line(f"{arguments.network}, {count} target{'s' * (count > 1)}", costs[-1]), flush=True)
    print(f"three targets cost {costs[1].cpu_s / costs[0].cpu_s:.2f} times the CPU time of one")


def contents(folder: Path) -> dict[str, bytes | str]:
    """Every model file, and the report without its times."""
    files: dict[str, bytes | str] = {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted((folder / "out").rglob("*.onnx"))
    }
    report = json.loads((folder / "out" / "report.json").read_text())
    report.pop("stage_s")
    return {**files, "report": json.dumps(report, sort_keys=True)}


def fraction(folder: Path) -> float:
    """How far a job says it is."""
    events = folder / "events.jsonl"
    lines = events.read_text().splitlines() if events.exists() else []
    return max((json.loads(event).get("fraction", 0.0) for event in lines if event.endswith("}")), default=0.0)


def resume(arguments: argparse.Namespace) -> None:
    """Kill -9 at three places; what is computed again, and whether the results are the same bytes."""
    model, data = inputs(arguments.network, arguments.shared, arguments.workdir)
    cache, root = arguments.workdir / "cache", arguments.workdir / "jobs"
    whole = root / "whole"
    count = arguments.points
    expected = run(whole, job(whole, model.read_bytes(), data, PHONES[:1], cache, front_points=count))
    print(line(f"{arguments.network}, undisturbed", expected), flush=True)
    for share in KILLED_AT:
        folder = root / f"killed{share:.0%}".rstrip("%")
        command = job(folder, model.read_bytes(), data, PHONES[:1], cache, front_points=count)
        child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while fraction(folder) < share and child.poll() is None:
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
        child.wait()
        done = {path.name: path.stat().st_mtime_ns for path in (folder / "units").glob("*.npz")}
        cost = run(folder, command)
        redone = sum((folder / "units" / name).stat().st_mtime_ns != stamp for name, stamp in done.items())
        same = contents(folder) == contents(whole)
        print(
            f"killed at {share:.0%}: {len(done)} of {cost.units} units were done, {redone} of them redone; "
            f"{'the same bytes' if same else 'OTHER BYTES'}; {cost.cpu_s:.0f} s CPU to go on",
            flush=True,
        )


def resnet50() -> bytes:
    """Bottlenecks 3, 4, 6, 3 at 224 pixels with random weights."""
    net = Net(("N", 3, 224, 224))
    x, before = net.op("Relu", net.conv("x", 3, 64, 7, stride=2)), 64
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            y = net.op("Relu", net.conv(x, before, width, 1))
            y = net.conv(net.op("Relu", net.conv(y, width, width, stride=stride)), width, 4 * width, 1)
            shortcut = net.conv(x, before, 4 * width, 1, stride=stride) if not block else x
            x, before = net.op("Relu", net.op("Add", y, shortcut)), 4 * width
    net.classifier(x, before, 1000)
    return net.bytes()


def allocation(_: argparse.Namespace) -> None:
    """The knapsack's table and its answers to 32 budgets, errors being random."""
    knobs = Knobs(load(resnet50()), {"x": (1, 3, 224, 224)})
    rng = np.random.default_rng(0)
    for name in PHONES[:2]:
        pricer = Pricer(knobs, load_profile(name))
        options = options_for(knobs, pricer.profile, ("channel", "depth"))
        errors: dict[str, dict[int | str | float, float]] = {
            group.id: {k: float(e) for k, e in zip(range(1, len(group)), _falling(len(group) - 1, rng), strict=True)}
            for group in knobs.groups.prunable
        }
        errors |= {block.id: {setting: rng.random() for setting in block.settings} for block in knobs.blocks}
        start = time.process_time()
        problem = build_problem(pricer, options, errors)
        built_s = time.process_time() - start
        dense, least = problem.latency_s({}), problem.seconds(problem.fastest())
        for count in (1, 32):
            start = time.process_time()
            plans = [problem.plan(c) for c in knapsack(problem, list(np.geomspace(0.95 * dense, 1.05 * least, count)))]
            seconds = time.process_time() - start
            turned = np.mean([len(widths_of(plan)) + len(blocks_of(plan)) for plan in plans])
            count_of = sum(map(len, problem.options.values()))
            print(
                f"{name}: {len(options)} elements, {count_of} options priced in {built_s:.2f} s; "
                f"{count} budgets in {seconds:.2f} s ({turned:.0f} knobs turned on average)",
                flush=True,
            )


def _falling(count: int, rng: np.random.Generator) -> Array:
    """Random errors that fall with width."""
    return np.sort(rng.random(count))[::-1]


def main() -> None:
    """Run one part."""
    parts = {"stages": stages, "layers": layers, "targets": targets, "resume": resume, "allocation": allocation}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=sorted(parts))
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--workdir", type=Path, default=Path("out/search_fronts"))
    parser.add_argument("--network", default="mobilenet", choices=("resnet20", "mobilenet", "vit"))
    parser.add_argument("--points", type=int, default=8, help="points of the front, for `resume` and `targets`")
    arguments = parser.parse_args()
    parts[arguments.part](arguments)


if __name__ == "__main__":
    main()
