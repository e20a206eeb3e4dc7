"""What recovery gives back along the front of a CIFAR-10 ResNet: repair only, training without labels, training with labels.

    python -m tests.benchmarks.recovery --shared DIR [--model resnet20] [--way repair ...] [--minutes 10] [--points 6]
        [--at 1.5 2 3] [--plot SVG]

DIR holds ``models/*.onnx`` and ``data/cifar10_*.npz``. Every way is one job on the 20,000 training images (none for
``data-free``), kept under ``--out`` and resumed there. The files of its front are then timed against the dense network in
turn, in thread CPU time, and judged on images that no job has seen: 500 clean ones and 4,000 that went through JPEG.
The job is asked for points at the speed-ups of ``--at``; at each of them stands the point that the job's own report calls
most accurate among those at least as fast.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from matplotlib import pyplot as plt

from search.graph.ir import Array
from search.judge.sessions import Session
from search.measure.benchmark import measure_interleaved
from search.wire.report import Report
from search.wire.request import Constraints, JobSpec, Objective, SearchOptions

MEAN, DEVIATION = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
WAYS = {
    "repair": (True, False),
    "unlabelled": (False, True),
    "labelled": (True, True),
    "data-free": (None, True),
    "one-round": (True, True),
}
"""Name to whether the job gets labels (None: no data at all) and whether it trains; `one-round` halves nothing."""
ENGINE = """
import pathlib, sys, time
from search.train import minutes
from search.__main__ import main
def timed(*arguments, **options):
    start = time.process_time()
    try:
        return recover(*arguments, **options)
    finally:
        with (pathlib.Path(sys.argv[2]) / "training_cpu_s").open("a") as file:
            print(time.process_time() - start, file=file)
recover, minutes.Courses.recover = minutes.Courses.recover, timed
if {one_round}:
    minutes.seconds_of_rounds = lambda seconds, rounds: [seconds]
raise SystemExit(main())
"""
"""A job as ever, but that it notes the processor time of its training; `one-round` halves nothing."""
SETS = {"dev500": "500 clean test images", "jpeg4k": "4,000 test images after JPEG"}
SPEEDUPS = (1.5, 2.0, 3.0)
TARGET = "host-cpu-onnxruntime"


def images(shared: Path, name: str) -> tuple[Array, Array]:
    """Images (N, 3, 32, 32) as the networks want them, and labels."""
    with np.load(shared / "data" / f"cifar10_{name}.npz") as stored:
        x, y = stored["x"].astype(np.float32) / 255, stored["y"].astype(np.int64)
    return np.ascontiguousarray(((x - MEAN) / DEVIATION).transpose(0, 3, 1, 2)), y


def prepare(
    folder: Path, shared: Path, model: str, way: str, minutes: float, points: int, at: tuple[float, ...]
) -> None:
    """Write a job directory, unless it is there."""
    labelled, trains = WAYS[way]
    folder.mkdir(parents=True, exist_ok=True)
    spec = JobSpec(
        (TARGET,),
        Objective(max_accuracy_drop=0.01),
        Constraints(structures=("channel", "depth")),
        SearchOptions(points=points, at_speedups=at, finetune_minutes=minutes if trains else 0, deadline_minutes=120),
    )
    (folder / "request.json").write_text(spec.to_json())
    (folder / "model.onnx").write_bytes((shared / "models" / f"{model}.onnx").read_bytes())
    if labelled is not None and not (folder / "data.npz").exists():
        x, y = images(shared, "train20k")
        if labelled:
            np.savez(folder / "data.npz", x=x, y=y)
        else:
            np.savez(folder / "data.npz", x=x)


def run(folder: Path, cache: Path, way: str) -> Report:
    """The job's report; the job goes on from where it was, or is not run again at all."""
    path = folder / "out" / "report.json"
    if not path.exists() or not Report.from_json(path.read_text()).complete:
        engine = ENGINE.format(one_round=way == "one-round")
        subprocess.run([sys.executable, "-c", engine, "run", str(folder), "--cache-dir", str(cache)], check=True)
    return Report.from_json(path.read_text())


def training_cpu_s(folder: Path) -> float:
    """Of all attempts at a job, on all cores together."""
    path = folder / "training_cpu_s"
    return sum(float(line) for line in path.read_text().splitlines()) if path.exists() else 0.0


def judge(folder: Path, report: Report, shared: Path) -> list[dict[str, float]]:
    """One row a point, the dense network first: speed-up measured here, accuracy on both test sets, in per cent."""
    front = report.fronts[TARGET]
    files = [(folder / "out" / point.artifact).read_bytes() for point in (front.dense, *front.points)]
    sets = {name: images(shared, f"test_{name}") for name in SETS}
    name = input_name(files[0])
    timings = measure_interleaved(files, {name: sets["dev500"][0][:1]}, rounds=40, threads=1)
    rows = []
    for point, model, timing in zip((front.dense, *front.points), files, timings, strict=True):
        session = Session(model)
        hits = {key: 100 * float((session({name: x})[0].argmax(1) == y).mean()) for key, (x, y) in sets.items()}
        rows.append({"speedup": 1 / timing.ratio, "reported": point.accuracy.value, **hits})
    return rows


def input_name(model: bytes) -> str:
    """Of an ONNX file's first input."""
    return str(onnx.load_from_string(model).graph.input[0].name)


def show(title: str, rows: list[dict[str, float]], at: tuple[float, ...]) -> None:
    """The whole front, then the points at the speed-ups asked for."""
    dense, *points = rows
    print(f"{title}: dense {dense['dev500']:.1f} / {dense['jpeg4k']:.1f} (clean-500 / JPEG), then speed-up: change")
    for row in sorted(points, key=lambda row: -row["speedup"]):
        print(f"  {row['speedup']:.2f}x: {_change(row, dense)}")
    for level in at:
        fast = [row for row in points if row["speedup"] >= level]
        best = max(fast, key=lambda row: row["reported"], default=None)
        print(f"  at {level}x: " + (f"{_change(best, dense)} ({best['speedup']:.2f}x)" if best else "no point"))


def draw(path: Path, fronts: Mapping[str, list[dict[str, float]]]) -> None:
    """Accuracy against speed-up on both test sets, one line a way, as SVG."""
    figure, panels = plt.subplots(1, len(SETS), figsize=(9.6, 3.8), layout="constrained")
    for axes, (key, title) in zip(panels, SETS.items(), strict=True):
        for (way, rows), marker in zip(fronts.items(), "osD^v", strict=False):
            line = sorted(rows, key=lambda row: row["speedup"])
            axes.plot([row["speedup"] for row in line], [row[key] for row in line], marker=marker, ms=5, label=way)
        axes.axhline(next(iter(fronts.values()))[0][key], color="grey", lw=0.8, ls="--", label="dense")
        axes.set(title=title, xlabel="speed-up, measured", ylabel="top-1 accuracy, %", xlim=(0.9, 4), ylim=(50, 100))
        axes.grid(visible=True, lw=0.4)
    panels[0].legend(frameon=False, loc="lower left")
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "recovery"}):
        figure.savefig(path, metadata={"Date": None, "Creator": None})


def _change(row: dict[str, float], dense: dict[str, float]) -> str:
    return f"{row['dev500'] - dense['dev500']:+.1f} / {row['jpeg4k'] - dense['jpeg4k']:+.1f}"


def main() -> None:
    """Run what is missing, print every way's front."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--model", default="resnet20", choices=("resnet20", "resnet32", "resnet32_bn"))
    parser.add_argument("--way", action="append", choices=WAYS)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--points", type=int, default=6)
    parser.add_argument("--at", type=float, nargs="+", default=SPEEDUPS, help="speed-ups that a point is wanted at")
    parser.add_argument("--out", type=Path, default=Path("out/recovery"))
    parser.add_argument("--cache-dir", type=Path, default=Path("out/cache"))
    parser.add_argument("--plot", type=Path, help="where to draw the fronts")
    arguments = parser.parse_args()
    fronts, at = {}, tuple(arguments.at)
    for way in arguments.way or ("repair", "unlabelled", "labelled", "data-free"):
        name = f"{arguments.model}-{way}-{arguments.minutes:g}-{arguments.points}-at-{'-'.join(f'{s:g}' for s in at)}"
        folder = arguments.out / name
        prepare(folder, arguments.shared, arguments.model, way, arguments.minutes, arguments.points, at)
        report = run(folder, arguments.cache_dir, way)
        path = folder / "judged.json"
        rows = json.loads(path.read_text()) if path.exists() else judge(folder, report, arguments.shared)
        if report.complete:
            path.write_text(json.dumps(rows))
        show(f"{arguments.model}, {way}, {training_cpu_s(folder):.0f} s of processor time for training", rows, at)
        fronts[way] = rows
    if arguments.plot:
        draw(arguments.plot, fronts)


if __name__ == "__main__":
    main()
