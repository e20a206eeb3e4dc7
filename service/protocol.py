"""The border between a worker and its child: files in a job directory. Also what an event looks like on the wire.

In: request.json, model.onnx and the data files that it names, data.npz. While running: events.jsonl, units/. Out: out/, or
error.json.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BaseModel, Field

from search.wire.report import Report
from service import model_files
from service.artifacts import BlobStore, BlobWriter

Stage = Literal["import", "calibrate", "sensitivity", "search", "recover", "export", "evaluate"]
_LONGEST_LINE_BYTES = 65_536
_STAYS = frozenset({"units", "child.log"})


class ExitCode(enum.IntEnum):
    """What the child's exit codes mean; any other one, or a signal, is a crash."""

    DONE = 0
    REFUSED = 2
    """error.json says why."""
    STOPPED = 3
    """SIGTERM; a partial report is in out/ when there was a front."""


def ending(code: int) -> str:
    """In words, how a process ended that said nothing itself.

    Example:
        >>> ending(-11), ending(1)
        ('its process was ended by SIGSEGV', 'its process ended with exit code 1')
    """
    if code >= 0:
        return f"its process ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"its process was ended by {name}" + (", as happens where memory runs out" if name == "SIGKILL" else "")


class StageEvent(BaseModel):
    """The job entered a stage."""

    type: Literal["stage"]
    stage: Stage


class ProgressEvent(BaseModel):
    """How far the job is: `fraction` of the whole job, `done` of `total` within the stage."""

    type: Literal["progress"]
    stage: Stage
    fraction: Annotated[float, Field(ge=0, le=1)]
    done: int
    total: int
    unit: str


class CandidateEvent(BaseModel):
    """A candidate point was found."""

    type: Literal["candidate"]
    profile: str
    predicted_latency_ms: float
    quality: float


class WarningEvent(BaseModel):
    """Something the user should know."""

    type: Literal["warning"]
    message: str


ChildEvent = Annotated[StageEvent | ProgressEvent | CandidateEvent | WarningEvent, Field(discriminator="type")]
_EVENT: pydantic.TypeAdapter[StageEvent | ProgressEvent | CandidateEvent | WarningEvent] = pydantic.TypeAdapter(
    ChildEvent
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """The uploads of a job, by SHA-256."""

    model: str
    """An .onnx file, or a .zip of one and its data files."""
    model_data: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The model's data files by their locations."""
    dataset: str | None = None


@dataclasses.dataclass(frozen=True)
class Relayed:
    """Lines of the child's events.jsonl, and the position in the file after them, in bytes."""

    bodies: tuple[dict[str, Any], ...]
    position: int


def write_request(directory: Path, spec: dict[str, Any], blobs: BlobStore, inputs: Inputs, max_bytes: int) -> None:
    """Fill a job directory; of what an earlier attempt left only the finished units/ and the log stay.

    Args:
        directory: the job directory, made when absent.
        spec: ``JobSpec`` as JSON.
        blobs: where the uploads are.
        inputs: which of them.
        max_bytes: most that a .zip may hold.

    Raises:
        InvalidModel, ExternalDataRefused, ResourceLimit: a .zip or locations that are not taken.
    """
    directory.mkdir(parents=True, exist_ok=True)
    _clear(directory)
    (directory / "request.json").write_text(json.dumps(spec), encoding="utf-8")
    model = directory / model_files.MODEL_NAME
    blobs.copy_to(inputs.model, model)
    if inputs.dataset is not None:
        blobs.copy_to(inputs.dataset, directory / "data.npz")
    model_files.check_locations(inputs.model_data.keys())
    for location, sha256 in inputs.model_data.items():
        (directory / location).parent.mkdir(parents=True, exist_ok=True)
        blobs.copy_to(sha256, directory / location)
    unpack_model(model, max_bytes)


def unpack_model(model: Path, max_bytes: int) -> None:
    """Put what a .zip at `model` holds in its place; another file stays as it is.

    Raises:
        InvalidModel, ExternalDataRefused, ResourceLimit: a .zip that is not taken.
    """
    with model.open("rb") as file:
        if not model_files.is_archive(file):
            return
    archive = model.replace(model.with_name("model.zip"))
    model_files.unpack(archive, model.parent, max_bytes)
    archive.unlink()


def _clear(directory: Path) -> None:
    """Remove what a child left, links that would lead our own writing elsewhere among it."""
    for path in directory.iterdir():
        if path.is_symlink() or path.name not in _STAYS:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def read_events(directory: Path, position: int) -> Relayed:
    """Whole lines of events.jsonl from `position` on; a line that is no event is skipped."""
    try:
        with (directory / "events.jsonl").open("rb") as file:
            file.seek(position)
            data = file.read()
    except FileNotFoundError:
        return Relayed((), position)
    whole = data[: data.rfind(b"\n") + 1]
    bodies = (_parse_event(line) for line in whole.splitlines() if len(line) <= _LONGEST_LINE_BYTES)
    return Relayed(tuple(body for body in bodies if body is not None), position + len(whole))


def read_error(directory: Path) -> dict[str, Any]:
    """The child's refusal, an RFC 9457 problem with ``retryable``; an empty one when it left none that can be read."""
    try:
        problem = json.loads((directory / "error.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return problem if isinstance(problem, dict) and {"type", "title", "detail"} <= problem.keys() else {}


def read_report(directory: Path) -> Report | None:
    """The report in out/, or None when there is none that can be read."""
    try:
        return Report.from_json((directory / "out" / "report.json").read_text(encoding="utf-8"))
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        ExceptionGroup,
    ):  # a half-written or malformed report is no report
        return None


def received(directory: Path, blobs: BlobStore) -> dict[str, BlobWriter]:
    """A writer with the bytes of every regular file of out/, by its path there. Links are left out."""
    out = (directory / "out").resolve()
    files = (path for path in sorted(out.rglob("*")) if path.is_file() and not path.is_symlink())
    inside = (path for path in files if path.resolve() == path)  # no folder on the way is a link either
    return {path.relative_to(out).as_posix(): blobs.receive(path) for path in inside}


def _parse_event(line: bytes) -> dict[str, Any] | None:
    try:
        return _EVENT.validate_json(line).model_dump()
    except pydantic.ValidationError:
        return None
