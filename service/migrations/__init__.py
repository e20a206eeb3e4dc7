"""The history of the schema, and how a database is brought up to date.

Revisions only add tables and columns that may be empty, so that workers of the previous release go on while those of the
new one start.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

HEAD = "0003"
FIRST = "0001"
_LOCK = 0x5ECA7E02


def upgrade(engine: sa.Engine, revision: str = HEAD) -> None:
    """Bring the schema to `revision`; a newer one stays as it is."""
    if revision_of(engine) == revision:
        return
    from alembic import command  # noqa: PLC0415 - slow to import, and needed once a release
    from alembic.config import Config  # noqa: PLC0415

    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":  # of two that start at once, one waits
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        found = _revision(connection)
        if found is not None and found >= revision:  # the other one has done it, or a newer release has
            return
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(Path(__file__).parent))
        if found is None and sa.inspect(connection).has_table("jobs"):  # made before there were revisions
            command.stamp(config, FIRST)
        command.upgrade(config, revision)


def revision_of(engine: sa.Engine) -> str | None:
    """The revision that a database has, None when it has none."""
    with engine.connect() as connection:
        return _revision(connection)


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return str(found) if found is not None else None
