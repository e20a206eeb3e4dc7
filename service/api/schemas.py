"""What goes over the wire, as types: bodies, query parameters and answers. The OpenAPI document comes from here."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

from annotated_types import Interval, Len
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from search.wire.report import Front, Point
from search.wire.request import Constraints, InputShape, JobSpec, Objective, SearchOptions
from service.jobs import Status
from service.model_files import MOST_FILES
from service.protocol import Stage

FileId = Annotated[str, StringConstraints(pattern=r"^file_[0-9a-f]{32}$")]
ProfileId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
ProfileIds = Annotated[tuple[ProfileId, ...], Len(1, 8), Field(json_schema_extra={"uniqueItems": True})]
Metadata = Annotated[
    dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")], Annotated[str, Len(0, 512)]],
    Len(0, 32),
    Field(json_schema_extra={"additionalProperties": False}),
]
WebhookUrl = Annotated[str, StringConstraints(pattern=r"^https?://[A-Za-z0-9.\-\[\]:]{1,255}(/[!-~]{0,1000})?$")]
Purpose = Literal["model", "model_data", "dataset"]
Location = Annotated[
    str, StringConstraints(pattern=r"^[^/\\\x00-\x1f]{1,255}(/[^/\\\x00-\x1f]{1,255}){0,31}$", max_length=255)
]
ModelData = Annotated[
    dict[Location, FileId], Len(0, MOST_FILES), Field(json_schema_extra={"additionalProperties": False})
]
"""Data files of a model of several files, by the locations that its tensors name."""


def _in_digits(value: Any) -> Any:
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise ValueError(f"{value!r} is no whole number in digits")
    return value


DIGITS = BeforeValidator(_in_digits)
"""Of a number in a query string, behind its interval, which else is missing in the document; 0.0, +1 and 1_000 are none."""


class Query(BaseModel):
    """Base of query strings: everything in them is text, and nothing unknown is allowed."""

    model_config = ConfigDict(extra="forbid")


class FileQuery(Query):
    """Of a raw upload."""

    purpose: Purpose
    filename: Annotated[str, Len(0, 255)] | None = None
    """For people; it is not used as a path."""


class JobsQuery(Query):
    """Of the job list."""

    status: Status | None = None
    profile: ProfileId | None = None
    limit: Annotated[int, Interval(ge=1, le=100), DIGITS] = 20
    cursor: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,12}\.[0-9]{1,9}-job_[0-9a-z]{1,60}$")] | None = None
    """`next_cursor` of the page before."""


class JobQuery(Query):
    """Of one job."""

    wait_s: Annotated[int, Interval(ge=0, le=20), DIGITS] = 0
    """Seconds to wait for the job to differ from the copy named in If-None-Match (a long poll)."""


class EventsQuery(Query):
    """Of a job's events."""

    after: Annotated[int, Interval(ge=0, le=2**31 - 1), DIGITS] = 0
    """Only events numbered above this."""
    limit: Annotated[int, Interval(ge=1, le=1000), DIGITS] = 1000


class NoQuery(Query):
    """Where no parameter is allowed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobOptions(JobSpec):
    """A job without its files: the `spec` part of a multipart submission."""

    profiles: ProfileIds = dataclasses.field()  # without this the default of the base class would stay
    metadata: Metadata = dataclasses.field(default_factory=dict)
    webhook_url: WebhookUrl | None = None
    """Told when the job has ended; Standard Webhooks."""

    def spec(self) -> JobSpec:
        """What the engine is told."""
        return JobSpec(**{field.name: getattr(self, field.name) for field in dataclasses.fields(JobSpec)})


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobCreate(JobOptions):
    """A job, with uploaded files."""

    model: FileId
    model_data: ModelData = dataclasses.field(default_factory=dict)
    dataset: FileId | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class InspectCreate:
    """A dry run."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)
    model: FileId
    profiles: ProfileIds
    model_data: ModelData = dataclasses.field(default_factory=dict)
    constraints: Constraints = dataclasses.field(default_factory=Constraints)
    input_shapes: Annotated[tuple[InputShape, ...], Len(0, 64)] = ()
    """Sizes of inputs that the model leaves free."""

    def spec(self) -> JobSpec:
        """What the engine is told."""
        return JobSpec(self.profiles, constraints=self.constraints, input_shapes=self.input_shapes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProfileCreate:
    """A target of the user's: measured rows to be fitted, or a complete profile."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)
    id: ProfileId | None = None
    name: Annotated[str, Len(1, 200)] | None = None
    like: ProfileId | None = None
    """A known profile of the same runtime and data type, whose kernel rules the fit keeps."""
    rows: Annotated[tuple[dict[str, Any], ...], Len(0, 20_000)] = ()
    """`{network, latency_ms, workloads, family}`, as the manifest of `secateur calibrate --export` lists the networks."""
    profile: dict[str, Any] | None = None
    """All fields of a profile, instead of rows."""


class Problem(BaseModel):
    """RFC 9457; `type` is stable."""

    model_config = ConfigDict(extra="allow")
    type: str
    title: str
    status: int
    detail: str
    request_id: str


class JobError(Problem):
    """Why a job failed."""

    retryable: bool


class FileView(BaseModel):
    """An upload."""

    id: FileId
    sha256: str
    bytes: int
    purpose: Purpose
    name: str | None


class UploadView(BaseModel):
    """A resumable upload; `file` is there once all bytes are."""

    id: str
    bytes: int
    received: int
    file: FileId | None


class Progress(BaseModel):
    """`fraction` of the whole job; `done` of `total` `unit` within the stage."""

    fraction: float
    done: int
    total: int
    unit: str


class Urls(BaseModel):
    """Where the parts of a job are."""

    self: str
    events: str
    cancel: str
    front: str
    artifacts: str


class FileName(BaseModel):
    """A file of a job; its owner's name for it, where one was given."""

    id: FileId
    name: str | None


class JobView(BaseModel):
    """A job."""

    id: str
    model: FileName
    dataset: FileName | None
    status: Status
    stage: Stage | None
    progress: Progress
    attempt: int
    queue_position: int | None
    profiles: list[str]
    objective: Objective
    constraints: Constraints
    search: SearchOptions
    best: Point | None
    """Of the first target that has one; the file is `best.onnx`. Of several targets each has a `best-<profile>.onnx`."""
    warnings: list[str]
    error: JobError | None
    metadata: dict[str, str]
    seed: int
    created_at: str
    started_at: str | None
    finished_at: str | None
    expires_at: str | None
    urls: Urls


class JobList(BaseModel):
    """A page of jobs, newest first."""

    data: list[JobView]
    has_more: bool
    next_cursor: str | None


class EventView(BaseModel):
    """Something that happened; the other members depend on `type`."""

    model_config = ConfigDict(extra="allow")
    seq: int
    at: str
    type: Literal["status", "stage", "progress", "candidate", "warning"]


class EventList(BaseModel):
    """Events in order."""

    data: list[EventView]
    has_more: bool


class ArtifactView(BaseModel):
    """A file that a job gave back."""

    name: str
    kind: Literal["model", "report", "picture", "other"]
    bytes: int
    sha256: str
    url: str


class ArtifactList(BaseModel):
    """The files of a job."""

    data: list[ArtifactView]


class ProfileList(BaseModel):
    """Every target, without its kernel prices."""

    data: list[dict[str, Any]]


class Health(BaseModel):
    """What works here."""

    status: Literal["ok"]
    checks: dict[str, bool]
    sandbox: dict[str, bool]


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"]


Fronts = dict[str, Front]
