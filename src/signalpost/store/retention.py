"""Finds what is kept no longer, and removes it.

Both follow the order of the rows: what was accepted first is removed first, and no index is
needed for it. What is found is judged once more before it is removed, for it may have been
reopened meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Select,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)

from signalpost import failpoints
from signalpost.domain.delivery import DeliveryState
from signalpost.domain.retention import Retention
from signalpost.ports.retention import Expired, Prunable
from signalpost.store.row_numbers import floor
from signalpost.store.statements import AnyRow, Driven, Keyed
from signalpost.store.tables import attempts, deliveries, events, meta
from signalpost.store.units import to_optional_time

MOST_LOOKED_AT: Final = 1000
"""Most rows that are looked at in one call."""

MOST_REMOVED: Final = 250
"""About the most rows and pages that are removed in one transaction: it takes 1 to 4 ms."""

_FETCHED_AT_ONCE: Final = 125
_PAGE_BYTES: Final = 4096
_MARKS: Final = {
    Prunable.DELIVERIES: "deliveries_pruned_to",
    Prunable.EVENTS: "events_pruned_to",
}

_DELIVERIES: Select[Any] = (
    select(
        deliveries.c.id,
        deliveries.c.event_row,
        deliveries.c.state,
        deliveries.c.end_time,
        deliveries.c.attempts,
        func.length(events.c.body).label("body_bytes"),
    )
    .join(events, events.c.id == deliveries.c.event_row)
    .order_by(deliveries.c.id)
)
_DELIVERIES_BY_ID = Keyed(
    lambda keys: select(
        deliveries.c.id, deliveries.c.event_row, deliveries.c.state, deliveries.c.end_time
    ).where(deliveries.c.id.in_(keys))
)
_HAS_DELIVERIES = exists().where(deliveries.c.event_row == events.c.id)
_EVENTS: Select[Any] = select(
    events.c.id,
    literal(0).label("attempts"),
    func.length(events.c.body).label("body_bytes"),
    _HAS_DELIVERIES.label("has_deliveries"),
).order_by(events.c.id)

_DELETE_ATTEMPTS = Driven(delete(attempts).where(attempts.c.delivery_id == bindparam("key")), "key")
_DELETE_DELIVERY = Driven(delete(deliveries).where(deliveries.c.id == bindparam("key")), "key")
_DELETE_EVENT = Keyed(
    lambda keys: (
        delete(events).where(events.c.id.in_(keys), ~_HAS_DELIVERIES).returning(events.c.id)
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneCall:
    """One call of `prune`."""

    kind: Prunable
    rows: Sequence[int]
    retention: Retention
    now: datetime


def find_expired(
    conn: Connection, kind: Prunable, *, after: int, retention: Retention, now: datetime
) -> Expired:
    """Look at the next rows behind `after`, and find what is kept no longer."""
    if kind is Prunable.EVENTS:
        old = events.c.id < floor(now - retention.delivered)
        statement = _EVENTS.where(events.c.id > after, old)
        kept: Callable[[AnyRow], bool] = _has_deliveries
    else:
        old = deliveries.c.id < floor(now - retention.shortest)
        statement = _DELIVERIES.where(deliveries.c.id > after, old)
        kept = partial(_is_kept, retention=retention, now=now)
    statement = statement.limit(MOST_LOOKED_AT).execution_options(yield_per=_FETCHED_AT_ONCE)
    found: list[int] = []
    weight, looked_at, reached = 0, 0, after
    for row in conn.execute(statement):
        looked_at, reached = looked_at + 1, row.id
        if kept(row):
            continue
        found.append(row.id)
        weight += 1 + row.attempts + row.body_bytes // _PAGE_BYTES
        if weight >= MOST_REMOVED:
            return Expired(found, reached, more=True)
    return Expired(found, reached, more=looked_at == MOST_LOOKED_AT)


def _has_deliveries(row: AnyRow) -> bool:
    return bool(row.has_deliveries)


def _is_kept(row: AnyRow, *, retention: Retention, now: datetime) -> bool:
    end_time = to_optional_time(row.end_time)
    return retention.keeps(DeliveryState(row.state), end_time=end_time, now=now)


def prune(conn: Connection, call: PruneCall) -> int:
    """Remove what is still to be removed of these rows; return how many."""
    if call.kind is Prunable.EVENTS:
        return _delete_events(conn, call.rows, call=call)
    return _prune_deliveries(conn, call)


def _prune_deliveries(conn: Connection, call: PruneCall) -> int:
    rows = [
        row
        for row in _DELIVERIES_BY_ID.fetch(conn, call.rows)
        if not _is_kept(row, retention=call.retention, now=call.now)
    ]
    if not rows:
        return 0
    keys = [(row.id,) for row in rows]
    _DELETE_ATTEMPTS.many(conn, keys)
    _DELETE_DELIVERY.many(conn, keys)
    failpoints.hit("prune.mid")
    of_events = sorted({row.event_row for row in rows})
    _raise_mark(conn, Prunable.DELIVERIES, of_events[-1])
    _delete_events(conn, of_events, call=call)
    return len(rows)


def _delete_events(conn: Connection, rows: Iterable[int], *, call: PruneCall) -> int:
    """Delete those that are old enough and have no delivery."""
    youngest = floor(call.now - call.retention.delivered)
    old = [row for row in rows if row < youngest]
    deleted = [row.id for row in _DELETE_EVENT.fetch(conn, old)]
    if deleted:
        _raise_mark(conn, Prunable.EVENTS, max(deleted))
    return len(deleted)


def pruned_to(conn: Connection, kind: Prunable) -> int:
    """Return the row of the latest event of which something of this kind was removed; 0: none.

    All later events are complete: none of them, or of their deliveries, was ever removed.
    """
    value = conn.scalar(select(meta.c.value).where(meta.c.name == _MARKS[kind]))
    return 0 if value is None else int.from_bytes(value)


def _raise_mark(conn: Connection, kind: Prunable, event_row: int) -> None:
    former = pruned_to(conn, kind)
    if event_row <= former:
        return
    name, value = _MARKS[kind], event_row.to_bytes(8)
    if former:
        conn.execute(update(meta).where(meta.c.name == name).values(value=value))
    else:
        conn.execute(insert(meta), [{"name": name, "value": value}])
