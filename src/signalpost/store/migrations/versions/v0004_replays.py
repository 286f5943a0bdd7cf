"""Replays, and deliveries under way that are to be canceled."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Tell replays from live deliveries in the queue, and make room for their orders."""
    band = sa.Column("band", sa.SmallInteger(), nullable=False, server_default="0")
    op.add_column("queue", band)
    op.add_column("queue", sa.Column("cancel_time", _BIG))
    op.drop_index("queue_wait", "queue")
    waiting = sa.text("phase = 0")
    op.create_index(
        "queue_wait",
        "queue",
        ["lane_id", "band", "due", "id"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
    op.create_table("replays", *_columns(), sqlite_autoincrement=True)
    _index("replays_ended", ["end_time"], where="end_time IS NOT NULL", unique=False)
    _index("replays_running", ["lane_id"], where="end_time IS NULL")
    _index("replays_by_request", ["tenant_id", "request_id"], where="request_id IS NOT NULL")


def _columns() -> list[sa.Column[object]]:
    return [
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("lane_id", sa.Integer(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text()),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("scope", sa.SmallInteger(), nullable=False),
        sa.Column("filter", sa.Text(), nullable=False),
        sa.Column("range_start", _BIG, nullable=False),
        sa.Column("range_end", _BIG, nullable=False),
        sa.Column("position", _BIG, nullable=False),
        sa.Column("delivery_count", _BIG, nullable=False),
        sa.Column("create_time", _BIG, nullable=False),
        sa.Column("end_time", _BIG),
    ]


def _index(name: str, columns: list[str], *, where: str, unique: bool = True) -> None:
    condition = sa.text(where)
    op.create_index(
        name,
        "replays",
        columns,
        unique=unique,
        sqlite_where=condition,
        postgresql_where=condition,
    )
