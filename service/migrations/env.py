"""Run by Alembic: revisions go over the connection that `service.migrations.upgrade` opened."""

from __future__ import annotations

from alembic import context

from service.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite cannot alter a column in place
    compare_type=True,
)
context.run_migrations()
