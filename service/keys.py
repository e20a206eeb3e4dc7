"""API keys: ``sk_<id>_<secret>``. The id is shown, the secret is told once, its digest is kept."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence

import sqlalchemy as sa

from service.database import Database
from service.errors import NotFound, Unauthorized
from service.tables import ApiKey

_KEY = re.compile(r"sk_[0-9a-f]{12}_[A-Za-z0-9_-]{43}")
TENANT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def create(database: Database, tenant: str, name: str) -> tuple[ApiKey, str]:
    """A new key of `tenant`; its row, and the key itself, which nobody can read again.

    Raises:
        ValueError: `tenant` is no name of a tenant.
    """
    if TENANT.fullmatch(tenant) is None:
        raise ValueError(f"tenant {tenant!r}: use up to 63 of a-z 0-9 . _ -, a letter or digit first")
    key_id = f"sk_{secrets.token_hex(6)}"
    key = f"{key_id}_{secrets.token_urlsafe(32)}"
    row = ApiKey(id=key_id, tenant=tenant, name=name, sha256=_digest(key), created_at=database.clock())
    with database.writing() as session:
        session.add(row)
    return row, key


def listed(database: Database) -> Sequence[ApiKey]:
    """Every key, oldest first."""
    with database.reading() as session:
        return session.scalars(sa.select(ApiKey).order_by(ApiKey.created_at)).all()


def revoke(database: Database, key_id: str) -> ApiKey:
    """Make a key useless from the next request on.

    Raises:
        NotFound: no such key.
    """
    with database.writing() as session:
        row = session.get(ApiKey, key_id, with_for_update=True)
        if row is None:
            raise NotFound(f"no key {key_id}; `secateur keys list` shows them")
        row.revoked_at = row.revoked_at or database.clock()
        return row


def tenant_of(database: Database, authorization: str | None) -> str:
    """The tenant whose key the Authorization header holds. Looked up at each request, so a revocation holds at once.

    Raises:
        Unauthorized: no key, or none that is good; which of them is not said.
    """
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or _KEY.fullmatch(key.strip()) is None:
        raise Unauthorized("send an API key: Authorization: Bearer sk_...; `secateur keys create` makes one")
    good = sa.select(ApiKey.tenant).where(ApiKey.sha256 == _digest(key.strip()), ApiKey.revoked_at.is_(None))
    with database.reading() as session:
        tenant = session.scalar(good)
    if tenant is None:
        raise Unauthorized("this API key is not known, or was revoked; `secateur keys create` makes a new one")
    return tenant


def _digest(key: str) -> str:
    # The secret is 256 random bits: nothing to guess, so a slow hash would only slow every request down.
    return hashlib.sha256(key.encode()).hexdigest()
