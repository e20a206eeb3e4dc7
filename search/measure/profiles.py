"""Profiles by id; those of this machine are calibrated on first use, kept for later jobs, and believed of this machine alone."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np

from hwprofiles.device import DeviceProfile, HeldOutError
from hwprofiles.errors import ProfileError
from hwprofiles.registry import load_profile, save_profile
from search.wire.errors import InvalidProfile
from search.wire.progress import Progress

MOVED = 1.1
"""Factor by which the anchor networks may be slower or faster than at the calibration; its own error is about as large."""


def resolve(
    name: str,
    cache_dir: Path,
    progress: Progress,
    threads: int | None = None,
    batch: int | None = None,
    *,
    anchored: bool = True,
) -> DeviceProfile:
    """Load a profile; measure this machine if the profile is one of its own and was never calibrated here.

    Args:
        name: its id.
        cache_dir: calibrations of this machine.
        progress: is told, and warned.
        threads: of one operator, on this machine; None: as the profile says.
        batch: samples of one inference; None: as the profile says.
        anchored: whether it is asked if this machine is as fast as when it was calibrated, which takes seconds.

    Raises:
        InvalidProfile: unknown or malformed, of a runtime that is not installed here, or of another number of threads.
    """
    folder = cache_dir / "profiles" / (f"{threads}-threads" if threads is not None and threads > 1 else "")
    try:
        profile = load_profile(name, [cache_dir / "profiles", folder])
    except ProfileError as error:
        raise InvalidProfile(str(error), profile=name) from error
    threads = threads or profile.threads
    profile = _earned(profile, threads, progress)
    if profile.calibrated:
        profile = _anchored(profile, progress) if anchored else profile
    else:
        # Loads SciPy, which a look at targets that are no machine of ours does without.
        from search.measure.calibrate.calibration import calibrate_host  # noqa: PLC0415

        profile = calibrate_host(
            name,
            runtime_name=profile.runtime,
            threads=threads,
            progress=lambda fraction: progress.step(round(100 * fraction), 100, "percent of a host calibration"),
        )
        save_profile(profile, folder)
    return _with_batch(profile, batch)


def _earned(profile: DeviceProfile, threads: int, progress: Progress) -> DeviceProfile:
    """The profile, measured only where this very machine measured it; its stand-in where another did, or with other threads."""
    if not profile.measurable_here and threads == profile.threads:
        return profile
    from search.measure.runtimes import RUNTIMES, is_installed  # noqa: PLC0415

    if not profile.measurable_here:
        raise InvalidProfile(
            f"profile `{profile.id}` is of {profile.threads} thread{'s' if profile.threads > 1 else ''}; "
            f"threads can be chosen for targets that are this machine: {', '.join(r.profile_id for r in RUNTIMES.values())}",
            profile=profile.id,
        )
    if not profile.calibrated:
        return profile
    known = profile.runtime in RUNTIMES and is_installed(profile.runtime)
    mine = known and profile.provenance == "measured here" and _is_mine(profile, threads)
    if mine:
        return profile
    if known and profile.id == RUNTIMES[profile.runtime].profile_id:
        if profile.threads == threads:
            progress.warn(
                f"the calibration of {profile.id} is of another machine or version ({profile.name}); it is made anew"
            )
        return load_profile(profile.id)
    progress.warn(
        f"{profile.id} was not measured on this machine as it is ({profile.name}), so its latencies are modelled"
    )
    return dataclasses.replace(profile, measurable_here=False)


def _is_mine(profile: DeviceProfile, threads: int) -> bool:
    from search.measure.runtimes import identity  # noqa: PLC0415

    return profile.threads == threads and all(
        getattr(profile, field) == value for field, value in identity(profile.runtime, threads).items()
    )


def _anchored(profile: DeviceProfile, progress: Progress) -> DeviceProfile:
    """The profile, its interval wider by as much as the machine is slower or faster than when it was calibrated."""
    if not profile.measurable_here or not profile.anchors_s or profile.held_out_error is None:
        return profile
    from search.measure.calibrate.calibration import anchors_s  # noqa: PLC0415

    now_s = anchors_s(profile.runtime, profile.threads)
    moved = float(np.median(np.divide(now_s, profile.anchors_s)))
    if 1 / MOVED <= moved <= MOVED:
        return profile
    progress.warn(
        f"this machine takes {moved:.2f} times as long as when {profile.id} was calibrated ({profile.date}), most likely as "
        "others use it: predicted latencies have wider intervals; measured speed-ups are ratios within a round"
    )
    return dataclasses.replace(profile, held_out_error=_wider(profile.held_out_error, abs(math.log(moved))))


def _wider(error: HeldOutError, log_factor: float) -> HeldOutError:
    return dataclasses.replace(error, log_error_q90=error.log_error_q90 + log_factor)


def _with_batch(profile: DeviceProfile, batch: int | None) -> DeviceProfile:
    """The profile at another batch size, for which no error of its model is known."""
    if batch is None or batch == profile.batch:
        return profile
    note = f"its model was fitted at batch {profile.batch}, so at {batch} no error of it is known"
    return dataclasses.replace(profile, batch=batch, held_out_error=None, notes=(*profile.notes, note))
