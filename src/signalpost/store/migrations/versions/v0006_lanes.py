"""Rates of subscriptions, and what was learned of their endpoints."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision: str | None = "0005"

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make room for them."""
    op.add_column("subscriptions", sa.Column("max_attempts_per_second", sa.Double()))
    op.create_table(
        "lanes",
        sa.Column("lane_id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("probe_at", _BIG),
        sa.Column("probes", sa.Integer(), nullable=False),
        sa.Column("not_before", _BIG),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failing_since", _BIG),
        sa.Column("last_failure", _BIG),
        sa.Column("forbidden", sa.Integer(), nullable=False),
        sa.Column("forbidden_since", _BIG),
        sa.Column("ceiling", sa.Integer()),
        sa.Column("ceiling_time", _BIG),
    )
