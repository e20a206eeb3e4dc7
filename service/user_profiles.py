"""Targets of a tenant's own, as rows: seen by this tenant alone, by every web server, and by the worker of its jobs.

Beside them stand the built-in targets and those of the machine's keeper, which every tenant sees.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from hwprofiles.device import DeviceProfile
from hwprofiles.errors import UnknownProfile
from hwprofiles.registry import list_profiles, parse_profile
from service.errors import Conflict, NotFound, QuotaExceeded, TooLarge
from service.settings import Settings
from service.store import Store
from service.tables import UserProfile

LARGEST_BYTES = 2**20
"""Of one profile; the built-in ones have up to a fifth of it."""


def listed(store: Store, settings: Settings) -> list[DeviceProfile]:
    """Every target that the tenant may name, sorted by id."""
    rows = sa.select(UserProfile).where(UserProfile.tenant == store.tenant)
    with store.reading() as session:
        own = {row.id: parse_profile(row.profile) for row in session.scalars(rows)}
    common = {profile.id: profile for profile in list_profiles(settings.profile_dirs)}
    return [profile for _, profile in sorted({**own, **common}.items())]


def find(store: Store, settings: Settings, profile_id: str) -> DeviceProfile:
    """A target that the tenant may name.

    Raises:
        UnknownProfile: there is none; names those there are.
    """
    known = {profile.id: profile for profile in listed(store, settings)}
    if profile_id not in known:
        raise UnknownProfile(profile_id, known)
    return known[profile_id]


def among(store: Store, settings: Settings, profile_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Those of these targets that are the tenant's own, as JSON: a job keeps them, whatever becomes of the rows.

    Raises:
        UnknownProfile: one that there is not.
    """
    known = {profile.id: profile for profile in listed(store, settings)}
    common = {profile.id for profile in list_profiles(settings.profile_dirs)}
    for profile_id in profile_ids:
        if profile_id not in known:
            raise UnknownProfile(profile_id, known)
    return {one: json.loads(json.dumps(known[one].to_dict())) for one in profile_ids if one not in common}


def as_stated(profile: DeviceProfile) -> DeviceProfile:
    """A client's own profile: what only a measurement here may claim is left out of it."""
    provenance = "measured by a user" if profile.provenance == "measured here" else profile.provenance
    return dataclasses.replace(
        profile, measurable_here=False, held_out_error=None, anchors_s=(), calibrated=True, provenance=provenance
    )


def add(store: Store, settings: Settings, profile: DeviceProfile, max_profiles: int) -> None:
    """Keep a target of the tenant's. An id that is taken stays as it is.

    Raises:
        Conflict: the tenant knows a target of this id already.
        QuotaExceeded: the tenant has `max_profiles`; 0 for no limit.
        TooLarge: the profile.
    """
    fields = json.loads(json.dumps(profile.to_dict()))
    size = len(json.dumps(fields))
    if size > LARGEST_BYTES:
        raise TooLarge(f"the profile has {size:,} bytes as JSON; at most {LARGEST_BYTES:,} are kept")
    mine = UserProfile.tenant == store.tenant
    with store.writing([f"profiles/{store.tenant}"]) as session:
        taken = session.get(UserProfile, (store.tenant, profile.id)) is not None
        if taken or profile.id in {one.id for one in list_profiles(settings.profile_dirs)}:
            raise Conflict(f"there is a profile {profile.id!r} already; choose another id")
        count = session.scalar(sa.select(sa.func.count()).select_from(UserProfile).where(mine)) or 0
        if max_profiles and count >= max_profiles:
            raise QuotaExceeded(f"{count} profiles are kept, {max_profiles} are allowed; delete one")
        session.add(UserProfile(tenant=store.tenant, id=profile.id, profile=fields, created_at=store.clock()))


def remove(store: Store, settings: Settings, profile_id: str) -> None:
    """Forget a target of the tenant's; jobs that name it keep it.

    Raises:
        Conflict: it is one that everybody has.
        NotFound: there is none.
    """
    if profile_id in {one.id for one in list_profiles(settings.profile_dirs)}:
        raise Conflict(f"{profile_id!r} is a target of everybody's; only your own can be deleted")
    mine = (UserProfile.tenant == store.tenant) & (UserProfile.id == profile_id)
    with store.writing() as session:
        if session.scalar(sa.delete(UserProfile).where(mine).returning(UserProfile.id)) is None:
            raise NotFound(f"no profile {profile_id!r}; GET /v1/profiles lists them")
