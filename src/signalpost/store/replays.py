"""Keeps replays, and works them off page by page.

A page is found by a reader and queued by the writer, which moves the position of the replay in
the same transaction: a page is queued once, whatever is repeated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select, update

from signalpost.domain.delivery import DeliveryState, FailureReason
from signalpost.domain.errors import NotFound, RequestIdConflict, StateInvalid
from signalpost.domain.ids import ReplayKey, SubscriptionId, TenantId
from signalpost.domain.replay import Replay, ReplayOrder, ReplayScope
from signalpost.ports.repair import Replayed, ReplayPage
from signalpost.store.documents import read_filter, write_filter
from signalpost.store.lanes import LANE_COLUMNS
from signalpost.store.reopening import REPLAY_BAND, Reopening, lane_if_active
from signalpost.store.replayable import first_position
from signalpost.store.row_numbers import RowNumbers
from signalpost.store.statements import AnyRow, DrivenInsert, Keyed
from signalpost.store.subscriptions import live_subscription
from signalpost.store.tables import deliveries, events, replays, subscriptions
from signalpost.store.units import from_optional_time, from_time, to_time

_REQUEST_KEPT = timedelta(days=1)

_INSERT_DELIVERY = DrivenInsert(deliveries)

_SHOWN = select(replays, subscriptions.c.subscription_id).join(
    subscriptions, subscriptions.c.lane_id == replays.c.lane_id
)

_LANE = select(
    *LANE_COLUMNS,
    subscriptions.c.delete_time,
    subscriptions.c.state.label("lane_state"),
)

_ENDED = Keyed(
    lambda keys: (
        select(
            deliveries.c.id,
            deliveries.c.lane_id,
            deliveries.c.event_row,
            deliveries.c.state,
            deliveries.c.attempts,
        )
        .join(events, events.c.id == deliveries.c.event_row)
        .where(deliveries.c.id.in_(keys))
    )
)

_STORED_EVENTS = Keyed(lambda keys: select(events.c.id).where(events.c.id.in_(keys)))


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginCall:
    """One call of `begin_replay`."""

    order: ReplayOrder
    request_id: str | None
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StopCall:
    """One call of `stop_replay`."""

    tenant_id: TenantId
    subscription_id: SubscriptionId
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EndCall:
    """One call of `end_replay`."""

    key: ReplayKey
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCall:
    """One call of `queue_page`."""

    replay: Replay
    page: ReplayPage
    now: datetime


def begin(conn: Connection, call: BeginCall) -> Replay:
    """Store a replay, or find it. Raises NotFound, RequestIdConflict, StateInvalid."""
    order = call.order
    lane = live_subscription(conn, order.tenant_id, order.subscription_id)
    conn.execute(
        delete(replays).where(
            replays.c.end_time.is_not(None),
            replays.c.end_time < from_time(call.now - _REQUEST_KEPT),
        )
    )
    digest = _digest(order)
    if call.request_id is not None:
        named = _SHOWN.where(
            replays.c.tenant_id == order.tenant_id, replays.c.request_id == call.request_id
        )
        row = conn.execute(named).one_or_none()
        if row is not None and row.digest != digest:
            raise RequestIdConflict(call.request_id)
        if row is not None:
            return _replay(row)
    _refuse_second(conn, order, lane_id=lane.lane_id)
    key = conn.scalar(
        insert(replays)
        .values(
            lane_id=lane.lane_id,
            tenant_id=order.tenant_id,
            request_id=call.request_id,
            digest=digest,
            scope=int(order.scope),
            filter=write_filter(order.filter),
            range_start=from_time(order.start),
            range_end=from_time(order.end or call.now),
            position=first_position(order),
            delivery_count=0,
            create_time=from_time(call.now),
        )
        .returning(replays.c.id)
    )
    return get(conn, ReplayKey(key or 0))


def _digest(order: ReplayOrder) -> bytes:
    """Tell requests apart by what they ask for."""
    asked = (
        order.tenant_id,
        order.subscription_id,
        int(order.scope),
        write_filter(order.filter),
        from_time(order.start),
        from_optional_time(order.end),
    )
    return hashlib.sha256(repr(asked).encode()).digest()


def _refuse_second(conn: Connection, order: ReplayOrder, *, lane_id: int) -> None:
    running = select(replays.c.id).where(replays.c.lane_id == lane_id, replays.c.end_time.is_(None))
    if conn.execute(running).first() is not None:
        name = order.subscription_id
        message = f'a replay of subscription "{name}" is still queueing deliveries'
        raise StateInvalid("subscription", name, state="REPLAYING", message=message)


def get(conn: Connection, key: ReplayKey) -> Replay:
    """Return a replay. Raises NotFound."""
    row = conn.execute(_SHOWN.where(replays.c.id == key)).one_or_none()
    if row is None:
        raise NotFound("replay", str(key))
    return _replay(row)


def running(conn: Connection) -> Sequence[Replay]:
    """Return the replays that are not worked off."""
    return [_replay(row) for row in conn.execute(_SHOWN.where(replays.c.end_time.is_(None)))]


def _replay(row: AnyRow) -> Replay:
    return Replay(
        key=ReplayKey(row.id),
        order=ReplayOrder(
            tenant_id=TenantId(row.tenant_id),
            subscription_id=SubscriptionId(row.subscription_id),
            scope=ReplayScope(row.scope),
            filter=read_filter(row.filter),
            start=to_time(row.range_start),
            end=to_time(row.range_end),
        ),
        position=row.position,
        delivery_count=row.delivery_count,
        ended=row.end_time is not None,
    )


def stop(conn: Connection, call: StopCall) -> None:
    """End the replay of a subscription that is running. Raises NotFound."""
    lane_id = live_subscription(conn, call.tenant_id, call.subscription_id).lane_id
    running = update(replays).where(replays.c.lane_id == lane_id, replays.c.end_time.is_(None))
    conn.execute(running.values(end_time=from_time(call.now)))


def end(conn: Connection, call: EndCall) -> None:
    """End a replay where it is."""
    one = update(replays).where(replays.c.id == call.key, replays.c.end_time.is_(None))
    conn.execute(one.values(end_time=from_time(call.now)))


def queue_page(conn: Connection, call: PageCall, *, numbers: RowNumbers) -> Replayed:
    """Queue a page and move the replay. Raises NotFound."""
    row = conn.execute(select(replays).where(replays.c.id == call.replay.key)).one_or_none()
    if row is None or row.end_time is not None or row.position != call.replay.position:
        return Replayed(get(conn, call.replay.key), None)
    lane = conn.execute(_LANE.where(subscriptions.c.lane_id == row.lane_id)).one()
    if lane.delete_time is not None:
        end(conn, EndCall(key=call.replay.key, now=call.now))
        return Replayed(get(conn, call.replay.key), None)
    reopening = Reopening(band=REPLAY_BAND, now=call.now)
    _add_ended(conn, call, reopening)
    _add_missing(conn, call, reopening, lane=lane, numbers=numbers)
    count, position = reopening.apply(conn), call.page.next_position
    moved = {"position": position} if position is not None else {"end_time": from_time(call.now)}
    conn.execute(
        update(replays)
        .where(replays.c.id == call.replay.key)
        .values(delivery_count=replays.c.delivery_count + count, **moved)
    )
    return Replayed(get(conn, call.replay.key), lane_if_active(lane) if count else None)


def _add_ended(conn: Connection, call: PageCall, reopening: Reopening) -> None:
    keys = [item.key for item in call.page.items if item.key is not None]
    for row in _ENDED.fetch(conn, keys):
        if call.replay.order.scope.chooses(DeliveryState(row.state)):
            reopening.add(row)


def _add_missing(
    conn: Connection, call: PageCall, reopening: Reopening, *, lane: AnyRow, numbers: RowNumbers
) -> None:
    wanted = [item.event_row for item in call.page.items if item.key is None]
    stored = sorted({row.id for row in _STORED_EVENTS.fetch(conn, wanted)})
    drawn = numbers.draw(len(stored), at=call.now)
    pending = (int(DeliveryState.PENDING), int(FailureReason.NONE), 0, from_time(call.now), None)
    new = [
        (key, event_row, lane.lane_id, lane.tenant_id, *pending)
        for key, event_row in zip(drawn, stored, strict=True)
    ]
    _INSERT_DELIVERY.many(conn, new)
    for key, event_row in zip(drawn, stored, strict=True):
        reopening.add_new(key, lane_id=lane.lane_id, event_row=event_row)
