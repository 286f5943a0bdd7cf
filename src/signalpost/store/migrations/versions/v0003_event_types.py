"""Registered event types."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make room for them."""
    op.create_table(
        "event_types",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("resource_type", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("deprecated", sa.SmallInteger(), nullable=False),
        sa.Column("create_time", _BIG, nullable=False),
        sa.Column("update_time", _BIG, nullable=False),
        sa.Column("schema", sa.LargeBinary()),
        sa.Column("example", sa.LargeBinary()),
    )
