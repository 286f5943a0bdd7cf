"""Hands out what is pending."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    bindparam,
    select,
    union_all,
    update,
)

from signalpost.domain.delivery import DeliveryState, Lease, Trigger
from signalpost.domain.ids import DeliveryKey, EventId, LaneId, TenantId
from signalpost.domain.subscription import State
from signalpost.ports import Pick
from signalpost.store.damage import UNREADABLE, give_up_damaged, whole
from signalpost.store.order import IS_ARRANGED
from signalpost.store.outcomes import end_pending, give_up_lost
from signalpost.store.statements import AnyRow, Driven, Keyed
from signalpost.store.tables import (
    BEHIND,
    LEASED,
    LIVE,
    REPLAYED,
    WAITING,
    events,
    queue,
    subscriptions,
)
from signalpost.store.units import from_time, to_optional_time, to_time


def _due(band: ColumnElement[int]) -> Select[Any]:
    # Served by `queue_wait` in its order: the cost does not depend on how much waits.
    return (
        select(
            queue.c.id,
            queue.c.lane_id,
            queue.c.band,
            queue.c.token,
            queue.c.attempts,
            queue.c.tries,
            queue.c.set_start,
            queue.c.due,
            queue.c.cause,
            events.c.event_id,
            events.c.event_type,
            events.c.tenant_id,
            events.c.publish_time,
            events.c.traceparent,
            events.c.body,
        )
        .outerjoin(events, events.c.id == queue.c.event_row)
        .where(
            queue.c.phase == WAITING,
            queue.c.lane_id == bindparam("lane_id"),
            queue.c.band == band,
            queue.c.due <= bindparam("now"),
        )
        .order_by(queue.c.due, queue.c.id)
        .limit(bindparam("count"))
    )


_DUE = Driven(
    union_all(_due(LIVE).subquery().select(), _due(REPLAYED).subquery().select()),
    "lane_id",
    "now",
    "count",
)

_ACTIVE = Keyed(
    lambda keys: select(
        subscriptions.c.lane_id, subscriptions.c.version, subscriptions.c.stopped
    ).where(
        subscriptions.c.lane_id.in_(keys),
        subscriptions.c.state == bindparam("state"),
        subscriptions.c.delete_time.is_(None),
        IS_ARRANGED,
    ),
    "state",
)

_LEASE = Keyed(
    lambda keys: (
        update(queue)
        .where(queue.c.id.in_(keys))
        .values(
            phase=LEASED,
            token=queue.c.token + 1,
            claim_time=bindparam("now"),
            lease_until=bindparam("until"),
        )
    ),
    "now",
    "until",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimCall:
    """One call of `claim`."""

    picks: Sequence[Pick]
    now: datetime
    lease_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelCall:
    """One call of `cancel_waiting`."""

    lane_id: LaneId
    limit: int
    now: datetime


def claim(conn: Connection, call: ClaimCall) -> Sequence[Lease]:
    """Lease what is due for longest, of lanes whose subscription is active."""
    lanes = [pick.lane_id for pick in call.picks]
    active = {row.lane_id: row for row in _ACTIVE.fetch(conn, lanes, values=(int(State.ACTIVE),))}
    now = from_time(call.now)
    leases: list[Lease] = []
    lost: list[int] = []
    damaged: list[int] = []
    for pick in call.picks:
        owner = active.get(pick.lane_id)
        if owner is not None:
            found = _DUE.fetch(conn, (pick.lane_id, now, pick.count))
            for row in _mixed(found, pick):
                if row.event_id is None:
                    lost.append(row.id)
                    continue
                try:
                    leases.append(_lease(row, owner=owner))
                except UNREADABLE:
                    damaged.append(row.id)
    give_up_lost(conn, lost, now=call.now)
    give_up_damaged(conn, damaged, now=call.now)
    until = from_time(call.lease_until)
    _LEASE.execute(conn, [lease.key for lease in leases], values=(now, until))
    return leases


def _mixed(found: Sequence[AnyRow], pick: Pick) -> Sequence[AnyRow]:
    """Choose as many as were asked for: replayed ones fill up, and get their share."""
    if len(found) <= pick.count:
        return found
    replayed = [row for row in found if row.band]
    live = [row for row in found if not row.band]
    count = min(len(replayed), max(pick.replays, pick.count - len(live)))
    return [*live[: pick.count - count], *replayed[:count]]


def _lease(row: AnyRow, *, owner: AnyRow) -> Lease:
    if not (row.event_id.isascii() and row.traceparent.isascii()):
        raise ValueError("a text is damaged")
    set_start = None if row.set_start is None else row.set_start + owner.stopped
    return Lease(
        key=DeliveryKey(row.id),
        lane_id=LaneId(row.lane_id),
        token=row.token + 1,
        number=row.attempts + 1,
        tries=whole(row.tries),
        set_start=to_optional_time(set_start),
        due=to_time(row.due),
        trigger=Trigger(row.cause),
        subscription_version=owner.version,
        event_id=EventId(row.event_id),
        event_type=row.event_type,
        tenant_id=TenantId(row.tenant_id),
        accept_time=to_time(row.publish_time),
        traceparent=row.traceparent,
        body=row.body,
    )


def cancel_waiting(conn: Connection, call: CancelCall) -> int:
    """End waiting deliveries of a lane as CANCELED, those behind another one last."""
    of_lane = select(queue.c.id, queue.c.lane_id, queue.c.token, queue.c.attempts).where(
        queue.c.lane_id == call.lane_id
    )
    first = of_lane.where(queue.c.phase == WAITING).order_by(queue.c.band, queue.c.due, queue.c.id)
    behind = of_lane.where(queue.c.resource.is_not(None), queue.c.phase == BEHIND)
    rows = [*conn.execute(first.limit(call.limit))]
    rows += conn.execute(behind.limit(call.limit - len(rows)))
    end_pending(conn, rows, state=DeliveryState.CANCELED, now=call.now)
    return len(rows)
