"""Reads what was counted of deliveries, and what waits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, delete, func, select

from signalpost.domain.errors import NotFound
from signalpost.domain.ids import LaneId
from signalpost.domain.statistics import Ended
from signalpost.domain.subscription import State
from signalpost.ports.statistics import StatisticsQuery, WaitingLane
from signalpost.store.statements import Driven, Keyed
from signalpost.store.tables import (
    BEHIND,
    LEASED,
    WAITING,
    deliveries,
    delivery_statistics,
    queue,
    subscriptions,
)
from signalpost.store.tally import BUCKET_MICROSECONDS
from signalpost.store.units import from_time, to_optional_time
from signalpost.store.waiting import FIRST_DUE, earliest

_C: Final = delivery_statistics.c
_LIVE: Final = subscriptions.c.delete_time.is_(None)

_MOST_LANES_NAMED: Final = 50
_ROWS_A_READ: Final = 50_000
_MOST_BUCKETS_A_READ: Final = 500
_FEW_PENDING: Final = 10_000

_SUMS: Final = [func.coalesce(func.sum(column), 0) for column in _C if not column.primary_key]
_LIVE_LANES: Final = Keyed(
    lambda keys: select(subscriptions.c.lane_id, subscriptions.c.state, *FIRST_DUE).where(
        subscriptions.c.lane_id.in_(keys), _LIVE
    )
)
_DELETE: Final = Driven(
    delete(delivery_statistics).where(
        _C.bucket == bindparam("key_bucket"), _C.lane_id == bindparam("key_lane")
    ),
    "key_bucket",
    "key_lane",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneStatisticsCall:
    """One call of `prune_statistics`."""

    before: datetime
    limit: int


@dataclass(frozen=True, slots=True)
class Scope:
    """Where counts are looked up: in the rows of a few lanes, or in those of all.

    In the latter case `chosen` tells which of them count; `rows` is how many there may be of one
    stretch of time.
    """

    lanes: Sequence[int] | None
    chosen: ColumnElement[bool] | None
    rows: int


def scope_of(conn: Connection, query: StatisticsQuery) -> Scope:
    """Find the lanes of a query. Raises NotFound if no subscription has the ID it names."""
    named = _named(query)
    if named is None:
        return Scope(None, None, _count_lanes(conn))
    lanes = conn.scalars(named.limit(_MOST_LANES_NAMED + 1)).all()
    if not lanes and query.subscription_id is not None:
        raise NotFound("subscription", query.subscription_id)
    if len(lanes) <= _MOST_LANES_NAMED:
        return Scope(lanes, None, len(lanes))
    return Scope(None, _C.lane_id.in_(named), _count_lanes(conn))


def _named(query: StatisticsQuery) -> Select[int] | None:
    """Select the lanes that a query names; None for all."""
    c = subscriptions.c
    named = select(c.lane_id)
    if query.subscription_id is not None:
        named = named.where(c.subscription_id == query.subscription_id)
    if query.tenant_id is not None:
        named = named.where(c.tenant_id == query.tenant_id)
    return None if named.whereclause is None else named


def _count_lanes(conn: Connection) -> int:
    return conn.scalar(select(func.count()).select_from(subscriptions)) or 0


def stretches(scope: Scope, start: datetime, end: datetime) -> Iterator[range]:
    """Divide a time into what one read may take: it lasts some 20 ms."""
    first, last = (from_time(moment) // BUCKET_MICROSECONDS for moment in (start, end))
    size = max(1, min(_ROWS_A_READ // max(1, scope.rows), _MOST_BUCKETS_A_READ))
    for begin in range(first, last + 1, size):
        yield range(begin, min(begin + size, last + 1))


def count_ended(conn: Connection, scope: Scope, buckets: range) -> Ended:
    """Count what ended in some stretches of time."""
    statement: Select[Any] = select(*_SUMS)
    if scope.lanes is not None:
        # Each of these rows is found by its key.
        statement = statement.where(_C.bucket.in_(buckets), _C.lane_id.in_(scope.lanes))
    else:
        statement = statement.where(_C.bucket.between(buckets[0], buckets[-1]))
        if scope.chosen is not None:
            statement = statement.where(scope.chosen)
    succeeded, failed, canceled, attempts, failed_attempts, *latencies = conn.execute(
        statement
    ).one()
    return Ended(
        succeeded=succeeded,
        failed=failed,
        canceled=canceled,
        attempts=attempts,
        failed_attempts=failed_attempts,
        latencies=tuple(latencies),
    )


def waiting(
    conn: Connection, query: StatisticsQuery, pending: Mapping[int, int]
) -> Sequence[WaitingLane]:
    """Return the lanes in which something is pending."""
    return [
        WaitingLane(
            lane_id=LaneId(row.lane_id),
            state=State(row.state),
            deliveries=pending[row.lane_id],
            first_due=earliest(row),
        )
        for row in _LIVE_LANES.fetch(conn, _pending_lanes(conn, query, pending))
    ]


def _pending_lanes(
    conn: Connection, query: StatisticsQuery, pending: Mapping[int, int]
) -> Sequence[int]:
    named = _named(query)
    if named is None:
        return list(pending)
    return [lane_id for lane_id in conn.scalars(named.where(_LIVE)) if lane_id in pending]


def oldest_pending(
    conn: Connection, query: StatisticsQuery, pending: Mapping[int, int]
) -> datetime | None:
    """Return when the oldest of what is pending was queued.

    Of few, all are looked at; many are among the oldest ones, whoever else has some.
    """
    count = sum(pending[lane_id] for lane_id in _pending_lanes(conn, query, pending))
    if not count:
        return None
    named = _named(query)
    lanes = (select(subscriptions.c.lane_id) if named is None else named).where(_LIVE)
    of_lanes = queue.c.lane_id.in_(lanes)
    if count <= _FEW_PENDING:
        keys = [key for phase in _PHASES for key in conn.scalars(_KEYS.where(phase, of_lanes))]
        first = min(keys, default=None)
    else:
        first = conn.scalar(select(queue.c.id).where(of_lanes).order_by(queue.c.id).limit(1))
    created = conn.scalar(select(deliveries.c.create_time).where(deliveries.c.id == first))
    return to_optional_time(created)


_PHASES: Final = (
    queue.c.phase == WAITING,
    queue.c.phase == LEASED,
    and_(queue.c.resource.is_not(None), queue.c.phase == BEHIND),
)
"""Each of them is served by an index, unless a minimum is asked for: that is looked for by key."""

_KEYS: Final = select(queue.c.id)


def count_subscriptions(conn: Connection) -> Mapping[State, int]:
    """Count the subscriptions in each state."""
    c = subscriptions.c
    counts = select(c.state, func.count()).where(_LIVE).group_by(c.state)
    found = {State(state): count for state, count in conn.execute(counts)}
    return {state: found.get(state, 0) for state in State}


def prune_statistics(conn: Connection, call: PruneStatisticsCall) -> int:
    """Remove counts of what is long past, the oldest first; return how many."""
    old = from_time(call.before) // BUCKET_MICROSECONDS
    statement = (
        select(_C.bucket, _C.lane_id)
        .where(_C.bucket < old)
        .order_by(_C.bucket, _C.lane_id)
        .limit(call.limit)
    )
    keys = [tuple(row) for row in conn.execute(statement)]
    _DELETE.many(conn, keys)
    return len(keys)
