"""Models of several files, names of files, profiles of users."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add them."""
    op.add_column("files", sa.Column("name", sa.String(), nullable=True))
    op.add_column("jobs", sa.Column("model_data", sa.JSON(), nullable=True))
    op.add_column("jobs", sa.Column("user_profiles", sa.JSON(), nullable=True))
    op.add_column("jobs", sa.Column("model_name", sa.String(), nullable=True))
    op.add_column("jobs", sa.Column("dataset_name", sa.String(), nullable=True))
    op.create_table(
        "user_profiles",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("profile", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id"),
    )
