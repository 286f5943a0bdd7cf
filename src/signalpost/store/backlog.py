"""Ends what waits in lanes that hold too much, or stand still for too long.

A reader follows the queue in the order of its rows, which is that of acceptance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, select

from signalpost.domain.delivery import DeliveryState, FailureReason
from signalpost.domain.ids import DeliveryKey, LaneId
from signalpost.domain.lane import Lane
from signalpost.ports.backlog import GivenUp, Surplus
from signalpost.store.lanes import LANE_COLUMNS
from signalpost.store.order import Line, settle
from signalpost.store.outcomes import end_pending
from signalpost.store.reopening import lane_if_active
from signalpost.store.row_numbers import floor
from signalpost.store.statements import AnyRow, Keyed
from signalpost.store.tables import LEASED, queue, subscriptions
from signalpost.store.units import from_time

MOST_LOOKED_AT: Final = 1000
MOST_ENDED: Final = 250
"""Bounds of one call."""

_FETCHED_AT_ONCE: Final = 250

_IN_ORDER = (
    select(queue.c.id, queue.c.lane_id, subscriptions.c.stop_time)
    .join(subscriptions, subscriptions.c.lane_id == queue.c.lane_id)
    .where(queue.c.phase != LEASED, subscriptions.c.delete_time.is_(None))
    .order_by(queue.c.id)
)

_BY_ID = Keyed(
    lambda keys: (
        select(
            queue.c.id,
            queue.c.token,
            queue.c.attempts,
            queue.c.resource,
            subscriptions.c.state.label("lane_state"),
            subscriptions.c.delete_time,
            *LANE_COLUMNS,
        )
        .join(subscriptions, subscriptions.c.lane_id == queue.c.lane_id)
        .where(queue.c.id.in_(keys), queue.c.phase != LEASED)
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUpCall:
    """One call of `give_up`."""

    keys: Sequence[DeliveryKey]
    now: datetime


def find_surplus(
    conn: Connection, *, after: int, over: Mapping[LaneId, int], stopped_before: datetime
) -> Surplus:
    """Find the next deliveries that must give way, the oldest first."""
    left = Counter(over)
    before, stopped = floor(stopped_before), from_time(stopped_before)
    statement = _IN_ORDER.where(queue.c.id > after).limit(MOST_LOOKED_AT)
    found: list[tuple[LaneId, DeliveryKey]] = []
    looked_at, reached = 0, after
    for row in conn.execute(statement.execution_options(yield_per=_FETCHED_AT_ONCE)):
        is_old = row.id < before
        if not is_old and not +left:
            return Surplus(found, reached, more=False)
        looked_at, reached = looked_at + 1, row.id
        lane_id = LaneId(row.lane_id)
        if left[lane_id] > 0 or (is_old and _stands_since(row, stopped)):
            left[lane_id] -= 1
            found.append((lane_id, DeliveryKey(row.id)))
        if len(found) == MOST_ENDED:
            return Surplus(found, reached, more=True)
    return Surplus(found, reached, more=looked_at == MOST_LOOKED_AT)


def _stands_since(row: AnyRow, moment: int) -> bool:
    return row.stop_time is not None and row.stop_time <= moment


def give_up(conn: Connection, call: GiveUpCall) -> GivenUp:
    """End deliveries that wait as FAILED for BACKLOG."""
    rows = list(_BY_ID.fetch(conn, call.keys))
    failed, backlog = DeliveryState.FAILED, FailureReason.BACKLOG
    end_pending(conn, rows, state=failed, reason=backlog, now=call.now)
    lines = {Line(row.lane_id, row.resource) for row in rows if row.resource is not None}
    forward = {line.lane_id for line in settle(conn, lines, now=from_time(call.now))}
    lanes: dict[int, Lane] = {}
    for row in rows:
        lane = lane_if_active(row) if row.lane_id in forward else None
        if lane is not None:
            lanes[row.lane_id] = lane
    return GivenUp(len(rows), tuple(lanes.values()))
