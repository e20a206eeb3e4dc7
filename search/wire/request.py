"""What a client asks for: frozen dataclasses, JSON in and out. The HTTP schema is generated from these same classes.

Limits stand in the annotations (``annotated_types``), so that the OpenAPI document, the command line and `search` agree.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import cattrs
from annotated_types import Ge, Gt, Interval, Le, Len

from search.wire.errors import InvalidRequest

SCHEMA_VERSION = 1
StructureName = Literal["channel", "depth", "block", "nm", "unstructured"]
CriterionName = Literal[
    "activation_rank",
    "auto",
    "bn_scale",
    "fisher",
    "geometric_median",
    "l1",
    "l2",
    "obs",
    "random",
    "redundancy",
    "taylor",
]
AllocatorName = Literal["knapsack", "uniform", "global", "erk", "evolution"]
ScheduleName = Literal["one-shot", "iterative", "gradual", "regrowth", "rewinding"]
_FORBID_UNKNOWN: dict[str, Any] = {"extra": "forbid", "strict": True}


@dataclasses.dataclass(frozen=True)
class Objective:
    """What makes a point of the front the best one. At most one field is set; with none, ``max_accuracy_drop=0.01``."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_UNKNOWN
    max_latency_ms: Annotated[float, Gt(0), Le(1e7)] | None = None
    """Most accurate point at or below this latency, in milliseconds."""
    speedup: Annotated[float, Ge(1), Le(1000)] | None = None
    """Most accurate point at least this many times as fast as the dense model."""
    max_accuracy_drop: Annotated[float, Interval(ge=0, le=1)] | None = None
    """Fastest point whose accuracy is at most this much below dense, as a fraction (0.01 is one point)."""

    def __post_init__(self) -> None:
        """Refuse two objectives at once."""
        chosen = [field.name for field in dataclasses.fields(self) if getattr(self, field.name) is not None]
        if len(chosen) > 1:
            raise ValueError(f"objective has {' and '.join(chosen)}; give only one of them")
        if not chosen:
            object.__setattr__(self, "max_accuracy_drop", 0.01)


@dataclasses.dataclass(frozen=True)
class MinWidth:
    """How narrow some layers may become."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_UNKNOWN
    pattern: Annotated[str, Len(1, 200)]
    """Shell pattern of node names; every group of coupled layers with such a node is bound."""
    share: Annotated[float, Interval(ge=0, le=1)]
    """Least share of its units that a group keeps; of several patterns that fit the largest share counts."""


@dataclasses.dataclass(frozen=True)
class Constraints:
    """What every point must respect, whatever the objective."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_UNKNOWN
    max_accuracy_drop: Annotated[float, Interval(ge=0, le=1)] | None = None
    """Points that lose more than this (fraction) are left out of the choice of ``best``."""
    confidence: Annotated[float, Interval(ge=0.5, lt=1)] = 0.8
    """How surely ``best`` keeps a limit of accuracy, the objective's or this one."""
    exclude: Annotated[tuple[str, ...], Len(0, 64)] = ()
    """Shell patterns of node or weight names that must stay as they are, e.g. ``head*``."""
    structures: Annotated[tuple[StructureName, ...], Len(1, 5)] = ("channel", "depth")
    """Kinds of removal that the search may use; those that a target does not execute are left out for that target."""
    min_widths: Annotated[tuple[MinWidth, ...], Len(0, 64)] = ()
    """Bounds of single layers, or with the pattern ``*`` of all. A block whose layers are bound may still be removed."""
    max_bytes: Annotated[int, Ge(1)] | None = None
    """Points whose file is larger are left out of the choice of ``best``."""
    max_memory_bytes: Annotated[int, Ge(1)] | None = None
    """Points that need more for weights and activations of one sample are left out of the choice of ``best``."""


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """How long and how finely to search."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_UNKNOWN
    points: Annotated[int, Interval(ge=2, le=32)] = 8
    """Most points on a front, per target; those that are wanted at a speed-up stay in any case."""
    at_speedups: Annotated[tuple[Annotated[float, Gt(1), Le(1000)], ...], Len(0, 16)] = ()
    """Speed-ups that a point is wanted at, whatever the objective; the search looks hardest there."""
    seed: Annotated[int, Interval(ge=0, le=2**31 - 1)] = 0
    """The same request and seed give the same points and the same bytes."""
    criterion: CriterionName = "auto"
    """Channel importance; ``auto`` keeps, for every candidate, whichever did best after repair."""
    allocator: AllocatorName = "knapsack"
    """How latency is divided over layers; the literature's ``uniform``, ``global`` and ``erk`` know widths only."""
    finetune_minutes: Annotated[float, Interval(ge=0, le=1440)] = 0.0
    """Minutes of fine-tuning for the whole front; 0 repairs in closed form only."""
    schedule: ScheduleName = "one-shot"
    """When unstructured zeros are chosen where points are trained: once by the repair, or anew while they are trained."""
    deadline_minutes: Annotated[float, Interval(gt=0, le=1440)] = 60.0
    """The job ends by then, with the best front so far."""


@dataclasses.dataclass(frozen=True)
class InputShape:
    """The whole shape of one input, as the model takes it."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_UNKNOWN
    input: Annotated[str, Len(1, 500)]
    """Its name."""
    shape: Annotated[tuple[Annotated[int, Interval(ge=1, le=2**31 - 1)], ...], Len(0, 16)]
    """A size for each of its axes, the batch among them."""


@dataclasses.dataclass(frozen=True)
class JobSpec:
    """The part of a request that does not say where the files are."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID_UNKNOWN
    profiles: Annotated[tuple[Annotated[str, Len(1, 100)], ...], Len(1, 8)] = ("host-cpu-onnxruntime",)
    """Target profile ids; every one gets its own front from the same calibration."""
    objective: Objective = Objective()
    constraints: Constraints = Constraints()
    search: SearchOptions = SearchOptions()
    input_shapes: Annotated[tuple[InputShape, ...], Len(0, 64)] = ()
    """Sizes of inputs that the model leaves free; those of a data set count where it has them."""
    threads: Annotated[int, Interval(ge=1, le=256)] | None = None
    """Threads of one operator, on targets that are this machine; None: as the profile says, which is one mostly."""
    batch: Annotated[int, Interval(ge=1, le=4096)] | None = None
    """Samples of one inference; None: as many as the profile of the target says, which is one mostly."""

    def __post_init__(self) -> None:
        """Refuse a target named twice."""
        if len(set(self.profiles)) != len(self.profiles):
            raise ValueError(f"profiles names a target twice: {', '.join(self.profiles)}")

    @property
    def accuracy_limit(self) -> float | None:
        """The most accuracy that ``best`` may lose, as a fraction; None where the request leaves that open."""
        limits = (self.objective.max_accuracy_drop, self.constraints.max_accuracy_drop)
        return min((limit for limit in limits if limit is not None), default=None)

    def to_json(self) -> str:
        """The spec as JSON, with ``schema_version``."""
        return json.dumps({"schema_version": SCHEMA_VERSION, **cattrs.unstructure(self)}, indent=2, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> JobSpec:
        """Read what `to_json` wrote.

        Raises:
            InvalidRequest: not JSON, another schema version, or fields that do not fit; names the field.
        """
        try:
            fields = json.loads(text)
            version = fields.pop("schema_version", None)
            if version != SCHEMA_VERSION:
                raise InvalidRequest(f"request.json has schema_version {version}; this release reads {SCHEMA_VERSION}")
            return _converter.structure(fields, cls)
        except (ValueError, AttributeError, TypeError, cattrs.BaseValidationError) as error:
            reasons = _reasons(error) if isinstance(error, cattrs.BaseValidationError) else [str(error)]
            raise InvalidRequest(f"request.json is not a valid request: {'; '.join(reasons)}") from error

    @classmethod
    def read(cls, path: Path) -> JobSpec:
        """`from_json` of a file."""
        return cls.from_json(path.read_text(encoding="utf-8"))


def _reasons(error: cattrs.BaseValidationError) -> list[str]:
    """What is wrong, in words: our own ValueErrors as they are, the converter's with the field's path."""
    own = [str(e) for e in _leaves(error) if type(e) is ValueError]
    return own or cattrs.transform_error(error)


def _leaves(error: BaseException) -> list[BaseException]:
    return [leaf for e in error.exceptions for leaf in _leaves(e)] if isinstance(error, BaseExceptionGroup) else [error]


_converter = cattrs.Converter(forbid_extra_keys=True)
