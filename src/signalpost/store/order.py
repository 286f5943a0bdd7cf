"""Keeps the order of ordered lanes.

The pending deliveries of one resource in an ordered lane stand in a line, in the order in
which their events were accepted. One of them may go: the one that is leased or, if none is,
the first of the line. All others are BEHIND it, where no claim looks, so that claims cost the
same whatever stands in line.

Whoever puts a delivery into the queue gives it its place by `Places` or `place`; whoever takes
one out, or back from its lease, calls `settle`, in the same transaction. The next of a line then
waits like any other delivery, due now, for a slot of its lane: the lane stays fair to its
other resources and exact in its limits, and each step of a line costs a claim.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, case, select, update

from signalpost.domain.event import Resource
from signalpost.store.statements import AnyRow, Driven, Keyed
from signalpost.store.tables import BEHIND, WAITING, Phase, events, queue, subscriptions


class Ordering(IntEnum):
    """Whether a lane is ordered, and whether what waits in it is arranged accordingly.

    While order is turned on, nothing of the lane is handed out.
    """

    OFF = 0
    ON = 1
    TURNING_ON = 2
    TURNING_OFF = 3

    @property
    def is_ordered(self) -> bool:
        """Tell whether its subscription asks for order."""
        return is_ordered(self)

    def changed(self, *, ordered: bool) -> Ordering:
        """Return what it is once its subscription asks for order, or no longer does."""
        if self.is_ordered == ordered:
            return self
        return Ordering.TURNING_ON if ordered else Ordering.TURNING_OFF


def is_ordered(stored: object) -> bool:
    """Tell whether what is stored asks for order; what is damaged asks for nothing."""
    return stored in (Ordering.ON, Ordering.TURNING_ON)


IS_ARRANGED = subscriptions.c.ordering != int(Ordering.TURNING_ON)
"""What holds of a lane from which something may be handed out."""

_IS_ORDERED = (subscriptions.c.ordering == int(Ordering.ON)) | (
    subscriptions.c.ordering == int(Ordering.TURNING_ON)
)


class Line(NamedTuple):
    """The pending deliveries of a resource in an ordered lane."""

    lane_id: int
    resource: str


def line_of(lane_id: int, resource: Resource) -> Line:
    """Return the line of a resource; no type of a resource has a colon in it."""
    return Line(lane_id, f"{resource.type}:{resource.id}")


# Served by `queue_order`: what waits, what is leased, then what is behind, each in order.
_FIRST_TWO = Driven(
    select(queue.c.id, queue.c.phase, queue.c.event_row, queue.c.due)
    .where(queue.c.lane_id == bindparam("lane_id"), queue.c.resource == bindparam("resource"))
    .order_by(queue.c.phase, queue.c.event_row)
    .limit(2),
    "lane_id",
    "resource",
)

_BRING_FORWARD = Driven(
    update(queue)
    .where(queue.c.id == bindparam("key"))
    .values(phase=WAITING, due=bindparam("new_due")),
    "new_due",
    "key",
)

_PUT_BEHIND = Driven(
    update(queue).where(queue.c.id == bindparam("key")).values(phase=BEHIND), "key"
)

_STAND_IN_LINE = Driven(
    update(queue)
    .where(queue.c.id == bindparam("key"))
    .values(
        resource=bindparam("resource"),
        phase=case((queue.c.phase == WAITING, BEHIND), else_=queue.c.phase),
    ),
    "resource",
    "key",
)

_OF_ORDERED_LANES = Keyed(
    lambda keys: (
        select(queue.c.id, queue.c.lane_id, events.c.resource_type, events.c.resource_id)
        .join(events, events.c.id == queue.c.event_row)
        .join(subscriptions, subscriptions.c.lane_id == queue.c.lane_id)
        .where(
            queue.c.id.in_(keys),
            _IS_ORDERED,
        )
    )
)


class Places:
    """Gives new deliveries their places, within one transaction that inserts them at its end."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._taken: set[Line] = set()

    def take(self, line: Line) -> Phase:
        """Return the phase of a delivery that is the last of its line."""
        if line in self._taken:
            return Phase.BEHIND
        self._taken.add(line)
        return Phase.BEHIND if _FIRST_TWO.fetch(self._conn, line) else Phase.WAITING


def place(conn: Connection, keys: Sequence[int], *, now: int) -> None:
    """Give deliveries that were put into the queue as WAITING their places in their lines.

    Those of lanes without order stay as they are. An older delivery goes before all younger
    ones of its line that are not leased.
    """
    lines = {
        row.id: line_of(row.lane_id, Resource(row.resource_type, row.resource_id))
        for row in _OF_ORDERED_LANES.fetch(conn, keys)
    }
    _STAND_IN_LINE.many(conn, [(line.resource, key) for key, line in lines.items()])
    settle(conn, lines.values(), now=now)


def settle(conn: Connection, lines: Iterable[Line], *, now: int) -> dict[Line, int]:
    """See to it that of each line exactly the one that may go can be claimed, from now on.

    Return when that is due; lines in which one is leased, and empty ones, are absent.
    """
    settled = ((line, _settle(conn, line, now=now)) for line in dict.fromkeys(lines))
    return {line: due for line, due in settled if due is not None}


def _settle(conn: Connection, line: Line, *, now: int) -> int | None:
    while True:
        first, second = _two(_FIRST_TWO.fetch(conn, line))
        if first is None or first.phase == Phase.LEASED:
            return None
        if first.phase == Phase.BEHIND:
            due = max(int(first.due), now)
            _BRING_FORWARD.many(conn, [(due, first.id)])
            return due
        if second is None or (second.phase == Phase.BEHIND and first.event_row < second.event_row):
            return int(first.due)
        # Two wait, or the one that waits is not the one that may go.
        wrong = second if second.phase == Phase.WAITING else first
        _PUT_BEHIND.many(conn, [(wrong.id,)])


def _two(rows: Sequence[AnyRow]) -> tuple[AnyRow | None, AnyRow | None]:
    return (rows[0] if rows else None), (rows[1] if len(rows) > 1 else None)
