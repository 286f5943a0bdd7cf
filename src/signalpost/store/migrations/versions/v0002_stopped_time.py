"""Since when a subscription is paused or suspended, and how long it was so before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Let subscriptions remember it."""
    op.add_column("subscriptions", sa.Column("stop_time", _BIG))
    op.add_column("subscriptions", sa.Column("stopped", _BIG, nullable=False, server_default="0"))
