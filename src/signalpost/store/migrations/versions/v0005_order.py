"""Order of ordered subscriptions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision: str | None = "0004"


def upgrade() -> None:
    """Let subscriptions ask for order, and the queue keep it."""
    op.add_column(
        "subscriptions",
        sa.Column("ordering", sa.SmallInteger(), nullable=False, server_default="0"),
    )
    unarranged = sa.text("ordering > 1")
    op.create_index(
        "subscriptions_unarranged",
        "subscriptions",
        ["lane_id"],
        sqlite_where=unarranged,
        postgresql_where=unarranged,
    )
    op.add_column("queue", sa.Column("resource", sa.Text()))
    has_resource = sa.text("resource IS NOT NULL")
    op.create_index(
        "queue_order",
        "queue",
        ["lane_id", "resource", "phase", "event_row"],
        sqlite_where=has_resource,
        postgresql_where=has_resource,
    )
