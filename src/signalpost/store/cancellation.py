"""Ends pending deliveries that nobody wants any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Select, bindparam, select, tuple_, update

from signalpost.domain.delivery import DeliveryState
from signalpost.domain.event import Resource
from signalpost.domain.ids import DeliveryKey, LaneId
from signalpost.ports.repair import Canceled, PendingPage, PendingQuery
from signalpost.store.order import Line, settle
from signalpost.store.outcomes import end_pending
from signalpost.store.paging import SCAN_LIMIT
from signalpost.store.reopening import lane_if_active
from signalpost.store.statements import AnyRow, Driven, Keyed
from signalpost.store.subscriptions import live_subscription
from signalpost.store.tables import BEHIND, LEASED, WAITING, Phase, deliveries, events, queue
from signalpost.store.units import from_time

_FOUND: Select[Any] = (
    select(
        queue.c.id,
        queue.c.band,
        queue.c.due,
        queue.c.resource,
        queue.c.event_row,
        events.c.event_type,
        events.c.resource_type,
        events.c.resource_id,
        deliveries.c.create_time,
    )
    .join(events, events.c.id == queue.c.event_row)
    .join(deliveries, deliveries.c.id == queue.c.id)
)

_PENDING = Keyed(
    lambda keys: select(
        queue.c.id,
        queue.c.lane_id,
        queue.c.phase,
        queue.c.token,
        queue.c.attempts,
        queue.c.resource,
    ).where(queue.c.id.in_(keys), queue.c.cancel_time.is_(None))
)

_MARK = Driven(
    update(queue).where(queue.c.id == bindparam("key")).values(cancel_time=bindparam("now")),
    "now",
    "key",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelCall:
    """One call of `cancel`."""

    keys: Sequence[DeliveryKey]
    now: datetime


def find_pending(conn: Connection, query: PendingQuery, after: str | None) -> PendingPage:
    """Return a page of what may be canceled. Raises NotFound."""
    row = live_subscription(conn, query.tenant_id, query.subscription_id)
    lane_id = LaneId(row.lane_id)
    behind, position = orjson.loads(after) if after else (True, None)
    rows = _behind(conn, lane_id, position) if behind else _waiting(conn, lane_id, position)
    next_after: list[Any] | None
    if len(rows) == SCAN_LIMIT:
        next_after = [behind, list((_line_of if behind else _turn_of)(rows[-1]))]
    else:
        next_after = [False, None] if behind else None
    return PendingPage(
        waiting=_chosen(rows, query),
        under_way=() if after else _chosen(_under_way(conn, lane_id), query),
        next_after=orjson.dumps(next_after).decode() if next_after else None,
        lane=lane_if_active(row),
    )


def _behind(conn: Connection, lane_id: LaneId, after: list[Any] | None) -> Sequence[AnyRow]:
    """Return some that stand in line; before those that wait, for they may come to wait."""
    c = queue.c
    # Not equal to: with that, a planner leaves the order of the index and sorts.
    behind = c.phase >= BEHIND
    statement = _FOUND.where(c.lane_id == lane_id, c.resource.is_not(None), behind)
    if after is not None:
        statement = statement.where(tuple_(c.resource, c.phase, c.event_row) > tuple_(*after))
    ordered = statement.order_by(c.resource, c.phase, c.event_row).limit(SCAN_LIMIT)
    return conn.execute(ordered).all()


def _waiting(conn: Connection, lane_id: LaneId, after: list[Any] | None) -> Sequence[AnyRow]:
    c = queue.c
    statement = _FOUND.where(c.phase == WAITING, c.lane_id == lane_id)
    if after is not None:
        statement = statement.where(tuple_(c.band, c.due, c.id) > tuple_(*after))
    ordered = statement.order_by(c.band, c.due, c.id).limit(SCAN_LIMIT)
    return conn.execute(ordered).all()


def _line_of(row: AnyRow) -> tuple[str, int, int]:
    return row.resource, int(Phase.BEHIND), row.event_row


def _turn_of(row: AnyRow) -> tuple[int, int, int]:
    return row.band, row.due, row.id


def _under_way(conn: Connection, lane_id: LaneId) -> Sequence[AnyRow]:
    # Few are leased, of all lanes together.
    c = queue.c
    leased = _FOUND.where(c.phase == LEASED, c.lane_id == lane_id, c.cancel_time.is_(None))
    return conn.execute(leased).all()


def _chosen(rows: Sequence[AnyRow], query: PendingQuery) -> Sequence[DeliveryKey]:
    end = from_time(query.end)
    return [
        DeliveryKey(row.id)
        for row in rows
        if row.create_time < end
        and query.filter.matches(row.event_type, Resource(row.resource_type, row.resource_id))
    ]


def cancel(conn: Connection, call: CancelCall) -> Canceled:
    """End deliveries, those under way later."""
    now = from_time(call.now)
    waiting: list[AnyRow] = []
    under_way: list[AnyRow] = []
    for row in _PENDING.fetch(conn, call.keys):
        (under_way if row.phase == Phase.LEASED else waiting).append(row)
    end_pending(conn, waiting, state=DeliveryState.CANCELED, now=call.now)
    _MARK.many(conn, [(now, row.id) for row in under_way])
    lines = [Line(row.lane_id, row.resource) for row in waiting if row.resource is not None]
    settle(conn, lines, now=now)
    return Canceled(len(waiting), len(under_way))
