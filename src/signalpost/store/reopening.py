"""Puts deliveries that had ended back in the queue, and hastens those that wait.

A reopened delivery goes on with a token above any it had: an attempt takes up two of them at
most, one by its lease and one by the release of that, and it is always counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, bindparam, case, select, update

from signalpost.domain.delivery import DeliveryState, FailureReason, Trigger
from signalpost.domain.errors import NotFound, StateInvalid
from signalpost.domain.ids import DeliveryKey, delivery_id
from signalpost.domain.lane import Lane
from signalpost.domain.subscription import State
from signalpost.store.lanes import LANE_COLUMNS, lane
from signalpost.store.news import Changing
from signalpost.store.order import place
from signalpost.store.statements import AnyRow, DrivenInsert, Values
from signalpost.store.tables import LEASED, Phase, deliveries, events, queue, subscriptions
from signalpost.store.tally import tally_of
from signalpost.store.units import from_time

LIVE_BAND = 0
REPLAY_BAND = 1

_TOKENS_AN_ATTEMPT = 2

_ENQUEUE = DrivenInsert(queue)

_REOPEN = Changing(
    lambda keys: (
        update(deliveries)
        .where(deliveries.c.id.in_(keys))
        .values(
            state=int(DeliveryState.PENDING),
            failure_reason=int(FailureReason.NONE),
            end_time=None,
        )
    )
)

_ONE = (
    select(
        deliveries.c.id,
        deliveries.c.lane_id,
        deliveries.c.event_row,
        deliveries.c.state,
        deliveries.c.attempts,
        events.c.id.label("stored_event"),
        queue.c.phase,
        subscriptions.c.subscription_id,
        *LANE_COLUMNS[1:],
        subscriptions.c.delete_time,
        subscriptions.c.state.label("lane_state"),
    )
    .join(subscriptions, subscriptions.c.lane_id == deliveries.c.lane_id)
    .outerjoin(events, events.c.id == deliveries.c.event_row)
    .outerjoin(queue, queue.c.id == deliveries.c.id)
    .where(deliveries.c.id == bindparam("key"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryCall:
    """One call of `retry`."""

    key: DeliveryKey
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Reopening:
    """Deliveries that a transaction puts back in the queue, in one band."""

    band: int
    now: datetime
    _reopened: list[int] = field(default_factory=list)
    _queued: list[Values] = field(default_factory=list)

    def add(self, row: AnyRow) -> None:
        """Take one that had ended; of its row `id`, `lane_id`, `event_row` and `attempts`."""
        self._reopened.append(row.id)
        self.add_new(row.id, lane_id=row.lane_id, event_row=row.event_row, attempts=row.attempts)

    def add_new(self, key: int, *, lane_id: int, event_row: int, attempts: int = 0) -> None:
        """Take one whose delivery is stored as pending."""
        token, manual = _TOKENS_AN_ATTEMPT * attempts, int(Trigger.MANUAL)
        due = from_time(self.now)
        # tries, set_start, cause, claim_time, lease_until, band, cancel_time, resource
        fresh = (0, None, manual, None, None, self.band, None, None)
        self._queued.append(
            (key, lane_id, event_row, int(Phase.WAITING), due, token, attempts, *fresh)
        )

    def apply(self, conn: Connection) -> int:
        """Write it; return how many they are."""
        _REOPEN.execute(conn, self._reopened)
        _ENQUEUE.many(conn, self._queued)
        tally = tally_of(conn)
        for _, lane_id, *_ in self._queued:
            tally.queued(lane_id)
        place(conn, [values[0] for values in self._queued], now=from_time(self.now))
        return len(self._queued)


def retry(conn: Connection, call: RetryCall) -> Lane | None:
    """Make a delivery due now. Raises NotFound, StateInvalid."""
    row = conn.execute(_ONE, {"key": call.key}).one_or_none()
    if row is None:
        raise NotFound("delivery", delivery_id(call.key))
    _demand(row)
    if row.phase is None:
        reopening = Reopening(band=LIVE_BAND, now=call.now)
        reopening.add(row)
        reopening.apply(conn)
    else:
        _hasten(conn, row, now=call.now)
    return lane_if_active(row)


def lane_if_active(row: AnyRow) -> Lane | None:
    """Return the lane of a row with its subscription, None if nothing may go on it now."""
    if row.delete_time is not None or row.lane_state != State.ACTIVE:
        return None
    return lane(row)


def _demand(row: AnyRow) -> None:
    if row.delete_time is not None:
        name = row.subscription_id
        message = f'subscription "{name}" is deleted'
        raise StateInvalid("subscription", name, state="DELETED", message=message)
    if row.stored_event is None:
        name, state = delivery_id(row.id), DeliveryState(row.state).name
        message = f'the event of delivery "{name}" is no longer stored'
        raise StateInvalid("delivery", name, state=state, message=message)


def _hasten(conn: Connection, row: AnyRow, *, now: datetime) -> None:
    """Let one that waits be due, among the live ones; one under way must not be canceled."""
    one = update(queue).where(queue.c.id == row.id)
    due = case((queue.c.due > from_time(now), from_time(now)), else_=queue.c.due)
    sooner = {"due": due, "cause": int(Trigger.MANUAL), "band": LIVE_BAND}
    conn.execute(one.where(queue.c.phase != LEASED).values(sooner))
    conn.execute(one.where(queue.c.phase == LEASED).values(cancel_time=None))
