"""The tables.

Times and durations are whole microseconds, times counted from 1970 in UTC. Numbers of enums
are those of the contract. `queue` holds exactly the pending deliveries: what changes with an
attempt changes there, and no index covers what changes in `deliveries`.
"""

from __future__ import annotations

from enum import IntEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    false,
    literal_column,
)

from signalpost.domain.delivery import DeliveryState
from signalpost.domain.statistics import LATENCY_BUCKETS


class Phase(IntEnum):
    """What may be done with a pending delivery."""

    WAITING = 0  # a claim may take it
    LEASED = 2
    BEHIND = 3  # another one of its resource goes first, see `order`


def _literal(number: IntEnum) -> ColumnElement[int]:
    """Return a number as part of a statement's text, for the planner must know it."""
    return literal_column(str(int(number)), Integer)


WAITING = _literal(Phase.WAITING)
LEASED = _literal(Phase.LEASED)
BEHIND = _literal(Phase.BEHIND)

LIVE = literal_column("0", Integer)
"""Band of deliveries that events, or single retries, put in the queue."""

REPLAYED = literal_column("1", Integer)
"""Band of deliveries that a replay put in the queue."""

FAILED = _literal(DeliveryState.FAILED)
"""State of a dead letter."""

# SQLite makes a column its row number only if its type is INTEGER to the letter.
Big = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData()


def _index(
    name: str, *columns: ColumnElement[object], where: ColumnElement[bool], unique: bool = False
) -> None:
    Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


meta = Table(
    "meta",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", Big, primary_key=True, autoincrement=False),
    Column("tenant_id", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("resource_type", Text, nullable=False),
    Column("resource_id", Text, nullable=False),
    Column("publish_time", Big, nullable=False),
    Column("delivery_count", Integer, nullable=False),
    Column("traceparent", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    # Last, so that a search through the other columns does not read it.
    Column("body", LargeBinary, nullable=False),
)
# The event's ID leads: IDs that rise with time then keep the inserts of all tenants together.
Index("events_by_event_id", events.c.event_id, events.c.tenant_id, unique=True)
Index("events_by_tenant", events.c.tenant_id, events.c.id)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("lane_id", Integer, primary_key=True, autoincrement=True),
    Column("tenant_id", Text, nullable=False),
    Column("subscription_id", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("suspension_reason", SmallInteger, nullable=False),
    Column("suspension_message", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("endpoint_uri", Text, nullable=False),
    Column("filter", Text, nullable=False),
    Column("headers", LargeBinary, nullable=False),  # sealed
    Column("retry_policy", Text, nullable=False),
    Column("timeout", Big, nullable=False),
    Column("max_concurrent_attempts", Integer, nullable=False),
    Column("allowed_ip_ranges", Text, nullable=False),
    Column("labels", Text, nullable=False),
    Column("create_time", Big, nullable=False),
    Column("update_time", Big, nullable=False),
    Column("delete_time", Big),
    Column("stop_time", Big),  # since when it is paused or suspended
    Column("stopped", Big, nullable=False, server_default="0"),  # how long before that
    Column("ordering", SmallInteger, nullable=False, server_default="0"),  # see `order`
    Column("max_attempts_per_second", Double),
    Column("require_handshake", Boolean, nullable=False, server_default=false()),
    Column("consent_origin", Text),  # in whose name the endpoint was asked, if it was
    Column("allowed_attempts_per_minute", Integer),  # as its endpoint said
    sqlite_autoincrement=True,
)
_index(
    "subscriptions_live",
    subscriptions.c.tenant_id,
    subscriptions.c.subscription_id,
    unique=True,
    where=subscriptions.c.delete_time.is_(None),
)
Index(
    "subscriptions_by_id",
    subscriptions.c.subscription_id,
    subscriptions.c.tenant_id,
)

UNARRANGED = subscriptions.c.ordering > literal_column("1", Integer)
"""What holds while a change of `ordered` is not through, see `order`."""

_index("subscriptions_unarranged", subscriptions.c.lane_id, where=UNARRANGED)
Index("subscriptions_by_tenant", subscriptions.c.tenant_id, subscriptions.c.lane_id)

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("lane_id", Integer, primary_key=True, autoincrement=False),
    Column("position", SmallInteger, primary_key=True, autoincrement=False),
    Column("key_id", Text, nullable=False),
    Column("algorithm", SmallInteger, nullable=False),
    Column("secret", LargeBinary, nullable=False),  # sealed
    Column("create_time", Big, nullable=False),
    Column("expire_time", Big),
    sqlite_with_rowid=False,
)

# What was learned of endpoints, as far as a restart must know it. Most lanes have no row.
lanes = Table(
    "lanes",
    metadata,
    Column("lane_id", Integer, primary_key=True, autoincrement=False),
    Column("probe_at", Big),
    Column("probes", Integer, nullable=False),
    Column("not_before", Big),
    Column("failures", Integer, nullable=False),
    Column("failing_since", Big),
    Column("last_failure", Big),
    Column("forbidden", Integer, nullable=False),
    Column("forbidden_since", Big),
    Column("ceiling", Integer),
    Column("ceiling_time", Big),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Big, primary_key=True, autoincrement=False),
    Column("event_row", Big, nullable=False),
    Column("lane_id", Integer, nullable=False),
    Column("tenant_id", Text, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("failure_reason", SmallInteger, nullable=False),
    Column("attempts", Integer, nullable=False),  # while it is pending, see `queue`
    Column("create_time", Big, nullable=False),
    Column("end_time", Big),
)
Index("deliveries_by_event", deliveries.c.event_row, deliveries.c.id)
Index("deliveries_by_lane", deliveries.c.lane_id, deliveries.c.id)
Index("deliveries_by_tenant", deliveries.c.tenant_id, deliveries.c.id)
_index(
    "deliveries_failed_by_lane",
    deliveries.c.lane_id,
    deliveries.c.id,
    where=deliveries.c.state == FAILED,
)
_index(
    "deliveries_failed_by_tenant",
    deliveries.c.tenant_id,
    deliveries.c.id,
    where=deliveries.c.state == FAILED,
)

queue = Table(
    "queue",
    metadata,
    Column("id", Big, primary_key=True, autoincrement=False),  # of the delivery
    Column("lane_id", Integer, nullable=False),
    Column("event_row", Big, nullable=False),
    Column("phase", SmallInteger, nullable=False),
    Column("due", Big, nullable=False),
    Column("token", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("set_start", Big),  # less `stopped` at that time: the difference tells what was active
    Column("cause", SmallInteger, nullable=False),
    Column("claim_time", Big),
    Column("lease_until", Big),
    Column("band", SmallInteger, nullable=False, server_default="0"),
    Column("cancel_time", Big),  # of one under way that only a success is to outlive
    Column("resource", Text),  # in ordered lanes
)
_index(
    "queue_wait",
    queue.c.lane_id,
    queue.c.band,
    queue.c.due,
    queue.c.id,
    where=queue.c.phase == WAITING,
)
_index("queue_lease", queue.c.lease_until, where=queue.c.phase == LEASED)
# What waits or is leased comes before what is behind it: one look at the first tells all.
_index(
    "queue_order",
    queue.c.lane_id,
    queue.c.resource,
    queue.c.phase,
    queue.c.event_row,
    where=queue.c.resource.is_not(None),
)

attempts = Table(
    "attempts",
    metadata,
    Column("delivery_id", Big, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("cause", SmallInteger, nullable=False),
    Column("start_time", Big, nullable=False),
    Column("outcome", SmallInteger, nullable=False),
    Column("latency", Big, nullable=False),
    Column("dns", Big),
    Column("connect", Big),
    Column("tls", Big),
    Column("write", Big),
    Column("wait", Big),
    Column("status_code", Integer, nullable=False),
    Column("response_truncated", SmallInteger, nullable=False),
    Column("retry_after", Text, nullable=False),
    Column("error_code", Text, nullable=False),
    Column("error_message", Text, nullable=False),
    Column("remote_address", Text, nullable=False),
    Column("response_body", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

replays = Table(
    "replays",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("lane_id", Integer, nullable=False),
    Column("tenant_id", Text, nullable=False),
    Column("request_id", Text),
    Column("digest", LargeBinary, nullable=False),
    Column("scope", SmallInteger, nullable=False),
    Column("filter", Text, nullable=False),
    Column("range_start", Big, nullable=False),
    Column("range_end", Big, nullable=False),
    Column("position", Big, nullable=False),  # all rows up to it are worked off
    Column("delivery_count", Big, nullable=False),
    Column("create_time", Big, nullable=False),
    Column("end_time", Big),
    sqlite_autoincrement=True,
)
_index("replays_ended", replays.c.end_time, where=replays.c.end_time.is_not(None))
_index("replays_running", replays.c.lane_id, unique=True, where=replays.c.end_time.is_(None))
_index(
    "replays_by_request",
    replays.c.tenant_id,
    replays.c.request_id,
    unique=True,
    where=replays.c.request_id.is_not(None),
)

# Stretches of time lead, so that what is counted now lies close together. One of them is
# numbered by its beginning, divided by its length.
delivery_statistics = Table(
    "delivery_statistics",
    metadata,
    Column("bucket", Integer, primary_key=True, autoincrement=False),
    Column("lane_id", Integer, primary_key=True, autoincrement=False),
    Column("succeeded", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("canceled", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("failed_attempts", Integer, nullable=False),
    *(Column(f"latency_{number}", Integer, nullable=False) for number in range(LATENCY_BUCKETS)),
    sqlite_with_rowid=False,
)

event_types = Table(
    "event_types",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("resource_type", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("deprecated", SmallInteger, nullable=False),
    Column("create_time", Big, nullable=False),
    Column("update_time", Big, nullable=False),
    Column("schema", LargeBinary),
    Column("example", LargeBinary),
)
