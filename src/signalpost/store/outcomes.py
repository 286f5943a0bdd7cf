"""Takes leases back, with what became of them.

Each delivery comes with its row in the queue as it is found by its number and token; a row
that is not found was leased anew meanwhile, and nothing of it is changed.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Final

from sqlalchemy import Connection, bindparam, delete, select

from signalpost.domain.delivery import Attempt, DeliveryState, FailureReason, Trigger
from signalpost.domain.ids import LaneId, delivery_id
from signalpost.domain.lane import Lane
from signalpost.domain.outcome import AttemptResult, Outcome
from signalpost.domain.pace import Pace
from signalpost.domain.quarantine import LONGEST_ROW, UNKNOWN, Interrupted, take_up
from signalpost.domain.subscription import State
from signalpost.domain.verdict import GiveUp, Succeed
from signalpost.ports import AttemptRecord, Recorded
from signalpost.store.changes import DEQUEUE, END, Changes
from signalpost.store.damage import give_up_damaged, is_readable
from signalpost.store.lanes import LANE_COLUMNS, lane, learn
from signalpost.store.set_back import begin_delays_anew
from signalpost.store.statements import AnyRow, Keyed, Values
from signalpost.store.tables import LEASED, queue, subscriptions
from signalpost.store.tables import attempts as recorded
from signalpost.store.tally import tally_of
from signalpost.store.units import from_time, to_time

_logger: Final = logging.getLogger(__name__)

_ROWS = select(
    queue.c.id,
    queue.c.lane_id,
    queue.c.token,
    queue.c.attempts,
    queue.c.tries,
    queue.c.set_start,
    queue.c.cause,
    queue.c.claim_time,
    queue.c.resource,
    queue.c.cancel_time,
    subscriptions.c.state,
    subscriptions.c.stopped,
    subscriptions.c.delete_time,
)

# Only by number: with the phase in it, a planner may take the index of leases for it.
_BY_ID = Keyed(
    lambda keys: _ROWS.join(subscriptions, subscriptions.c.lane_id == queue.c.lane_id).where(
        queue.c.id.in_(keys)
    )
)

_LEASED_ROWS = (
    _ROWS.add_columns(*LANE_COLUMNS[1:])
    .join(subscriptions, subscriptions.c.lane_id == queue.c.lane_id)
    .where(queue.c.phase == LEASED)
)

# For a success nothing else need be known: to look first would cost as much again.
_TAKE_OUT = Keyed(
    lambda keys: (
        delete(queue)
        .where(queue.c.token == bindparam("old_token"), queue.c.id.in_(keys))
        .returning(queue.c.id, queue.c.lane_id, queue.c.token, queue.c.attempts, queue.c.resource)
    ),
    "old_token",
)

# The crash itself is not on record yet, so one that is in its seventh has six behind it.
_CRASHES_BEFORE = Keyed(
    lambda keys: (
        select(recorded.c.delivery_id, (queue.c.attempts - recorded.c.number).label("age"))
        .join(queue, queue.c.id == recorded.c.delivery_id)
        .where(
            recorded.c.delivery_id.in_(keys),
            recorded.c.number > queue.c.attempts - (LONGEST_ROW - 1),
            recorded.c.error_code == bindparam("error_code"),
        )
    ),
    "error_code",
)


_EVENT_GONE = AttemptResult(
    outcome=Outcome.INTERRUPTED,
    latency=timedelta(0),
    error_code="EVENT_GONE",
    error_message="the event is gone from the database",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordCall:
    """One call of `record`."""

    record: AttemptRecord
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RescueCall:
    """One call of `rescue`."""

    now: datetime
    limit: int


def record(conn: Connection, calls: Sequence[RecordCall]) -> list[Recorded | None]:
    """Store attempts and what follows; None for each whose lease was lost."""
    rows = _held(conn, calls)
    changes = Changes(tally_of(conn))
    now = max(call.now for call in calls)
    stored: list[AnyRow | None] = []
    for call in calls:
        lease, attempt = call.record.lease, call.record.attempt
        row = rows.pop((lease.key, lease.token), None)
        if row is None:
            changes.tally.lost()
        elif isinstance(call.record.verdict, Succeed):
            changes.succeeded(row, attempt, now=now)
            if lease.trigger is Trigger.SCHEDULED:
                changes.tally.delivered(call.now - lease.accept_time)
        else:
            changes.add(row, attempt, verdict=call.record.verdict, now=now)
        stored.append(row)
    next_due = changes.apply(conn, now=now)
    learn(conn, _learned(calls))
    return [None if row is None else Recorded(next_due.get(row.id)) for row in stored]


def _held(conn: Connection, calls: Sequence[RecordCall]) -> dict[tuple[int, int], AnyRow]:
    """Return the rows of leases by key and token; those of successes are out of the queue."""
    successes: list[Values] = []
    others: list[int] = []
    for call in calls:
        lease = call.record.lease
        if isinstance(call.record.verdict, Succeed):
            successes.append((lease.key, lease.token))
        else:
            others.append(lease.key)
    rows = [*_TAKE_OUT.fetch_grouped(conn, successes), *_BY_ID.fetch(conn, others)]
    return {(row.id, row.token): row for row in rows}


def _learned(calls: Sequence[RecordCall]) -> Iterator[tuple[LaneId, Pace]]:
    for call in calls:
        if call.record.pace is not None:
            yield call.record.lease.lane_id, call.record.pace


def recover(conn: Connection, now: datetime) -> int:
    """Take back all leases, whatever their time; return how many.

    Let nothing wait for a clock that was set back since the last run.
    """
    begin_delays_anew(conn, now=now)
    rows = conn.execute(_LEASED_ROWS).all()
    _interrupt(conn, rows, now=now)
    return len(rows)


def rescue(conn: Connection, call: RescueCall) -> Sequence[Lane]:
    """Take back expired leases; return their lanes, each once, if they are active."""
    statement = (
        _LEASED_ROWS.where(queue.c.lease_until <= from_time(call.now))
        .order_by(queue.c.lease_until)
        .limit(call.limit)
    )
    rows = conn.execute(statement).all()
    _interrupt(conn, rows, now=call.now)
    found = {row.lane_id: lane(row) for row in rows if _is_active(row)}
    return list(found.values())


def end_pending(
    conn: Connection,
    rows: Sequence[AnyRow],
    *,
    state: DeliveryState,
    reason: FailureReason = FailureReason.NONE,
    now: datetime,
) -> None:
    """End deliveries that are not leased, and count them.

    A row has the `id`, `lane_id`, `token` and `attempts` of one in the queue.
    """
    at, tally = from_time(now), tally_of(conn)
    DEQUEUE.execute_grouped(conn, [(row.id, row.token) for row in rows])
    END.execute_grouped(conn, [(row.id, int(state), int(reason), row.attempts, at) for row in rows])
    for row in rows:
        tally.ended(row.lane_id, state, at=at)


def give_up_lost(conn: Connection, keys: Sequence[int], *, now: datetime) -> None:
    """End deliveries that wait, and whose event is gone."""
    if not keys:
        return
    changes = Changes(tally_of(conn))
    for row in _BY_ID.fetch(conn, keys):
        attempt = Attempt(
            number=row.attempts + 1,
            trigger=Trigger(row.cause),
            start_time=now,
            result=_EVENT_GONE,
        )
        changes.add(row, attempt, verdict=GiveUp(FailureReason.INTERNAL), now=now)
        _logger.error(
            "gave up a delivery: its event is gone from the database",
            extra={"delivery_id": delivery_id(row.id), "lane": row.lane_id},
        )
    changes.apply(conn, now=now)


def _is_active(row: AnyRow) -> bool:
    return row.delete_time is None and row.state == State.ACTIVE


def _interrupt(conn: Connection, found: Sequence[AnyRow], *, now: datetime) -> None:
    rows = [row for row in found if is_readable(row)]
    if len(rows) < len(found):
        damaged = {row.id for row in found}.difference(row.id for row in rows)
        give_up_damaged(conn, sorted(damaged), now=now)
    changes = Changes(tally_of(conn))
    interrupted = _interrupted(conn, rows)
    for row, (result, verdict) in zip(rows, take_up(interrupted, now=now), strict=True):
        attempt = Attempt(
            number=row.attempts + 1,
            trigger=Trigger(row.cause),
            start_time=to_time(row.claim_time),
            result=result,
        )
        changes.add(row, attempt, verdict=verdict, now=now)
        if isinstance(verdict, GiveUp):
            _logger.error(
                "quarantined a delivery: the service died in each of its last attempts",
                extra={"delivery_id": delivery_id(row.id), "lane": row.lane_id},
            )
    changes.apply(conn, now=now)


def _interrupted(conn: Connection, rows: Sequence[AnyRow]) -> list[Interrupted]:
    keys = [row.id for row in rows]
    behind: dict[int, set[int]] = {key: set() for key in keys}
    for row in _CRASHES_BEFORE.fetch(conn, keys, values=(UNKNOWN.error_code,)):
        behind[row.delivery_id].add(row.age)
    return [
        Interrupted(
            claim_time=to_time(row.claim_time),
            key=row.id,
            crashes=1 + _in_a_row(behind[row.id]),
        )
        for row in rows
    ]


def _in_a_row(ages: Collection[int]) -> int:
    return next(age for age in count() if age not in ages)
