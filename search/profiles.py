"""Profiles by id; those of this machine are calibrated on first use and kept for later jobs."""

from __future__ import annotations

from pathlib import Path

from hwprofiles.device import DeviceProfile
from hwprofiles.errors import MalformedProfile, ProfileError
from hwprofiles.registry import load_profile, save_profile
from search.errors import InvalidProfile
from search.evaluate.calibrate import calibrate_host
from search.progress import Progress


def resolve(name: str, cache_dir: Path, progress: Progress) -> DeviceProfile:
    """Load a profile; measure this machine if the profile is one of its own and was never calibrated.

    Raises:
        InvalidProfile: unknown or malformed, or of a runtime that is not installed here.
    """
    folder = cache_dir / "profiles"
    try:
        profile = _latest(name, folder, progress)
    except ProfileError as error:
        raise InvalidProfile(str(error), profile=name) from error
    if profile.calibrated:
        return profile
    profile = calibrate_host(
        name,
        runtime_name=profile.runtime,
        threads=profile.threads,
        progress=lambda fraction: progress.step(round(100 * fraction), 100, "percent of a host calibration"),
    )
    save_profile(profile, folder)
    return profile


def _latest(name: str, folder: Path, progress: Progress) -> DeviceProfile:
    """The profile, or the stand-in for this machine where its calibration is of a release that wrote other fields."""
    try:
        return load_profile(name, [folder])
    except MalformedProfile as error:
        built_in = load_profile(name)
        if built_in.calibrated:
            raise
        progress.warn(f"the calibration of {name} is measured anew, as it cannot be read: {error}")
        return built_in
