"""Work on this machine without a service: the same engine, started the same way, in a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cattrs
import click

from hwprofiles.errors import has_words
from hwprofiles.registry import list_profiles, load_profile
from search.wire.errors import FAULT_OF_OURS, InternalError, SecateurError
from search.wire.report import Inspection, Report
from search.wire.request import JobSpec
from service import protocol, sandbox
from service.commands.beside import copy_model
from service.commands.options import (
    EXISTING_FILE,
    FOLDER,
    as_json,
    checked_spec,
    exclude,
    input_shapes,
    named_shapes,
    out_dir,
    profiles,
    spec_flags,
    structures,
)
from service.commands.scratch import keep_failure, scratch
from service.console import JobProgress, print_fronts, print_inspection, print_json, print_rows, stdout
from service.protocol import ExitCode, ending
from service.settings import Settings

_POLL_S = 0.2
_GRACE_S = 10.0
UNLIMITED = sandbox.Limits(open_files=0, network="off", files="off")


class EngineError(SecateurError):
    """What the engine said when it refused; `to_dict` is its own problem object."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(str(problem["detail"]))
        self.problem = problem

    def to_dict(self) -> dict[str, Any]:
        """The engine's words."""
        return self.problem


@click.command()
@click.argument("model", type=EXISTING_FILE)
@click.option("--data", type=EXISTING_FILE, help="Samples as .npz with x and, optionally, y.")
@click.option("--job-dir", type=FOLDER, help="Keep the job's directory here; a second run goes on from it.")
@out_dir
@spec_flags
@as_json
def compress(
    *, model: Path, data: Path | None, job_dir: Path | None, out: Path | None, spec: JobSpec, as_json: bool
) -> None:
    """Prune MODEL for its targets and write the front to a directory."""
    out = out or Path("out") / model.stem
    report = run_compress(spec, model, data, out, job_dir)
    if as_json:
        print_json(json.loads(report.to_json()))
        return
    stdout.print(report.headline, markup=False)
    print_fronts(report.fronts)
    best = "best.onnx, " if any(front.best for front in report.fronts.values()) else ""
    stdout.print(f"written to {out}: report.html, report.json, {best}points/", markup=False)


def run_compress(spec: JobSpec, model: Path, data: Path | None, out: Path, job_dir: Path | None) -> Report:
    """Run a job here and copy what it gave to `out`.

    Raises:
        EngineError: the engine refused the job.
        InternalError: it broke down.
    """
    require_profiles(spec.profiles)
    with scratch() as own:
        directory = (job_dir or own).resolve()
        _fill(directory, spec, model, data)
        code = _run(directory, ["--deadline-s", str(60 * spec.search.deadline_minutes)])
        report = protocol.read_report(directory)
        if report is None or code not in {ExitCode.DONE, ExitCode.STOPPED}:
            raise failure(directory, code, out)
        shutil.copytree(directory / "out", out, dirs_exist_ok=True)
        return report


@click.command()
@click.argument("model", type=EXISTING_FILE)
@profiles
@exclude
@structures
@input_shapes
@as_json
def inspect(
    *,
    model: Path,
    profiles: tuple[str, ...],
    exclude: tuple[str, ...],
    structures: tuple[str, ...],
    input_shapes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say what can be pruned in MODEL, what cannot and why, and what each target makes of it."""
    constraints = {"exclude": exclude, "structures": structures}
    spec = checked_spec({"profiles": profiles, "constraints": constraints, "input_shapes": named_shapes(input_shapes)})
    found = run_inspect(spec, model)
    if as_json:
        print_json(json.loads(found.to_json()))
    else:
        print_inspection(found)


def run_inspect(spec: JobSpec, model: Path) -> Inspection:
    """Look into a model here.

    Raises:
        EngineError: the engine refused the model.
        InternalError: it broke down.
    """
    require_profiles(spec.profiles)
    with scratch() as directory:
        _fill(directory, spec, model, None)
        code = _run(directory, [], "inspect")
        if code != ExitCode.DONE:
            raise failure(directory, code)
        return cattrs.structure(json.loads((directory / "out" / "inspect.json").read_text("utf-8")), Inspection)


@click.command(name="profiles")
@click.argument("words", nargs=-1, metavar="[ID OR WORDS OF IT]...")
@as_json
def show_profiles(words: tuple[str, ...], as_json: bool) -> None:
    """List the targets, or those whose ids have all of some words; show one whole."""
    profile_id = " ".join(words) or None
    folders = Settings.from_env().profile_dirs
    known = list_profiles(folders)
    alike = [p for p in known if profile_id is None or has_words(profile_id, p.id)]
    if profile_id is not None and (not alike or profile_id in {p.id for p in known}):
        profile = load_profile(profile_id, folders).to_dict()
        if as_json:
            print_json(profile)
        else:
            print_rows(profile_id, ("field", "value"), [(key, value) for key, value in profile.items()])
        return
    if as_json:
        print_json({"data": [profile.to_dict() for profile in alike]})
        return
    errors = [f"{p.held_out_error.mape:.0%}" if p.held_out_error else "not validated" for p in alike]
    rows = [(p.id, p.runtime, p.dtype, p.channel_grid, error) for p, error in zip(alike, errors, strict=True)]
    print_rows("targets", ("id", "runtime", "type", "grid", "mean error"), rows)


def require_profiles(profile_ids: tuple[str, ...]) -> None:
    """Refuse an unknown target before any work.

    Raises:
        UnknownProfile: names those there are.
    """
    for profile_id in profile_ids:
        load_profile(profile_id, Settings.from_env().profile_dirs)


def _fill(directory: Path, spec: JobSpec, model: Path, data: Path | None) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "error.json").unlink(missing_ok=True)
    (directory / "request.json").write_text(spec.to_json(), encoding="utf-8")
    copy_model(model, directory)
    if data is not None:
        shutil.copyfile(data, directory / "data.npz")


def _run(directory: Path, options: list[str], verb: str = "run") -> int:
    """Run the engine on `directory` with a progress bar; its exit code. Ctrl-C stops it with what it has."""
    settings = Settings.from_env()
    cache_dir = settings.cache_dir.resolve()
    command = [*settings.child_command, verb, str(directory), "--cache-dir", str(cache_dir), *options]
    position = protocol.read_events(directory, 0).position  # a resumed job: its old events are old news
    with JobProgress() as progress:
        child = sandbox.start(command, directory, cache_dir, UNLIMITED)
        stage, fraction = "start", 0.0
        try:
            while True:
                ended = child.poll() is not None
                relayed = protocol.read_events(directory, position)
                position = relayed.position
                for event in relayed.bodies:
                    stage, fraction = event.get("stage", stage), event.get("fraction", fraction)
                    if event["type"] == "warning":
                        progress.warn(event["message"])
                progress.show(stage, fraction)
                if ended:
                    return int(child.returncode)
                _pause(child)
        except KeyboardInterrupt:
            return sandbox.stop(child, _GRACE_S)
        finally:
            sandbox.kill(child)


def _pause(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(_POLL_S)
    except subprocess.TimeoutExpired:
        return


def wait(child: subprocess.Popen[bytes]) -> int:
    """The exit code of an engine, which does not outlive this call."""
    try:
        return child.wait()
    finally:
        sandbox.kill(child)


def failure(directory: Path, code: int, out: Path | None = None) -> SecateurError:
    """What an engine that ended with ``code`` said; where the fault is ours, where the trace is kept as well.

    Args:
        directory: of the job, which may not outlive the command.
        code: exit code, below 0 the signal that ended the engine.
        out: folder for the trace; None: a file of its own in the user's cache.
    """
    problem = protocol.read_error(directory)
    ours = problem.get("type") == InternalError.type
    if code == ExitCode.REFUSED and problem and not ours:
        return EngineError(problem)
    if code == ExitCode.STOPPED:
        return InternalError("stopped before there was a front")
    trace = directory / "internal-error.txt"
    kept = _keep(trace if trace.exists() else directory / "child.log", out)
    if ours:
        return InternalError(f"{problem['detail']}, which is in {kept}")
    return InternalError(f"{FAULT_OF_OURS}: {ending(code)}; please report it with what it wrote, which is in {kept}")


def _keep(trace: Path, out: Path | None) -> Path:
    """Copy a trace to where it stays."""
    if out is None:
        return keep_failure(trace)
    out.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(trace, out / "internal-error.txt"))
