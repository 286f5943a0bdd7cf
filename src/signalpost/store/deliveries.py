"""Shows deliveries.

A list follows the narrowest index its query allows, by falling number, and looks through what
no index serves, a bounded number of rows for each page.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, case, func, select, tuple_

from signalpost.domain.delivery import Attempt, Delivery, DeliveryState, FailureReason
from signalpost.domain.errors import NotFound
from signalpost.domain.event import Resource
from signalpost.domain.ids import DeliveryKey, EventId, SubscriptionId, TenantId, delivery_id
from signalpost.ports import DeliveryQuery, Page, PageRequest
from signalpost.store.attempts import read as read_attempt
from signalpost.store.paging import SCAN_LIMIT, collect
from signalpost.store.statements import AnyRow
from signalpost.store.tables import (
    BEHIND,
    FAILED,
    attempts,
    deliveries,
    events,
    queue,
    subscriptions,
)
from signalpost.store.units import from_time, to_optional_time, to_time

MOST_ATTEMPTS = 100
"""Most attempts that are shown with one delivery."""

_ALL = deliveries.c.id > 0
_MOST_MERGED = 20
_OVERHEAD_BYTES = 512
_IN_CHUNKS_OF = 200

_COLUMNS: Select[Any] = (
    select(
        deliveries.c.id,
        deliveries.c.lane_id,
        deliveries.c.tenant_id,
        deliveries.c.state,
        deliveries.c.failure_reason,
        deliveries.c.create_time,
        deliveries.c.end_time,
        func.coalesce(queue.c.attempts, deliveries.c.attempts).label("attempts"),
        case((queue.c.phase != BEHIND, queue.c.due)).label("due"),
        events.c.event_id,
        events.c.event_type,
        events.c.resource_type,
        events.c.resource_id,
        events.c.traceparent,
        subscriptions.c.subscription_id,
    )
    .join(events, events.c.id == deliveries.c.event_row)
    .join(subscriptions, subscriptions.c.lane_id == deliveries.c.lane_id)
    .outerjoin(queue, queue.c.id == deliveries.c.id)
)


def get_delivery(conn: Connection, key: DeliveryKey) -> Delivery:
    """Return a delivery with its last attempts. Raises NotFound."""
    row = conn.execute(_COLUMNS.where(deliveries.c.id == key)).one_or_none()
    if row is None:
        raise NotFound("delivery", delivery_id(key))
    last = (
        select(attempts)
        .where(attempts.c.delivery_id == key)
        .order_by(attempts.c.number.desc())
        .limit(MOST_ATTEMPTS)
    )
    found = [read_attempt(attempt) for attempt in conn.execute(last)]
    return _delivery(row, found[::-1])


def list_deliveries(conn: Connection, query: DeliveryQuery, page: PageRequest) -> Page[Delivery]:
    """Return deliveries, the newest first, each with its last attempt."""
    found = collect(
        _candidates(conn, query, after=page.after),
        page=page,
        keeps=partial(_chosen, query),
        weigh=lambda _: _OVERHEAD_BYTES,
        position=lambda row: str(row.id),
    )
    last = _last_attempts(conn, found.items)
    complete = [_delivery(row, last.get(row.id, ())) for row in found.items]
    fitting = _fitting(complete, max_bytes=page.max_bytes)
    if fitting < len(complete):
        return Page(complete[:fitting], str(complete[fitting - 1].key))
    return Page(complete, found.next_after)


def deliveries_of(conn: Connection, keys: Sequence[DeliveryKey]) -> Sequence[Delivery]:
    """Return deliveries by their keys, in their order, each with its last attempt."""
    rows = {row.id: row for row in conn.execute(_COLUMNS.where(deliveries.c.id.in_(keys)))}
    found = [rows[key] for key in keys if key in rows]
    last = _last_attempts(conn, found)
    return [_delivery(row, last.get(row.id, ())) for row in found]


def _candidates(conn: Connection, query: DeliveryQuery, *, after: str | None) -> Iterator[AnyRow]:
    branches = [_rows(conn, query, branch, after=after) for branch in _branches(conn, query)]
    return heapq.merge(*branches, key=lambda row: -row.id)


def _branches(conn: Connection, query: DeliveryQuery) -> Sequence[ColumnElement[bool]]:
    """Return conditions, each of them served by an index, that together find all."""
    if query.event_id is not None:
        named = select(events.c.id).where(events.c.event_id == query.event_id)
        if query.tenant_id is not None:
            named = named.where(events.c.tenant_id == query.tenant_id)
        return _each(conn, named, deliveries.c.event_row)
    if query.subscription_id is not None:
        c = subscriptions.c
        named = select(c.lane_id).where(c.subscription_id == query.subscription_id)
        if query.tenant_id is not None:
            named = named.where(c.tenant_id == query.tenant_id)
        return _each(conn, named, deliveries.c.lane_id)
    if query.tenant_id is not None:
        return [deliveries.c.tenant_id == query.tenant_id]
    return [_ALL]


def _each(
    conn: Connection, keys: Select[tuple[int]], column: ColumnElement[int]
) -> Sequence[ColumnElement[bool]]:
    found = conn.scalars(keys.limit(_MOST_MERGED + 1)).all()
    if len(found) > _MOST_MERGED:
        # One name in many tenants: the search through all of them is the shorter way.
        return [_ALL]
    return [column == key for key in found]


def _rows(
    conn: Connection, query: DeliveryQuery, branch: ColumnElement[bool], *, after: str | None
) -> Iterable[AnyRow]:
    statement = _COLUMNS.where(branch).order_by(deliveries.c.id.desc()).limit(SCAN_LIMIT + 1)
    # No index has the failed ones of all tenants, and a search for them must end early, too.
    if query.states == {DeliveryState.FAILED} and branch is not _ALL:
        statement = statement.where(deliveries.c.state == FAILED)
    if after is not None:
        statement = statement.where(deliveries.c.id < int(after))
    return conn.execute(statement.execution_options(yield_per=_IN_CHUNKS_OF))


def _chosen(query: DeliveryQuery, row: AnyRow) -> bool:
    return (
        (query.tenant_id is None or row.tenant_id == query.tenant_id)
        and (query.subscription_id is None or row.subscription_id == query.subscription_id)
        and (query.event_id is None or row.event_id == query.event_id)
        and (not query.states or row.state in query.states)
        and (query.start is None or from_time(query.start) <= row.create_time)
        and (query.end is None or row.create_time < from_time(query.end))
        and query.filter.matches(row.event_type, Resource(row.resource_type, row.resource_id))
    )


def _last_attempts(conn: Connection, rows: Sequence[AnyRow]) -> dict[int, tuple[Attempt]]:
    wanted = [(row.id, row.attempts) for row in rows if row.attempts]
    found: dict[int, tuple[Attempt]] = {}
    for start in range(0, len(wanted), _IN_CHUNKS_OF):
        chunk = wanted[start : start + _IN_CHUNKS_OF]
        statement = select(attempts).where(
            tuple_(attempts.c.delivery_id, attempts.c.number).in_(chunk)
        )
        for row in conn.execute(statement):
            found[row.delivery_id] = (read_attempt(row),)
    return found


def _fitting(shown: Sequence[Delivery], *, max_bytes: int) -> int:
    """Count those that fit; the first one always does."""
    weight = 0
    for count, delivery in enumerate(shown):
        bodies = sum(len(attempt.result.response_body) for attempt in delivery.attempts)
        weight += _OVERHEAD_BYTES + bodies
        if weight > max_bytes and count:
            return count
    return len(shown)


def _delivery(row: AnyRow, shown: Iterable[Attempt]) -> Delivery:
    return Delivery(
        key=DeliveryKey(row.id),
        event_id=EventId(row.event_id),
        subscription_id=SubscriptionId(row.subscription_id),
        tenant_id=TenantId(row.tenant_id),
        event_type=row.event_type,
        resource=Resource(row.resource_type, row.resource_id),
        state=DeliveryState(row.state),
        failure_reason=FailureReason(row.failure_reason),
        attempt_count=row.attempts,
        create_time=to_time(row.create_time),
        next_attempt_time=to_optional_time(row.due),
        end_time=to_optional_time(row.end_time),
        attempts=tuple(shown),
        traceparent=row.traceparent,
    )
