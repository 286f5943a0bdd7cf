"""Counts of what ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision: str | None = "0006"


def upgrade() -> None:
    """Make room for them."""
    counts = ["succeeded", "failed", "canceled", "attempts", "failed_attempts"]
    counts += [f"latency_{number}" for number in range(16)]
    op.create_table(
        "delivery_statistics",
        sa.Column("bucket", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("lane_id", sa.Integer(), primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in counts),
        sqlite_with_rowid=False,
    )
    op.create_index("subscriptions_by_tenant", "subscriptions", ["tenant_id", "lane_id"])
