"""The consent of endpoints, where a subscription requires it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision: str | None = "0007"


def upgrade() -> None:
    """Make room for it."""
    op.add_column(
        "subscriptions",
        sa.Column("require_handshake", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.add_column("subscriptions", sa.Column("consent_origin", sa.Text()))
    op.add_column("subscriptions", sa.Column("allowed_attempts_per_minute", sa.Integer()))
