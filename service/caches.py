"""What a child sees as its cache: calibrations and measurements of its tenant, and the tenant's own targets.

The keeper of a machine with one tenant shares the cache with the command line. Where there are several, each has its own:
what an upload's child writes is believed by jobs of the same tenant only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwprofiles.errors import ProfileError
from hwprofiles.registry import load_profile, parse_profile, save_profile
from service import sandbox
from service.settings import Settings
from service.tables import LOCAL_TENANT


def tenant_cache(settings: Settings, tenant: str) -> Path:
    """The folder that stays between a tenant's jobs."""
    return settings.cache_dir if tenant == LOCAL_TENANT else settings.cache_dir / "tenants" / tenant


def view(directory: Path, settings: Settings, tenant: str, own: Mapping[str, dict[str, Any]]) -> Path:
    """Make the cache of one job, or of a dry run.

    Args:
        directory: of the job; the cache is a folder in it.
        settings: where the caches of tenants are.
        tenant: whose job it is.
        own: targets of the tenant's own that it names, as JSON.
    """
    cache, stays = directory / "cache", tenant_cache(settings, tenant)
    profiles = cache / "profiles"
    profiles.mkdir(parents=True, exist_ok=True)
    for folder in (*settings.profile_dirs, stays / "profiles"):
        for path in sorted(folder.glob("*.toml")):
            (profiles / path.name).write_bytes(path.read_bytes())
    for fields in own.values():
        save_profile(dataclasses.replace(parse_profile(dict(fields)), measurable_here=False), profiles)
    for name in sandbox.REMEMBERED:
        (stays / name).mkdir(parents=True, exist_ok=True)
        (cache / name).symlink_to((stays / name).resolve())
    return cache


def keep_calibrations(cache: Path, settings: Settings, tenant: str, own: Mapping[str, dict[str, Any]]) -> None:
    """Keep what the job measured of this machine for the tenant's next ones; what was there before stays as it was."""
    stays = tenant_cache(settings, tenant) / "profiles"
    for path in sorted((cache / "profiles").glob("*.toml")):
        if path.stem in own or path.is_symlink() or _is_calibrated(path.stem, stays):
            continue
        if _is_calibrated(path.stem, path.parent):
            save_profile(load_profile(path.stem, [path.parent]), stays)


def _is_calibrated(profile_id: str, folder: Path) -> bool:
    """Whether a target has its prices, by a file of `folder` or built in."""
    try:
        return load_profile(profile_id, [folder]).calibrated
    except (ProfileError, OSError):  # a child may have left anything
        return False
