"""Profiles by id; those of this machine are calibrated on first use and kept for later jobs."""

from __future__ import annotations

from pathlib import Path

from hwprofiles.device import DeviceProfile
from hwprofiles.errors import ProfileError
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
        profile = load_profile(name, [folder])
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
