"""Events, subscriptions, deliveries, their queue and their attempts."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the first schema."""
    _meta()
    _events()
    _subscriptions()
    _deliveries()
    _queue()
    _attempts()


def _index(
    name: str, columns: Sequence[str], *, unique: bool = False, where: str | None = None
) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(
        name,
        name.partition("_")[0],
        columns,
        unique=unique,
        sqlite_where=condition,
        postgresql_where=condition,
    )


def _meta() -> None:
    table = op.create_table(
        "meta",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("value", sa.LargeBinary(), nullable=False),
    )
    op.bulk_insert(table, [{"name": "write_probe", "value": b""}])


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("id", _BIG, primary_key=True, autoincrement=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("resource_type", sa.Text(), nullable=False),
        sa.Column("resource_id", sa.Text(), nullable=False),
        sa.Column("publish_time", _BIG, nullable=False),
        sa.Column("delivery_count", sa.Integer(), nullable=False),
        sa.Column("traceparent", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
    )
    _index("events_by_event_id", ["event_id", "tenant_id"], unique=True)
    _index("events_by_tenant", ["tenant_id", "id"])


def _subscriptions() -> None:
    op.create_table(
        "subscriptions",
        sa.Column("lane_id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("subscription_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("suspension_reason", sa.SmallInteger(), nullable=False),
        sa.Column("suspension_message", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("endpoint_uri", sa.Text(), nullable=False),
        sa.Column("filter", sa.Text(), nullable=False),
        sa.Column("headers", sa.LargeBinary(), nullable=False),
        sa.Column("retry_policy", sa.Text(), nullable=False),
        sa.Column("timeout", _BIG, nullable=False),
        sa.Column("max_concurrent_attempts", sa.Integer(), nullable=False),
        sa.Column("allowed_ip_ranges", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("create_time", _BIG, nullable=False),
        sa.Column("update_time", _BIG, nullable=False),
        sa.Column("delete_time", _BIG),
        sqlite_autoincrement=True,
    )
    live = "delete_time IS NULL"
    _index("subscriptions_live", ["tenant_id", "subscription_id"], unique=True, where=live)
    _index("subscriptions_by_id", ["subscription_id", "tenant_id"])
    _signing_keys()


def _signing_keys() -> None:
    op.create_table(
        "signing_keys",
        sa.Column("lane_id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("position", sa.SmallInteger(), primary_key=True, autoincrement=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("algorithm", sa.SmallInteger(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("create_time", _BIG, nullable=False),
        sa.Column("expire_time", _BIG),
        sqlite_with_rowid=False,
    )


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", _BIG, primary_key=True, autoincrement=False),
        sa.Column("event_row", _BIG, nullable=False),
        sa.Column("lane_id", sa.Integer(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("failure_reason", sa.SmallInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("create_time", _BIG, nullable=False),
        sa.Column("end_time", _BIG),
    )
    _index("deliveries_by_event", ["event_row", "id"])
    _index("deliveries_by_lane", ["lane_id", "id"])
    _index("deliveries_by_tenant", ["tenant_id", "id"])
    failed = "state = 3"
    _index("deliveries_failed_by_lane", ["lane_id", "id"], where=failed)
    _index("deliveries_failed_by_tenant", ["tenant_id", "id"], where=failed)


def _queue() -> None:
    op.create_table(
        "queue",
        sa.Column("id", _BIG, primary_key=True, autoincrement=False),
        sa.Column("lane_id", sa.Integer(), nullable=False),
        sa.Column("event_row", _BIG, nullable=False),
        sa.Column("phase", sa.SmallInteger(), nullable=False),
        sa.Column("due", _BIG, nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("set_start", _BIG),
        sa.Column("cause", sa.SmallInteger(), nullable=False),
        sa.Column("claim_time", _BIG),
        sa.Column("lease_until", _BIG),
    )
    _index("queue_wait", ["lane_id", "due", "id"], where="phase = 0")
    _index("queue_lease", ["lease_until"], where="phase = 2")


def _attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("delivery_id", _BIG, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("cause", sa.SmallInteger(), nullable=False),
        sa.Column("start_time", _BIG, nullable=False),
        sa.Column("outcome", sa.SmallInteger(), nullable=False),
        sa.Column("latency", _BIG, nullable=False),
        sa.Column("dns", _BIG),
        sa.Column("connect", _BIG),
        sa.Column("tls", _BIG),
        sa.Column("write", _BIG),
        sa.Column("wait", _BIG),
        sa.Column("status_code", sa.Integer(), nullable=False),
        sa.Column("response_truncated", sa.SmallInteger(), nullable=False),
        sa.Column("retry_after", sa.Text(), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=False),
        sa.Column("error_message", sa.Text(), nullable=False),
        sa.Column("remote_address", sa.Text(), nullable=False),
        sa.Column("response_body", sa.LargeBinary(), nullable=False),
        sqlite_with_rowid=False,
    )
