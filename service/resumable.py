"""Rows of resumable uploads: the offset moves by compare-and-set, so that no byte counts twice."""

from __future__ import annotations

import secrets

import sqlalchemy as sa

from service.database import Database
from service.errors import Conflict, Expired, NotFound
from service.files import Purpose, require_room
from service.storage import Storage
from service.store import Store
from service.tables import Upload


def begin(store: Store, purpose: Purpose, size: int, metadata: str, lifetime_s: float, max_bytes: int = 0) -> Upload:
    """A new upload of `size` bytes that may take `lifetime_s`; of all bytes of the tenant there are at most `max_bytes`.

    Raises:
        QuotaExceeded: there would be more.
    """
    upload = Upload(
        id=f"upload_{secrets.token_hex(16)}",
        tenant=store.tenant,
        purpose=purpose,
        bytes=size,
        received=0,
        parts=[],
        upload_metadata=metadata,
        expires_at=store.clock() + lifetime_s,
    )
    with store.writing([store.tenant]) as session:
        require_room(session, store.tenant, size, max_bytes)
        session.add(upload)
    return upload


def find(store: Store, upload_id: str) -> Upload:
    """An upload.

    Raises:
        NotFound: no such upload.
        Expired: it took too long.
    """
    with store.reading() as session:
        upload = session.get(Upload, upload_id)
    if upload is None or upload.tenant != store.tenant:
        raise NotFound(f"no upload {upload_id}; begin one with POST /v1/uploads")
    if upload.expires_at < store.clock():
        raise Expired(f"upload {upload_id} took too long and is given up; begin again")
    return upload


def require_offset(upload: Upload, offset: int) -> None:
    """Refuse bytes that do not start where the upload is.

    Raises:
        Conflict: they do not.
    """
    if upload.received != offset:
        raise Conflict(f"the upload is at {upload.received}, Upload-Offset is {offset}; ask with HEAD where to go on")


def advance(store: Store, storage: Storage, upload_id: str, offset: int, size: int, key: str) -> Upload:
    """Count a part that starts at `offset`.

    Raises:
        Conflict: another part was first; this one is removed.
    """
    with store.writing() as session:
        upload = session.get(Upload, upload_id, with_for_update=True)
        if upload is not None and upload.received == offset:
            upload.received += size
            upload.parts = [*upload.parts, key]
            return upload
    storage.remove(key)
    raise Conflict(f"another request moved the upload on from {offset}; ask with HEAD where to go on")


def finish(store: Store, storage: Storage, upload_id: str, file_id: str) -> Upload:
    """Note which file an upload became, and remove its parts."""
    with store.writing() as session:
        upload = session.get(Upload, upload_id, with_for_update=True)
        if upload is None:
            raise NotFound(f"the upload {upload_id} was given up meanwhile")
        parts, upload.parts, upload.file_id = upload.parts, [], file_id
    for key in parts:
        storage.remove(key)
    return upload


def drop(database: Database, storage: Storage, upload: Upload) -> None:
    """Forget an upload and its parts; the file that it became stays."""
    with database.writing() as session:
        session.execute(sa.delete(Upload).where(Upload.id == upload.id))
    for key in list(storage.keys(f"uploads/{upload.id}/")):
        storage.remove(key)


def drop_overdue(database: Database, storage: Storage) -> None:
    """Forget the uploads that took too long."""
    with database.reading() as session:
        overdue = session.scalars(sa.select(Upload).where(Upload.expires_at < database.clock()).limit(100)).all()
    for upload in overdue:
        drop(database, storage, upload)
