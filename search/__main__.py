"""The process border: ``python -m search run JOBDIR``.

Input is ``request.json``, ``model.onnx`` and perhaps ``data.npz`` in JOBDIR; output is ``out/``, ``events.jsonl`` and, on a
typed failure, ``error.json``; where the fault is ours the trace is in ``internal-error.txt``. Exit codes: 0 done, 2 refused with
``error.json``, 3 stopped with what was finished.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import json
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

from search.wire.errors import FAULT_OF_OURS, DeadlineExceeded, InternalError, InvalidProfile, SecateurError
from search.wire.progress import Progress, Stopped
from search.wire.report import Front
from search.wire.request import JobSpec

DONE, REFUSED, STOPPED = 0, 2, 3
_OUT_OF_MEMORY = ("bad_alloc", "RESOURCE_EXHAUSTED", "Out of memory")
"""How libraries say that memory ran out, which whoever started this process looks for in its log."""
NOTHING_IN_TIME = "the deadline came before the first candidate was finished; give more minutes or fewer samples"
MOST_DEVICES = 4
"""So that each has 16 images of a batch, fewer of which run slower."""


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and run one verb."""
    parser = argparse.ArgumentParser(
        prog="python -m search", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, text in (
        ("run", "search, and write the front"),
        ("inspect", "say what could be pruned, without a search"),
    ):
        sub = verbs.add_parser(verb, help=text)
        sub.add_argument("jobdir", type=Path)
        sub.add_argument(
            "--cache-dir", type=Path, help="calibrations and measurements of this machine (default: JOBDIR/cache)"
        )
        sub.add_argument("--deadline-s", type=float, help="seconds until the job must have ended")
    files = verbs.add_parser("files", help="name the data files that the tensors of JOBDIR/model.onnx lie in")
    files.add_argument("jobdir", type=Path)
    fit = verbs.add_parser("fit", help="fit the profile that JOBDIR/fit.json has measured rows of")
    fit.add_argument("jobdir", type=Path)
    calibrate = verbs.add_parser("calibrate", help="measure this machine and write a profile")
    calibrate.add_argument("--id", required=True, help="id of the profile to write")
    calibrate.add_argument("--runtime", choices=["onnxruntime", "litert"], default="onnxruntime")
    calibrate.add_argument("--threads", type=int, default=1)
    calibrate.add_argument("--cache-dir", type=Path, required=True)
    kit = verbs.add_parser("kit", help="write networks and a script to be timed on another device")
    kit.add_argument("folder", type=Path)
    kit.add_argument("--networks", type=int, default=150)
    arguments = parser.parse_args(argv)
    faulthandler.enable()  # a crash in a library leaves its trace in the log
    keep_freed_memory()
    if arguments.verb == "kit":
        return _kit(arguments.folder, arguments.networks)
    if arguments.verb == "calibrate":
        return _calibrate(arguments.id, arguments.runtime, arguments.threads, arguments.cache_dir)
    jobdir: Path = arguments.jobdir
    if arguments.verb == "files":
        return _files(jobdir)
    if arguments.verb == "fit":
        return _fit(jobdir)
    return _job(arguments.verb, jobdir, arguments.cache_dir or jobdir / "cache", arguments.deadline_s)


def keep_freed_memory() -> None:
    """Let malloc keep what is freed: otherwise the same large arrays are mapped again and again."""
    trim_threshold, top_pad, mmap_max, arena_max = -1, -2, -4, -8  # names of mallopt(3)
    try:
        libc = ctypes.CDLL(None)
        for option, value in (
            (mmap_max, 0),
            (arena_max, 1),  # the arenas of threads give back what the rest of this list keeps
            (trim_threshold, 2**31 - 1),
            (top_pad, 256 << 20),
        ):
            libc.mallopt(option, value)
    except (OSError, AttributeError):
        return  # another C library: slower, nothing else


def divide_cores() -> None:
    """Make every core a device of JAX, up to `MOST_DEVICES`: training is divided by samples instead of inside each operator.

    A step of 64 images of a ResNet-32 on two cores: 0.27 s instead of 0.39, and 0.43 s of processor time instead of 0.51.
    """
    import jax  # noqa: PLC0415

    devices = min(MOST_DEVICES, len(os.sched_getaffinity(0)))
    jax.config.update("jax_num_cpu_devices", devices)  # type: ignore[no-untyped-call]


def _job(verb: str, jobdir: Path, cache_dir: Path, deadline_s: float | None) -> int:
    progress = Progress(jobdir / "events.jsonl", deadline_s=deadline_s)
    error = jobdir / "error.json"
    for old in (error, jobdir / "internal-error.txt"):
        old.unlink(missing_ok=True)
    try:
        with progress.obeying_signals():
            spec = JobSpec.read(jobdir / "request.json")
            _refuse_early(jobdir)
            return (_inspect if verb == "inspect" else _run)(spec, jobdir, cache_dir, progress)
    except Stopped as stop:  # with nothing to show
        if stop.reason == "cancelled":
            return STOPPED
        return _refused(DeadlineExceeded(NOTHING_IN_TIME), error)
    except SecateurError as problem:
        return _broke_down(problem, jobdir) if isinstance(problem, InternalError) else _refused(problem, error)
    except (MemoryError, OSError):  # of the machine, not of the job: another attempt may fare better
        raise
    except Exception as failure:  # the border of the process: nobody else will say what happened
        from search.graph.run import runtime  # noqa: PLC0415

        if isinstance(failure, RuntimeError) and (behind := runtime.kept()) is not None:
            return _refused(behind, error)  # JAX keeps only the text of what a carried node raised
        if any(mark in str(failure) for mark in _OUT_OF_MEMORY):
            raise
        return _broke_down(failure, jobdir)


def _broke_down(failure: Exception, jobdir: Path) -> int:
    """Keep the trace beside the job, and say whose fault it is."""
    (jobdir / "internal-error.txt").write_text("".join(traceback.format_exception(failure)), encoding="utf-8")
    traceback.print_exception(failure)
    problem = (
        failure
        if isinstance(failure, InternalError) and FAULT_OF_OURS in failure.detail
        else InternalError.behind(failure)
    )
    return _refused(problem, jobdir / "error.json")


def _refused(problem: SecateurError, path: Path) -> int:
    path.write_text(json.dumps(problem.to_dict(), indent=2), encoding="utf-8")
    print(f"{problem.type}: {problem.detail}", file=sys.stderr)  # noqa: T201
    return REFUSED


def _refuse_early(jobdir: Path) -> None:
    """Refuse what is no model or no data set before JAX is loaded, which takes seconds on a busy machine."""
    from search.graph.onnx.read import read  # noqa: PLC0415
    from search.graph.upload import Upload  # noqa: PLC0415
    from search.input.data import check_npz  # noqa: PLC0415

    read(Upload.read(jobdir / "model.onnx"))
    if (jobdir / "data.npz").exists():
        check_npz(jobdir / "data.npz")


def _run(spec: JobSpec, jobdir: Path, cache_dir: Path, progress: Progress) -> int:
    from search import pipeline  # JAX is loaded only once the request is good  # noqa: PLC0415
    from search.graph.upload import Upload  # noqa: PLC0415
    from search.view import plots, report_page  # noqa: PLC0415

    divide_cores()
    data = jobdir / "data.npz"
    report = pipeline.compress(
        spec, Upload.read(jobdir / "model.onnx"), data if data.exists() else None, jobdir, cache_dir, progress
    )
    out = jobdir / "out"
    out.mkdir(exist_ok=True)
    _copy_best(report.fronts, out)
    (out / "front.svg").write_text(plots.fronts_svg(report), encoding="utf-8")
    (out / "report.html").write_text(report_page.render(report), encoding="utf-8")
    (out / "report.json").write_text(report.to_json(), encoding="utf-8")
    return STOPPED if progress.cancelled else DONE


def _copy_best(fronts: Mapping[str, Front], out: Path) -> None:
    """Copy the best point of each of several targets to ``best-<profile>.onnx``, of the first that has one to best.onnx."""
    from search.graph.upload import copy_model  # noqa: PLC0415

    best = {name: point for name, front in fronts.items() for point in front.points if point.id == front.best}
    for name, point in best.items() if len(fronts) > 1 else ():
        copy_model(out / point.artifact, out / f"best-{name}.onnx")
    for point in list(best.values())[:1]:
        copy_model(out / point.artifact, out / "best.onnx")


def _inspect(spec: JobSpec, jobdir: Path, cache_dir: Path, progress: Progress) -> int:
    from search import inspection  # noqa: PLC0415
    from search.graph.upload import Upload  # noqa: PLC0415

    inspected = inspection.inspect(spec, Upload.read(jobdir / "model.onnx"), cache_dir, progress)
    (jobdir / "out").mkdir(exist_ok=True)
    (jobdir / "out" / "inspect.json").write_text(inspected.to_json(), encoding="utf-8")
    return DONE


def _files(jobdir: Path) -> int:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # noqa: PLC0415

    from search.graph.upload import locations  # noqa: PLC0415

    try:
        named = locations((jobdir / "model.onnx").read_bytes())
    except DecodeError:
        named = []  # it is no model; whoever runs it will say so
    (jobdir / "files.json").write_text(json.dumps(named), encoding="utf-8")
    return DONE


def _fit(jobdir: Path) -> int:
    from hwprofiles.errors import ProfileError  # noqa: PLC0415
    from hwprofiles.registry import parse_profile  # noqa: PLC0415
    from hwprofiles.rows import parse_rows, profile_from_rows  # noqa: PLC0415

    asked = json.loads((jobdir / "fit.json").read_text(encoding="utf-8"))
    try:
        rows = parse_rows(asked["rows"])
        profile = profile_from_rows(asked["id"], asked["name"], parse_profile(asked["like"]), rows)
    except ProfileError as error:
        return _refused(InvalidProfile(str(error)), jobdir / "error.json")
    (jobdir / "out").mkdir(exist_ok=True)
    (jobdir / "out" / "profile.json").write_text(json.dumps(profile.to_dict()), encoding="utf-8")
    return DONE


def _calibrate(name: str, runtime: str, threads: int, cache_dir: Path) -> int:
    from hwprofiles.registry import save_profile  # noqa: PLC0415
    from search.measure.calibrate.calibration import calibrate_host  # noqa: PLC0415

    try:
        profile = calibrate_host(name, runtime_name=runtime, threads=threads)
    except SecateurError as problem:
        return _refused(problem, Path("error.json"))  # where the caller started this process
    print(save_profile(profile, cache_dir / "profiles"))  # noqa: T201
    return DONE


def _kit(folder: Path, networks: int) -> int:
    from search.measure.calibrate.kit import write_kit  # noqa: PLC0415

    write_kit(folder, networks=networks)
    return DONE


if __name__ == "__main__":
    sys.exit(main())
