"""Rows of uploaded files: the same bytes of the same tenant, for the same purpose, are one file."""

from __future__ import annotations

import hashlib
from typing import Literal

import sqlalchemy as sa
from sqlalchemy import orm

from service.artifacts import Blob
from service.errors import NotFound, QuotaExceeded
from service.store import Store
from service.tables import File, Upload

Purpose = Literal["model", "model_data", "dataset"]


def add(
    store: Store, purpose: Purpose, blob: Blob, max_bytes: int = 0, name: str | None = None, reserved: int = 0
) -> tuple[File, bool]:
    """The file of these bytes, and whether it is new.

    Args:
        store: the tenant's rows.
        purpose: what it is for.
        blob: its bytes.
        max_bytes: most bytes of all files of the tenant; 0 for no limit.
        name: what its owner calls it; the last one counts.
        reserved: bytes that were counted before, when its upload began.

    Raises:
        QuotaExceeded: there would be more.
    """
    tenant, now = store.tenant, store.clock()
    file_id = id_of(tenant, purpose, blob.sha256)
    with store.writing([tenant]) as session:
        known = session.get(File, file_id)
        if known is not None:
            known.used_at, known.name = now, name or known.name
            return known, False
        require_room(session, tenant, blob.bytes, max_bytes, reserved)
        file = File(id=file_id, tenant=tenant, purpose=purpose, sha256=blob.sha256, bytes=blob.bytes, name=name)
        file.created_at = file.used_at = now
        session.add(file)
        return file, True


def require_room(session: orm.Session, tenant: str, size: int, max_bytes: int, reserved: int = 0) -> None:
    """Refuse `size` bytes more of a tenant; uploads that have begun count whole, `reserved` of them are these.

    Raises:
        QuotaExceeded: there would be more than `max_bytes`, which is 0 for no limit.
    """
    if not max_bytes:
        return
    files = sa.select(sa.func.coalesce(sa.func.sum(File.bytes), 0)).where(File.tenant == tenant)
    begun = sa.select(sa.func.coalesce(sa.func.sum(Upload.bytes), 0))
    begun = begun.where(Upload.tenant == tenant, Upload.file_id.is_(None))
    kept = int(session.scalar(files) or 0) + int(session.scalar(begun) or 0) - reserved
    if kept + size > max_bytes:
        raise QuotaExceeded(
            f"{kept:,} bytes are kept or on their way and {size:,} came; {max_bytes:,} are allowed, unused ones go in time"
        )


def id_of(tenant: str, purpose: Purpose, sha256: str) -> str:
    """The id of a tenant's file of these bytes."""
    return f"file_{hashlib.sha256(f'{tenant}/{purpose}/{sha256}'.encode()).hexdigest()[:32]}"


def find(store: Store, file_id: str, *purposes: Purpose) -> File:
    """An uploaded file for one of these purposes; it counts as used now.

    Raises:
        NotFound: no such file, or one uploaded for another purpose.
    """
    with store.writing() as session:
        file = session.get(File, file_id)
        if file is None or file.tenant != store.tenant or file.purpose not in purposes:
            raise NotFound(f"no {purposes[0]} file {file_id}; upload it first, with purpose={purposes[0]}")
        file.used_at = store.clock()
        return file
