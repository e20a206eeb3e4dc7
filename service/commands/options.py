"""Flags that several commands share. Every field of a job's body has the flag of its name."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import click
import pydantic

from search.wire.request import (
    AllocatorName,
    Constraints,
    CriterionName,
    JobSpec,
    ScheduleName,
    SearchOptions,
    StructureName,
)

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_PROFILE = "host-cpu-onnxruntime"
EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
_DEFAULTS, _CONSTRAINTS = SearchOptions(), Constraints()

as_json = click.option("--json", "as_json", is_flag=True, help="Print the object of the API, alone on stdout.")
out_dir = click.option("--out", type=FOLDER, help="Where the results go.")
profiles = click.option(
    "--profile",
    "profiles",
    multiple=True,
    default=(DEFAULT_PROFILE,),
    show_default=True,
    help="Target; may be repeated.",
)
exclude = click.option("--exclude", multiple=True, help="Pattern of names that stay as they are; may be repeated.")
structures = click.option(
    "--structures",
    multiple=True,
    type=click.Choice(get_args(StructureName)),
    default=Constraints().structures,
    show_default=True,
    help="Kind of removal that may be used; may be repeated.",
)
input_shapes = click.option(
    "--input-shape",
    "input_shapes",
    multiple=True,
    metavar="NAME:SIZES",
    help="Whole shape of an input whose sizes the model leaves free, e.g. x:1,3,48,320; may be repeated.",
)
_SPEC_FLAGS = (
    profiles,
    click.option("--max-latency-ms", type=float, help="Objective: most accurate point at or below this."),
    click.option("--speedup", type=float, help="Objective: most accurate point at least this many times as fast."),
    click.option(
        "--max-accuracy-drop",
        type=float,
        help="Objective: fastest point that loses at most this fraction (default 0.01). "
        "Beside another objective: a constraint on the choice of best.",
    ),
    click.option(
        "--confidence",
        type=float,
        default=_CONSTRAINTS.confidence,
        show_default=True,
        help="How surely best keeps a limit of accuracy.",
    ),
    exclude,
    structures,
    click.option(
        "--min-width",
        "min_widths",
        type=(str, float),
        multiple=True,
        metavar="PATTERN SHARE",
        help="Least share of its units that a layer keeps; may be repeated.",
    ),
    input_shapes,
    click.option("--threads", type=int, help="Of one operator, on targets that are this machine; one by default."),
    click.option(
        "--batch", type=int, help="Samples of one inference; as many as the target's profile says by default."
    ),
    click.option("--max-bytes", type=int, help="Constraint on the choice of best: largest file."),
    click.option("--max-memory-bytes", type=int, help="Constraint on the choice of best: weights and activations."),
    click.option("--points", type=int, default=_DEFAULTS.points, show_default=True, help="Most points on a front."),
    click.option(
        "--at-speedup",
        "at_speedups",
        type=float,
        multiple=True,
        help="A point is wanted this many times as fast as dense, whatever the objective; may be repeated.",
    ),
    click.option("--seed", type=int, default=_DEFAULTS.seed, show_default=True, help="Same seed, same bytes."),
    click.option(
        "--criterion",
        type=click.Choice(get_args(CriterionName)),
        default=_DEFAULTS.criterion,
        show_default=True,
        help="Channel importance.",
    ),
    click.option(
        "--allocator",
        type=click.Choice(get_args(AllocatorName)),
        default=_DEFAULTS.allocator,
        show_default=True,
        help="How latency is divided over layers.",
    ),
    click.option(
        "--finetune-minutes",
        type=float,
        default=_DEFAULTS.finetune_minutes,
        show_default=True,
        help="0: closed form only.",
    ),
    click.option(
        "--schedule",
        type=click.Choice(get_args(ScheduleName)),
        default=_DEFAULTS.schedule,
        show_default=True,
        help="When unstructured zeros are chosen, where points are trained.",
    ),
    click.option(
        "--deadline-minutes",
        type=float,
        default=_DEFAULTS.deadline_minutes,
        show_default=True,
        help="The job ends by then.",
    ),
)
_SPEC_NAMES = (
    *(
        "profiles",
        "max_latency_ms",
        "speedup",
        "max_accuracy_drop",
        "confidence",
        "exclude",
        "structures",
        "min_widths",
    ),
    *("input_shapes", "threads", "batch"),
    *("max_bytes", "max_memory_bytes", "points", "at_speedups", "seed", "criterion", "allocator"),
    *("finetune_minutes", "schedule", "deadline_minutes"),
)


def spec_flags(command: F) -> F:
    """Give `command` every flag of a job; it gets them together, as the `JobSpec` called ``spec``."""

    @functools.wraps(command)
    def with_spec(**values: Any) -> Any:
        return command(spec=_spec(**{name: values.pop(name) for name in _SPEC_NAMES}), **values)

    return cast("F", functools.reduce(lambda inner, flag: flag(inner), reversed(_SPEC_FLAGS), with_spec))


def _spec(
    *,
    profiles: tuple[str, ...],
    max_latency_ms: float | None,
    speedup: float | None,
    max_accuracy_drop: float | None,
    confidence: float,
    exclude: tuple[str, ...],
    structures: tuple[StructureName, ...],
    min_widths: tuple[tuple[str, float], ...],
    input_shapes: tuple[str, ...],
    threads: int | None,
    batch: int | None,
    max_bytes: int | None,
    max_memory_bytes: int | None,
    **search: Any,
) -> JobSpec:
    constrains = max_latency_ms is not None or speedup is not None
    objective = {"max_latency_ms": max_latency_ms, "speedup": speedup}
    return checked_spec(
        {
            "profiles": profiles,
            "objective": objective if constrains else {"max_accuracy_drop": max_accuracy_drop},
            "constraints": {
                "max_accuracy_drop": max_accuracy_drop if constrains else None,
                "confidence": confidence,
                "exclude": exclude,
                "structures": structures,
                "min_widths": [{"pattern": pattern, "share": share} for pattern, share in min_widths],
                "max_bytes": max_bytes,
                "max_memory_bytes": max_memory_bytes,
            },
            "search": search,
            "input_shapes": named_shapes(input_shapes),
            "threads": threads,
            "batch": batch,
        }
    )


def named_shapes(flags: Sequence[str]) -> list[dict[str, Any]]:
    """What `--input-shape` says; names may have colons, sizes have none.

    Raises:
        click.UsageError: no name, or sizes that are no numbers.
    """
    found = []
    for flag in flags:
        name, _, sizes = flag.rpartition(":")
        parts = [size.strip() for size in sizes.split(",")]
        if not name or not all(size.isascii() and size.isdigit() for size in parts):
            raise click.UsageError(f"--input-shape {flag}: write the input's name and its sizes, e.g. x:1,3,48,320")
        found.append({"input": name, "shape": [int(size) for size in parts]})
    return found


def checked_spec(fields: dict[str, Any]) -> JobSpec:
    """A spec within the limits that the HTTP service sets too.

    Raises:
        click.UsageError: a value that does not fit; names the field.
    """
    try:
        return pydantic.TypeAdapter(JobSpec).validate_json(json.dumps(fields))  # strict, as the service is
    except pydantic.ValidationError as error:
        fault = error.errors()[0]
        raise click.UsageError(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error
