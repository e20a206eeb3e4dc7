"""A child that speaks the engine's protocol and does nothing else. The model file is JSON and says how.

``units`` of work of ``unit_s`` seconds each; ``kill_at``: dies by SIGKILL before that unit, once; ``kill_always``:
every time; ``wait_at``: the first child does nothing more before that unit until it is ended; ``refuse``: a problem object to
end with; ``deaf``: ignores SIGTERM; ``chatter``: events a unit;
``files``: data files that the model names; ``profiles``: targets that are in the cache;
``silent``: no report; ``spin``: keeps a core busy. Results of finished units are in units/, so that a second run resumes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import cattrs

from search.wire.errors import InvalidModel
from search.wire.report import Accuracy, DataUse, Front, Latency, Point, Report

EXIT_STOPPED = 3


class Stopped(BaseException):
    """SIGTERM came."""


def main(verb: str, directory: Path) -> int:
    """Do as the model says."""
    if verb == "fit":  # has nothing to do with a model
        os.execv(sys.executable, [sys.executable, "-m", "search", verb, str(directory)])
    try:
        plan = json.loads((directory / "model.onnx").read_bytes())
    except ValueError:
        plan = {"refuse": InvalidModel("not JSON").to_dict()}
    if "refuse" in plan:
        (directory / "error.json").write_text(json.dumps(plan["refuse"]))
        return 2
    if verb == "files":
        (directory / "files.json").write_text(json.dumps(plan.get("files", [])))
        return 0
    missing = [name for name in plan.get("files", []) if not (directory / name).is_file()]
    if missing:
        (directory / "error.json").write_text(json.dumps(InvalidModel(f"no data file {missing[0]}").to_dict()))
        return 2
    cache = Path(sys.argv[sys.argv.index("--cache-dir") + 1])
    if not all((cache / "profiles" / f"{name}.toml").is_file() for name in plan.get("profiles", [])):
        (directory / "error.json").write_text(json.dumps(InvalidModel("a profile is missing").to_dict()))
        return 2
    (directory / "out").mkdir(exist_ok=True)
    if verb == "inspect":
        time.sleep(plan.get("unit_s", 0.0))
        (directory / "out" / "inspect.json").write_text(json.dumps(inspection(directory)))
        return 0
    signal.signal(signal.SIGTERM, signal.SIG_IGN if plan.get("deaf") else stop)
    try:
        work(plan, directory)
    except Stopped:
        write_report(directory, complete=False)
        return EXIT_STOPPED
    if not plan.get("silent"):
        write_report(directory, complete=True)
    return 0


def stop(*_: object) -> None:
    """End at this unit."""
    raise Stopped


def work(plan: dict[str, Any], directory: Path) -> None:
    """Every unit that no earlier run has finished."""
    units = directory / "units"
    units.mkdir(exist_ok=True)
    total = plan.get("units", 3)
    first = begins_the_job(units)
    emit(directory, {"type": "stage", "stage": "search"})
    emit(directory, {"type": "warning", "message": "=quick child"})
    for i in range(total):
        result = units / str(i)
        if not result.exists():
            die_as_planned(plan, i, units)
            if first and i == plan.get("wait_at"):
                stand_still()
            pass_time(plan.get("unit_s", 0.01), spin=plan.get("spin", False))
            result.write_text(str(os.getpid()))
        for _ in range(plan.get("chatter", 1)):
            fraction = (i + 1) / total
            body = {"stage": "search", "fraction": fraction, "done": i + 1, "total": total, "unit": "units"}
            emit(directory, {"type": "progress", **body})


def pass_time(seconds: float, *, spin: bool) -> None:
    """Sleep, or keep a core busy."""
    end = time.monotonic() + seconds
    while spin and time.monotonic() < end:
        pass
    time.sleep(max(0.0, end - time.monotonic()))


def die_as_planned(plan: dict[str, Any], unit: int, units: Path) -> None:
    """SIGKILL to ourselves, if the plan says so."""
    marker = units / "died"
    if unit == plan.get("kill_at") and (plan.get("kill_always") or not marker.exists()):
        marker.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)


def begins_the_job(units: Path) -> bool:
    """Whether no child came before: one that was ended before it could stand still leaves none behind that would."""
    try:
        (units / "begun").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def stand_still() -> None:
    """Until ended: whoever ends this child needs no luck to meet it in the middle."""
    while True:
        time.sleep(60)


def emit(directory: Path, event: dict[str, Any]) -> None:
    """Append an event."""
    with (directory / "events.jsonl").open("a") as file:
        file.write(json.dumps(event) + "\n")


def write_report(directory: Path, *, complete: bool) -> None:
    """A front of two points a target; the pids in units/ tell who did what."""
    profiles = json.loads((directory / "request.json").read_text())["profiles"]
    best = b"best of " + (directory / "model.onnx").read_bytes()
    (directory / "out" / "best.onnx").write_bytes(best)
    fronts = {}
    for profile in profiles:
        folder = directory / "out" / "points" / profile
        folder.mkdir(parents=True, exist_ok=True)
        if len(profiles) > 1:
            (directory / "out" / f"best-{profile}.onnx").write_bytes(best)
        (folder / "p1.onnx").write_bytes(best)
        for name in json.loads((directory / "model.onnx").read_bytes()).get("files", []):
            (folder / f"p1.{Path(name).name}").write_bytes((directory / name).read_bytes())
        fronts[profile] = Front(
            point("dense", profile, 2.0), (point("p1", profile, 1.0), point("p2", profile, 1.5)), "p1", "fastest"
        )
    workers = len({path.read_text() for path in (directory / "units").iterdir() if path.name.isdigit()})
    data = DataUse("labelled", 1, 1, 1)
    report = Report("twice as fast", fronts, data, (), (), (f"{workers} processes",), 0, {}, complete)
    (directory / "out" / "report.json").write_text(report.to_json())
    (directory / "out" / "report.html").write_text("<!doctype html><title>quick</title>")
    (directory / "out" / "front.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")


def point(name: str, profile: str, latency_ms: float) -> Point:
    """A point with round numbers; whatever else a point lists is empty."""
    latency = Latency(latency_ms, latency_ms, latency_ms, "modelled")
    values: dict[str, Any] = {f.name: () for f in dataclasses.fields(Point) if f.default is dataclasses.MISSING} | {
        "id": name,
        "profile": profile,
        "accuracy": Accuracy(0.9, 0.88, 0.92, 0.0, -0.01, 0.01, 100, "top1"),
        "latency_ms": latency,
        "predicted_latency_ms": latency,
        **dict.fromkeys(("speedup", "predicted_speedup"), 2.0 / latency_ms),
        "parameters": 10,
        "macs": 100,
        "bytes": 40,
        "peak_memory_bytes": 80,
        "compression_ratio": 2.0,
        "theoretical_speedup": 2.0,
        "artifact": f"points/{profile}/{name}.onnx",
        "sha256": "0" * 64,
        "parity": 0.0,
    }
    return Point(**values)


def inspection(directory: Path) -> dict[str, Any]:
    """What a dry run answers."""
    profiles = json.loads((directory / "request.json").read_text())["profiles"]
    latency = cattrs.unstructure(Latency(2.0, 1.0, 3.0, "modelled"))
    target = {"latency_ms": latency, "reachable_ms": {"min": 1.0, "max": 2.0}, "notes": []}
    return {
        "groups": [],
        "frozen": [],
        "macs": 100,
        "parameters": 10,
        "profiles": dict.fromkeys(profiles, target),
        "warnings": [],
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
