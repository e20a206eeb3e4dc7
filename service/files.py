"""Rows of uploaded files: the same bytes of the same tenant, for the same purpose, are one file."""

from __future__ import annotations

import hashlib
from typing import Literal

import sqlalchemy as sa

from service.artifacts import Blob
from service.errors import NotFound, QuotaExceeded
from service.store import Store
from service.tables import File

Purpose = Literal["model", "dataset"]


def add(store: Store, purpose: Purpose, blob: Blob, max_bytes: int = 0) -> tuple[File, bool]:
    """The file of these bytes, and whether it is new.

    Args:
        store: the tenant's rows.
        purpose: what it is for.
        blob: its bytes.
        max_bytes: most bytes of all files of the tenant; 0 for no limit.

    Raises:
        QuotaExceeded: there would be more.
    """
    tenant, now = store.tenant, store.clock()
    digest = hashlib.sha256(f"{tenant}/{purpose}/{blob.sha256}".encode()).hexdigest()
    file_id = f"file_{digest[:32]}"
    with store.writing([tenant]) as session:
        known = session.get(File, file_id)
        if known is not None:
            known.used_at = now
            return known, False
        kept = session.scalar(sa.select(sa.func.sum(File.bytes)).where(File.tenant == tenant)) or 0
        if max_bytes and kept + blob.bytes > max_bytes:
            raise QuotaExceeded(
                f"{kept:,} bytes are kept and {blob.bytes:,} came; {max_bytes:,} are allowed, unused ones go in time"
            )
        file = File(id=file_id, tenant=tenant, purpose=purpose, sha256=blob.sha256, bytes=blob.bytes)
        file.created_at = file.used_at = now
        session.add(file)
        return file, True


def find(store: Store, file_id: str, purpose: Purpose) -> File:
    """An uploaded file; it counts as used now.

    Raises:
        NotFound: no such file, or one uploaded for another purpose.
    """
    with store.writing() as session:
        file = session.get(File, file_id)
        if file is None or file.tenant != store.tenant or file.purpose != purpose:
            raise NotFound(f"no {purpose} file {file_id}; upload it first, with purpose={purpose}")
        file.used_at = store.clock()
        return file
