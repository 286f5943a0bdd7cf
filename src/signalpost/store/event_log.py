"""Reads events in the order in which they were accepted.

The number of an event's row is its place in the log: one thread writes, and draws numbers that
only rise, so what is committed later always stands behind what can be read already. A position
is such a number. One made from a time has that time with it until the first event that was
published at or after it is found: where the clock was set back, numbers do not tell it alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Self

from sqlalchemy import Connection, func, select

from signalpost.domain.event import Event, Resource
from signalpost.ports.retention import Prunable
from signalpost.ports.watching import LoggedEvent, LogPage, LogPosition, LogPruned, LogQuery
from signalpost.store.events import event_of
from signalpost.store.retention import pruned_to
from signalpost.store.row_numbers import floor
from signalpost.store.statements import AnyRow, Keyed
from signalpost.store.tables import events
from signalpost.store.units import from_time

MOST_SCANNED: Final = 2000
"""Most events that one page looks at: they take about 5 ms."""

_FETCHED_AT_ONCE: Final = 200
_OVERHEAD_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class _Place:
    """Behind the row of this number and, with `since`, before the first event of that time."""

    row: int
    since: int | None = None

    @classmethod
    def read(cls, position: LogPosition) -> Self:
        row, _, since = position.partition("~")
        return cls(int(row), int(since) if since else None)

    def write(self) -> LogPosition:
        return LogPosition(str(self.row) if self.since is None else f"{self.row}~{self.since}")


def log_end(conn: Connection) -> LogPosition:
    """Return the position behind all events."""
    return _Place(_last_row(conn)).write()


def log_from(conn: Connection, start: datetime) -> LogPosition:
    """Return the position before the first event published at or after a time."""
    row = max(floor(start) - 1, pruned_to(conn, Prunable.EVENTS))
    return _Place(row, from_time(start)).write()


def read_log(
    conn: Connection, query: LogQuery, *, after: LogPosition, limit: int, max_bytes: int
) -> LogPage:
    """Read the next events. Raises LogPruned."""
    begin, oldest = _Place.read(after), pruned_to(conn, Prunable.EVENTS)
    if begin.row < oldest:
        raise LogPruned(_Place(oldest).write())
    scan = _Scan(query, begin, limit=limit, max_bytes=max_bytes)
    more = scan.run(_rows(conn, query, after=begin.row))
    # What other tenants do moves the position on, too: so it does not expire while all is quiet.
    end = scan.place if more else replace(scan.place, row=max(scan.place.row, _last_row(conn)))
    found = {row.id: event_of(row, row.body) for row in _WHOLE.fetch(conn, scan.chosen)}
    return LogPage(events=_logged(scan.chosen, found), position=end.write(), more=more)


_WHOLE = Keyed(lambda keys: select(events).where(events.c.id.in_(keys)))


def _logged(rows: Sequence[int], found: dict[int, Event]) -> Sequence[LoggedEvent]:
    return [LoggedEvent(found[row], _Place(row).write()) for row in rows]


def _last_row(conn: Connection) -> int:
    """Return a number that no event falls below that is stored from now on."""
    last: int | None = conn.scalar(select(func.max(events.c.id)))
    return max(last or 0, pruned_to(conn, Prunable.EVENTS))


def _rows(conn: Connection, query: LogQuery, *, after: int) -> Iterable[AnyRow]:
    c = events.c
    statement = select(
        c.id,
        c.event_type,
        c.resource_type,
        c.resource_id,
        c.publish_time,
        func.length(c.body).label("body_bytes"),
    ).where(c.id > after)
    if query.tenant_id is not None:
        statement = statement.where(c.tenant_id == query.tenant_id)
    statement = statement.order_by(c.id).limit(MOST_SCANNED + 1)
    return conn.execute(statement.execution_options(yield_per=_FETCHED_AT_ONCE))


class _Scan:
    """Looks at rows in their order. `place` is behind the last one it looked at."""

    def __init__(self, query: LogQuery, place: _Place, *, limit: int, max_bytes: int) -> None:
        self.chosen: list[int] = []
        self.place = place
        self._matches = query.filter.matches
        self._limit = limit
        self._room = max_bytes

    def run(self, rows: Iterable[AnyRow]) -> bool:
        """Choose from the rows; True if the page ends before they do."""
        place = self.place
        for looked_at, row in enumerate(rows):
            since = place.since if _is_before(row, place.since) else None
            chosen = since is None and self._chooses(row)
            if looked_at >= MOST_SCANNED or (chosen and not self._take(row)):
                self.place = place
                return True
            place = _Place(row.id, since)
        self.place = place
        return False

    def _chooses(self, row: AnyRow) -> bool:
        return self._matches(row.event_type, Resource(row.resource_type, row.resource_id))

    def _take(self, row: AnyRow) -> bool:
        """Take a row if there is room for it. There is for the first one."""
        self._room -= row.body_bytes + _OVERHEAD_BYTES
        if self.chosen and (self._room < 0 or len(self.chosen) >= self._limit):
            return False
        self.chosen.append(row.id)
        return True


def _is_before(row: AnyRow, since: int | None) -> bool:
    return since is not None and row.publish_time < since
