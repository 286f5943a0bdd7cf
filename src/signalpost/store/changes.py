"""What a transaction writes of attempts and of what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, assert_never

from sqlalchemy import Connection, bindparam, delete, update

from signalpost.domain.delivery import Attempt, DeliveryState, FailureReason, Trigger
from signalpost.domain.verdict import GiveUp, RetryAt
from signalpost.store import attempts
from signalpost.store.news import Changing, note_changed
from signalpost.store.order import Line, settle
from signalpost.store.statements import AnyRow, Driven, Keyed, Values
from signalpost.store.tables import WAITING, deliveries, queue
from signalpost.store.tally import Tally
from signalpost.store.units import from_time, to_optional_time

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
DEQUEUE = Keyed(
    lambda keys: delete(queue).where(queue.c.token == bindparam("old_token"), queue.c.id.in_(keys)),
    "old_token",
)

# For rows of a key and the values below.
END = Changing(
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


@dataclass(frozen=True, slots=True)
class _End:
    state: DeliveryState
    reason: FailureReason


_SUCCEEDED: Final = _End(DeliveryState.SUCCEEDED, FailureReason.NONE)


@dataclass(frozen=True, slots=True)
class Changes:
    """What a transaction writes. `retries` and `lines` are those of each delivery."""

    tally: Tally
    attempts: list[Values] = field(default_factory=list)
    requeued: list[Values] = field(default_factory=list)
    dequeued: list[Values] = field(default_factory=list)
    ended: list[Values] = field(default_factory=list)
    retries: dict[int, datetime] = field(default_factory=dict)
    lines: dict[int, Line] = field(default_factory=dict)

    def succeeded(self, row: AnyRow, attempt: Attempt, *, now: datetime) -> None:
        """Note a success whose row is out of the queue."""
        at = from_time(now)
        self._attempted(row, attempt, at=at)
        self._ended(row, _SUCCEEDED, at=at)

    def add(
        self, row: AnyRow, attempt: Attempt, *, verdict: GiveUp | RetryAt, now: datetime
    ) -> None:
        """Note a failure and what follows."""
        at = from_time(now)
        self._attempted(row, attempt, at=at)
        follows = _follows(verdict, canceled=_is_canceled(row))
        match follows:
            case _End():
                self.dequeued.append((row.id, row.token))
                self._ended(row, follows, at=at)
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

    def _attempted(self, row: AnyRow, attempt: Attempt, *, at: int) -> None:
        number = row.attempts + 1
        if attempt.number != number:
            attempt = replace(attempt, number=number)
        self.attempts.append(attempts.write(row.id, attempt))
        self.tally.attempted(row.lane_id, attempt.result, at=at)
        if row.resource is not None:
            self.lines[row.id] = Line(row.lane_id, row.resource)

    def _ended(self, row: AnyRow, end: _End, *, at: int) -> None:
        self.ended.append((row.id, int(end.state), int(end.reason), row.attempts + 1, at))
        self.tally.ended(row.lane_id, end.state, at=at)

    def apply(self, conn: Connection, *, now: datetime) -> Mapping[int, datetime | None]:
        """Write it. Return when a delivery, or the next of its line, is due again."""
        attempts.INSERT_ATTEMPT.many(conn, self.attempts)
        _REQUEUE.many(conn, self.requeued)
        note_changed(conn, self.retries)
        DEQUEUE.execute_grouped(conn, self.dequeued)
        END.execute_grouped(conn, self.ended)
        if not self.lines:
            return self.retries
        first_due = settle(conn, self.lines.values(), now=from_time(now))
        due = {key: to_optional_time(first_due.get(line)) for key, line in self.lines.items()}
        return self.retries | due


def _follows(verdict: GiveUp | RetryAt, *, canceled: bool) -> _End | RetryAt:
    """Decide the next state of what failed; only a success outlives a cancellation."""
    match verdict:
        case _ if canceled:
            return _End(DeliveryState.CANCELED, FailureReason.NONE)
        case GiveUp(reason):
            return _End(DeliveryState.FAILED, reason)
        case RetryAt():
            return verdict
        case _:
            assert_never(verdict)


def _is_canceled(row: AnyRow) -> bool:
    return row.cancel_time is not None or row.delete_time is not None
