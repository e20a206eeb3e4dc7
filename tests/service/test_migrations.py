"""The schema's history: revisions and tables agree, and jobs of the previous release go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from service.artifacts import BlobStore
from service.database import Database
from service.migrations import FIRST, HEAD, revision_of, upgrade
from service.settings import Settings
from service.store import Store
from service.tables import Base
from service.worker import run_job

from .conftest import PROFILE, QUICK_CHILD, plan


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without tables, once on each server."""
    sqlite = f"sqlite:///{tmp_path / 'rows.db'}"
    database = Database(sqlite if request.param == "sqlite" else request.getfixturevalue("postgres_url"))
    with database.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS alembic_version"))
        Base.metadata.drop_all(connection)
    yield database
    database.close()


def previous_job(job_id: str, status: str, model_sha256: str, lease_until: float | None = None) -> dict[str, object]:
    """A row as the previous release wrote it."""
    search = {"deadline_minutes": 60.0}
    return {
        "id": job_id,
        "tenant": "local",
        "status": status,
        "spec": json.dumps({"schema_version": 1, "profiles": [PROFILE], "search": search}),
        "job_metadata": "{}",
        "model_sha256": model_sha256,
        "progress": json.dumps({"fraction": 0.0, "done": 0, "total": 0, "unit": ""}),
        "warnings": "[]",
        "attempt": 0 if status == "queued" else 1,
        "deaths": 0,
        "lease_until": lease_until,
        "events_read": 0,
        "last_seq": 0,
        "created_at": 1.0,
        "announced_at": 1.0,
    }


def insert(database: Database, row: dict[str, object]) -> None:
    """Write a row by its columns alone, as a release that knows no others does."""
    statement = f"INSERT INTO jobs ({', '.join(row)}) VALUES ({', '.join(':' + name for name in row)})"
    with database.engine.begin() as connection:
        connection.execute(sa.text(statement), row)


def test_revisions_make_the_tables(empty: Database) -> None:
    """After the last revision nothing is left to change: every column, type and index is in both."""
    upgrade(empty.engine)
    with empty.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    assert revision_of(empty.engine) == HEAD
    upgrade(empty.engine)


def test_a_newer_schema_is_left_alone(empty: Database) -> None:
    """A process of the previous release that starts late in a rolling upgrade neither fails nor goes back."""
    upgrade(empty.engine)
    upgrade(empty.engine, FIRST)
    assert revision_of(empty.engine) == HEAD


def test_jobs_of_the_previous_schema_finish(empty: Database, tmp_path: Path) -> None:
    """A waiting job, one whose worker died, and one that a web server of the previous release takes after the upgrade."""
    url = empty.engine.url.render_as_string(hide_password=False)
    settings = Settings(data_dir=tmp_path, cache_dir=tmp_path, database_url=url, poll_s=0.05, child_command=QUICK_CHILD)
    upgrade(empty.engine, FIRST)
    with empty.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE alembic_version"))  # the first release had no revisions
    blobs = BlobStore.of(settings)
    with blobs.writer() as writer:
        writer.write(plan())
        blob = writer.seal()
        writer.keep()
    insert(empty, previous_job("job_waiting", "queued", blob.sha256))
    insert(empty, previous_job("job_lost", "running", blob.sha256, lease_until=2.0))
    store = Store.open(settings)
    assert revision_of(store.engine) == HEAD
    insert(empty, previous_job("job_late", "queued", blob.sha256))
    for job_id in ("job_waiting", "job_lost", "job_late"):
        assert run_job(settings, job_id, lambda: False) == "succeeded"
        assert "report.json" in {row.name for row in store.artifacts(job_id)}
    store.close()
