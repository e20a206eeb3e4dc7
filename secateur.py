"""Secateur from Python: what the ``secateur`` command does here, and a client of a service elsewhere.

>>> import secateur
>>> secateur.inspect("model.onnx", profiles=["host-cpu-onnxruntime"]).macs  # doctest: +SKIP
>>> report = secateur.compress("model.onnx", "data.npz", out="out")         # doctest: +SKIP

The engine runs in a process of its own, which a fault of a library ends and your program survives; nothing of it is loaded here.
Every error is a `SecateurError`; `ClientError` is what a service elsewhere refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hwprofiles.device import DeviceProfile
from hwprofiles.registry import list_profiles
from search.wire.errors import SecateurError
from search.wire.report import Accuracy, Front, Inspection, Latency, Point, Report
from search.wire.request import Constraints, InputShape, JobSpec, MinWidth, Objective, SearchOptions
from service.client import Client
from service.errors import ClientError
from service.settings import Settings

__all__ = [
    "Accuracy",
    "Client",
    "ClientError",
    "Constraints",
    "DeviceProfile",
    "Front",
    "InputShape",
    "Inspection",
    "JobSpec",
    "Latency",
    "MinWidth",
    "Objective",
    "Point",
    "Report",
    "SearchOptions",
    "SecateurError",
    "compress",
    "inspect",
    "profiles",
]


def compress(
    model: Path | str, data: Path | str | None = None, *, out: Path | str, spec: JobSpec | None = None
) -> Report:
    """Prune a network for its targets and write the front to a folder.

    Args:
        model: an ONNX file, its data files beside it.
        data: an .npz file with ``x`` and perhaps ``y``; None: synthetic inputs, and a warning in the report.
        out: where the files of the front go, ``best.onnx`` among them.
        spec: targets, objective, limits; None: this machine, and at most one point of accuracy lost.

    Raises:
        SecateurError: the input does not fit, a target is out of reach, or there is no result.
        ProfileError: a target that there is not.
    """
    from service.commands.local import run_compress  # the command line is loaded once it works  # noqa: PLC0415

    return run_compress(spec or JobSpec(), Path(model), None if data is None else Path(data), Path(out), None)


def inspect(
    model: Path | str, profiles: Sequence[str] = JobSpec().profiles, *, constraints: Constraints | None = None
) -> Inspection:
    """Say what can be pruned in a network, what cannot and why, and what each target makes of it.

    Raises:
        SecateurError: the file is not usable.
        ProfileError: a target that there is not.
    """
    from service.commands.local import run_inspect  # noqa: PLC0415

    return run_inspect(JobSpec(tuple(profiles), constraints=constraints or Constraints()), Path(model))


def profiles() -> list[DeviceProfile]:
    """Every target: those that come with it, and those that were calibrated or imported on this machine."""
    return list_profiles(Settings.from_env().profile_dirs)
