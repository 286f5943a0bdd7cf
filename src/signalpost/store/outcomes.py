"""Takes leases back, with what became of them.

Each delivery comes with its row in the queue as it is found by its number and token; a row
that is not found was leased anew meanwhile, and nothing of it is changed.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Final, assert_never

from sqlalchemy import Connection, bindparam, delete, select, update

from signalpost.domain.delivery import Attempt, DeliveryState, FailureReason, Trigger
from signalpost.domain.ids import LaneId, delivery_id
from signalpost.domain.lane import Lane
from signalpost.domain.outcome import AttemptResult, Outcome
from signalpost.domain.pace import Pace
from signalpost.domain.quarantine import LONGEST_ROW, UNKNOWN, Interrupted, take_up
from signalpost.domain.subscription import State
from signalpost.domain.verdict import GiveUp, RetryAt, Succeed, Verdict
from signalpost.ports import AttemptRecord, Recorded
from signalpost.store import attempts
from signalpost.store.lanes import LANE_COLUMNS, lane, learn
from signalpost.store.news import Changing, note_changed
from signalpost.store.order import Line, settle
from signalpost.store.set_back import begin_delays_anew
from signalpost.store.statements import AnyRow, Driven, Keyed, Values
from signalpost.store.tables import LEASED, WAITING, deliveries, queue, subscriptions
from signalpost.store.tables import attempts as recorded
from signalpost.store.tally import Tally, tally_of
from signalpost.store.units import from_time, to_optional_time, to_time

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

_REQUEUE = Driven(
    update(queue)
    .where(queue.c.id == bindparam("key"), queue.c.token == bindparam("old_token"))
    .values(
        phase=WAITING,
        token=queue.c.token + 1,
        attempts=queue.c.attempts + 1,
        due=bindparam("new_due"),
        tries=bindparam("new_tries"),
        set_start=bindparam("new_set_start"),
        cause=int(Trigger.SCHEDULED),
        claim_time=None,
        lease_until=None,
    ),
    "new_due",
    "new_tries",
    "new_set_start",
    "key",
    "old_token",
)

# For rows of a key and its token.
_DEQUEUE = Keyed(
    lambda keys: delete(queue).where(queue.c.token == bindparam("old_token"), queue.c.id.in_(keys)),
    "old_token",
)

# For rows of a key and the values below.
_END = Changing(
    lambda keys: (
        update(deliveries)
        .where(deliveries.c.id.in_(keys))
        .values(
            state=bindparam("new_state"),
            failure_reason=bindparam("new_reason"),
            attempts=bindparam("new_attempts"),
            end_time=bindparam("now"),
        )
    ),
    "new_state",
    "new_reason",
    "new_attempts",
    "now",
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


@dataclass(frozen=True, slots=True)
class _End:
    state: DeliveryState
    reason: FailureReason


def record(conn: Connection, calls: Sequence[RecordCall]) -> list[Recorded | None]:
    """Store attempts and what follows; None for each whose lease was lost."""
    keys = [call.record.lease.key for call in calls]
    rows = {row.id: row for row in _BY_ID.fetch(conn, keys)}
    changes = _Changes(tally_of(conn))
    now = max(call.now for call in calls)
    stored: list[AnyRow | None] = []
    for call in calls:
        lease = call.record.lease
        row = rows.get(lease.key)
        held = row is not None and row.token == lease.token
        if row is not None and held:
            del rows[lease.key]
            changes.add(row, call.record.attempt, verdict=call.record.verdict, now=now)
            if isinstance(call.record.verdict, Succeed) and lease.trigger is Trigger.SCHEDULED:
                changes.tally.delivered(call.now - lease.accept_time)
        else:
            changes.tally.lost()
        stored.append(row if held else None)
    next_due = changes.apply(conn, now=now)
    learn(conn, _learned(calls))
    return [None if row is None else Recorded(next_due.get(row.id)) for row in stored]


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
    _DEQUEUE.execute_grouped(conn, [(row.id, row.token) for row in rows])
    _END.execute_grouped(
        conn, [(row.id, int(state), int(reason), row.attempts, at) for row in rows]
    )
    for row in rows:
        tally.ended(row.lane_id, state, at=at)


def give_up_lost(conn: Connection, keys: Sequence[int], *, now: datetime) -> None:
    """End deliveries that wait, and whose event is gone."""
    if not keys:
        return
    changes = _Changes(tally_of(conn))
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


def _interrupt(conn: Connection, rows: Sequence[AnyRow], *, now: datetime) -> None:
    changes = _Changes(tally_of(conn))
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


def _is_canceled(row: AnyRow) -> bool:
    return row.cancel_time is not None or row.delete_time is not None


def _follows(verdict: Verdict, *, canceled: bool) -> _End | RetryAt:
    """Decide the next state; nothing but a success outlives a cancellation."""
    match verdict:
        case Succeed():
            return _End(DeliveryState.SUCCEEDED, FailureReason.NONE)
        case _ if canceled:
            return _End(DeliveryState.CANCELED, FailureReason.NONE)
        case GiveUp(reason):
            return _End(DeliveryState.FAILED, reason)
        case RetryAt():
            return verdict
        case _:
            assert_never(verdict)


@dataclass(frozen=True, slots=True)
class _Changes:
    """What a transaction writes. `retries` and `lines` are those of each delivery."""

    tally: Tally
    attempts: list[Values] = field(default_factory=list)
    requeued: list[Values] = field(default_factory=list)
    dequeued: list[Values] = field(default_factory=list)
    ended: list[Values] = field(default_factory=list)
    retries: dict[int, datetime] = field(default_factory=dict)
    lines: dict[int, Line] = field(default_factory=dict)

    def add(self, row: AnyRow, attempt: Attempt, *, verdict: Verdict, now: datetime) -> None:
        number, at = row.attempts + 1, from_time(now)
        if attempt.number != number:
            attempt = replace(attempt, number=number)
        self.attempts.append(attempts.write(row.id, attempt))
        self.tally.attempted(row.lane_id, attempt.result, at=at)
        if row.resource is not None:
            self.lines[row.id] = Line(row.lane_id, row.resource)
        follows = _follows(verdict, canceled=_is_canceled(row))
        match follows:
            case _End(state, reason):
                self.dequeued.append((row.id, row.token))
                self.ended.append((row.id, int(state), int(reason), number, at))
                self.tally.ended(row.lane_id, state, at=at)
            case RetryAt(due, charged):
                tries, set_start = row.tries, row.set_start
                if charged:
                    tries += 1
                    if set_start is None:
                        set_start = from_time(attempt.start_time) - row.stopped
                self.requeued.append((from_time(due), tries, set_start, row.id, row.token))
                self.retries[row.id] = due
            case _:
                assert_never(follows)

    def apply(self, conn: Connection, *, now: datetime) -> Mapping[int, datetime | None]:
        """Write it. Return when a delivery, or the next of its line, is due again."""
        attempts.INSERT_ATTEMPT.many(conn, self.attempts)
        _REQUEUE.many(conn, self.requeued)
        note_changed(conn, self.retries)
        _DEQUEUE.execute_grouped(conn, self.dequeued)
        _END.execute_grouped(conn, self.ended)
        if not self.lines:
            return self.retries
        first_due = settle(conn, self.lines.values(), now=from_time(now))
        due = {key: to_optional_time(first_due.get(line)) for key, line in self.lines.items()}
        return self.retries | due
