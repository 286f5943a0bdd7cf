"""Arranges what waits in a lane when its subscription comes to ask for order, or no longer does.

That may be a million deliveries, so it goes in chunks. Each chunk leaves the queue sound: what
stands in line has its place, and what a chunk has not come to is not handed out while order is
turned on, and waits in line as before while it is turned off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, case, select, tuple_, update

from signalpost.domain.ids import LaneId
from signalpost.domain.lane import Lane
from signalpost.store.lanes import LANE_COLUMNS, lane
from signalpost.store.order import Ordering, place
from signalpost.store.statements import Driven
from signalpost.store.tables import BEHIND, LEASED, UNARRANGED, WAITING, queue, subscriptions
from signalpost.store.units import from_time

_LEAVE_THE_LINE = Driven(
    update(queue)
    .where(queue.c.id == bindparam("key"))
    .values(resource=None, phase=case((queue.c.phase == BEHIND, WAITING), else_=queue.c.phase)),
    "key",
)

_IN_ORDER = (queue.c.band, queue.c.due, queue.c.id)  # of `queue_wait`

_FROM_THE_START = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrangeCall:
    """One call of `arrange`; `after` is empty at first, then what the call before returned."""

    lane_id: LaneId
    after: str
    limit: int
    now: datetime


def arrange(conn: Connection, call: ArrangeCall) -> str | None:
    """Arrange a chunk; return where to go on, None if nothing is left to do."""
    row = conn.execute(
        select(subscriptions.c.ordering, subscriptions.c.version).where(
            subscriptions.c.lane_id == call.lane_id
        )
    ).one()
    match row.ordering:
        case Ordering.TURNING_ON:
            return _form_lines(conn, call, version=row.version)
        case Ordering.TURNING_OFF:
            return _dissolve_lines(conn, call)
        case _:
            return None


def _form_lines(conn: Connection, call: ArrangeCall, *, version: int) -> str | None:
    keys = select(queue.c.id).where(queue.c.lane_id == call.lane_id, queue.c.resource.is_(None))
    leased = conn.scalars(keys.where(queue.c.phase == LEASED)).all()
    statement = (
        select(queue.c.id, queue.c.band, queue.c.due, queue.c.resource)
        .where(queue.c.phase == WAITING, queue.c.lane_id == call.lane_id)
        .order_by(*_IN_ORDER)
        .limit(call.limit)
    )
    position = _position(call.after, version=version)
    if position is not None:
        statement = statement.where(tuple_(*_IN_ORDER) > position)
    rows = conn.execute(statement).all()
    waiting = [row.id for row in rows if row.resource is None]
    place(conn, [*leased, *waiting], now=from_time(call.now))
    if len(rows) == call.limit:
        return f"{version}:{rows[-1].band}:{rows[-1].due}:{rows[-1].id}"
    _finish(conn, call.lane_id, Ordering.ON)
    return None


def _position(after: str, *, version: int) -> tuple[int, int, int] | None:
    """Read a position; one from before another change of the subscription holds no longer."""
    if not after:
        return None
    of_version, band, due, key = map(int, after.split(":"))
    return (band, due, key) if of_version == version else None


def _dissolve_lines(conn: Connection, call: ArrangeCall) -> str | None:
    c = queue.c
    # Against the order of the index, so that a line that is left half way is a line still.
    statement = (
        select(c.id)
        .where(c.lane_id == call.lane_id, c.resource.is_not(None))
        .order_by(c.resource.desc(), c.phase.desc(), c.event_row.desc())
        .limit(call.limit)
    )
    keys = conn.scalars(statement).all()
    _LEAVE_THE_LINE.many(conn, [(key,) for key in keys])
    if len(keys) == call.limit:
        return _FROM_THE_START
    _finish(conn, call.lane_id, Ordering.OFF)
    return None


def _finish(conn: Connection, lane_id: LaneId, ordering: Ordering) -> None:
    conn.execute(
        update(subscriptions)
        .where(subscriptions.c.lane_id == lane_id)
        .values(ordering=int(ordering))
    )


def unarranged_lanes(conn: Connection) -> Sequence[Lane]:
    """Return lanes that are arranged only in part."""
    c = subscriptions.c
    statement = select(*LANE_COLUMNS).where(UNARRANGED, c.delete_time.is_(None))
    return [lane(row) for row in conn.execute(statement)]
