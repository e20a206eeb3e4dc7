"""The rows. One schema for SQLite and PostgreSQL; times are seconds since the epoch, UTC.

A change here needs a revision in `service/migrations/versions`; a test compares the two.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from service.jobs import Status

LOCAL_TENANT = "local"
"""Owner of everything while there are no API keys."""
NOBODY = ""
"""Who asks without a key where one is needed: owns nothing."""


class Base(orm.DeclarativeBase):
    """Registry of the tables."""

    type_annotation_map = {dict[str, Any]: sa.JSON, list[str]: sa.JSON}  # noqa: RUF012 - SQLAlchemy's own protocol


class Job(Base):
    """A job: the truth about it. Whatever a worker writes names the attempt, so that a late attempt changes nothing."""

    __tablename__ = "jobs"
    __table_args__ = (sa.Index("jobs_by_time", "tenant", "created_at", "id"), sa.Index("jobs_by_status", "status"))

    id: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    tenant: orm.Mapped[str] = orm.mapped_column(default=LOCAL_TENANT)
    status: orm.Mapped[str] = orm.mapped_column(default=Status.QUEUED)
    stage: orm.Mapped[str | None] = orm.mapped_column(default=None)
    spec: orm.Mapped[dict[str, Any]]
    """`search.wire.request.JobSpec` as JSON."""
    job_metadata: orm.Mapped[dict[str, Any]]
    model_sha256: orm.Mapped[str]
    model_data: orm.Mapped[dict[str, Any] | None] = orm.mapped_column(sa.JSON(none_as_null=True), default=None)
    """SHA-256 of the model's data files by their locations; None for a model of one file."""
    dataset_sha256: orm.Mapped[str | None] = orm.mapped_column(default=None)
    user_profiles: orm.Mapped[dict[str, Any] | None] = orm.mapped_column(sa.JSON(none_as_null=True), default=None)
    """The targets of the tenant's own that the job names, as they were at its submission."""
    model_name: orm.Mapped[str | None] = orm.mapped_column(default=None)
    """What its owner calls the file."""
    dataset_name: orm.Mapped[str | None] = orm.mapped_column(default=None)
    progress: orm.Mapped[dict[str, Any]]
    """``fraction``, ``done``, ``total``, ``unit``."""
    warnings: orm.Mapped[list[str]]
    best: orm.Mapped[dict[str, Any] | None] = orm.mapped_column(sa.JSON(none_as_null=True), default=None)
    error: orm.Mapped[dict[str, Any] | None] = orm.mapped_column(sa.JSON(none_as_null=True), default=None)
    attempt: orm.Mapped[int] = orm.mapped_column(default=0)
    """Grows with every claim: the fencing token."""
    deaths: orm.Mapped[int] = orm.mapped_column(default=0)
    """Attempts that ended with a dead process; a worker that stops in good order does not count."""
    lease_owner: orm.Mapped[str | None] = orm.mapped_column(default=None)
    lease_until: orm.Mapped[float | None] = orm.mapped_column(default=None)
    events_read: orm.Mapped[int] = orm.mapped_column(default=0)
    """Bytes of this attempt's events.jsonl that are in the events table already."""
    last_seq: orm.Mapped[int] = orm.mapped_column(default=0)
    created_at: orm.Mapped[float]
    announced_at: orm.Mapped[float]
    """When a message for the job last went to the broker, or was tried to."""
    started_at: orm.Mapped[float | None] = orm.mapped_column(default=None)
    finished_at: orm.Mapped[float | None] = orm.mapped_column(default=None)
    expires_at: orm.Mapped[float | None] = orm.mapped_column(default=None)
    request_id: orm.Mapped[str | None] = orm.mapped_column(default=None)
    """Of the submission; the logs of web, worker and child carry it."""
    webhook_url: orm.Mapped[str | None] = orm.mapped_column(default=None)


class Event(Base):
    """One line of a job's history: numbered from 1, never changed."""

    __tablename__ = "events"

    job_id: orm.Mapped[str] = orm.mapped_column(sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    seq: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    at: orm.Mapped[float]
    body: orm.Mapped[dict[str, Any]]
    """``type`` and the members of that type."""


class File(Base):
    """An upload. The id is a digest of owner, purpose and bytes: the same bytes again are the same file."""

    __tablename__ = "files"

    id: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    tenant: orm.Mapped[str] = orm.mapped_column(default=LOCAL_TENANT)
    purpose: orm.Mapped[str]
    sha256: orm.Mapped[str] = orm.mapped_column(index=True)
    bytes: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    name: orm.Mapped[str | None] = orm.mapped_column(default=None)
    """What its owner calls it; for people, never a path."""
    created_at: orm.Mapped[float]
    used_at: orm.Mapped[float | None] = orm.mapped_column(default=None)
    """When it was last uploaded or submitted; retention counts from here."""


class Artifact(Base):
    """A file that a job gave back; `name` is the path in the job's output directory."""

    __tablename__ = "artifacts"

    job_id: orm.Mapped[str] = orm.mapped_column(sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    kind: orm.Mapped[str]
    sha256: orm.Mapped[str] = orm.mapped_column(index=True)
    bytes: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)


class IdempotencyKey(Base):
    """A key a client chose for one submission. Written with the job, in one transaction: it is never half done."""

    __tablename__ = "idempotency_keys"

    tenant: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    key: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    body_sha256: orm.Mapped[str]
    job_id: orm.Mapped[str]
    created_at: orm.Mapped[float]


class ApiKey(Base):
    """A key to one tenant's things. Only its digest is kept: whoever reads the table can use none of them."""

    __tablename__ = "api_keys"

    id: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    """The part of the key that is shown."""
    tenant: orm.Mapped[str]
    name: orm.Mapped[str]
    sha256: orm.Mapped[str] = orm.mapped_column(unique=True)
    created_at: orm.Mapped[float]
    revoked_at: orm.Mapped[float | None] = orm.mapped_column(default=None)


class UserProfile(Base):
    """A target of a tenant's own."""

    __tablename__ = "user_profiles"

    tenant: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    id: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    profile: orm.Mapped[dict[str, Any]]
    created_at: orm.Mapped[float]


class BlobHold(Base):
    """Bytes on their way from a request or a job to the row that will name them; until then nobody removes them."""

    __tablename__ = "blob_holds"

    token: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    sha256: orm.Mapped[str] = orm.mapped_column(primary_key=True, index=True)
    until: orm.Mapped[float]


class Orphan(Base):
    """A digest that may no longer be named by any row: written with the deletion, looked into afterwards."""

    __tablename__ = "orphans"

    sha256: orm.Mapped[str] = orm.mapped_column(primary_key=True)


class Upload(Base):
    """A resumable upload on its way (tus)."""

    __tablename__ = "uploads"

    id: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    tenant: orm.Mapped[str]
    purpose: orm.Mapped[str]
    bytes: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)
    received: orm.Mapped[int] = orm.mapped_column(sa.BigInteger, default=0)
    parts: orm.Mapped[list[str]]
    """Keys in the storage, in order."""
    upload_metadata: orm.Mapped[str] = orm.mapped_column(default="")
    """As the client sent it; it is given back so."""
    expires_at: orm.Mapped[float]
    file_id: orm.Mapped[str | None] = orm.mapped_column(default=None)


class Delivery(Base):
    """A webhook message that is due: written with the end of its job, in one transaction."""

    __tablename__ = "deliveries"

    id: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    job_id: orm.Mapped[str] = orm.mapped_column(sa.ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    url: orm.Mapped[str]
    attempts: orm.Mapped[int] = orm.mapped_column(default=0)
    next_at: orm.Mapped[float | None] = orm.mapped_column(default=None)
    """None once it was delivered or given up."""
