"""Counts what happens to deliveries, as part of the transaction in which it happens.

Whoever puts deliveries into the queue tells the tally of the connection (`tally_of`), and so
does whoever ends one or records an attempt; `outcomes.end_pending` does it for you. The writer
adds what a transaction counted to `delivery_statistics` before it commits, one row for each lane
and stretch of time, and to the counts in memory once it is committed.

How many deliveries are pending in each lane is only in memory: counting half a million of them
takes 50 ms, a column that changes with each delivery would cost more than the rest of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import timedelta
from typing import Final, cast

from sqlalchemy import Connection, func, select

from signalpost.domain.delivery import DeliveryState
from signalpost.domain.outcome import AttemptResult, Outcome
from signalpost.domain.statistics import BUCKET, LATENCY_BUCKETS, TIMED, latency_bucket
from signalpost.store.engine import upsert
from signalpost.store.statements import Driven
from signalpost.store.tables import delivery_statistics, queue
from signalpost.telemetry.metrics import Connected, Totals, connected

BUCKET_MICROSECONDS: Final = BUCKET // timedelta(microseconds=1)
"""Times of the database, divided by this, are the numbers of stretches."""

_INFO_KEY: Final = "signalpost.tally"

# Places in a row of counts, each ended state one below its number.
_ENDS: Final = (DeliveryState.SUCCEEDED, DeliveryState.FAILED, DeliveryState.CANCELED)
_FIRST_END: Final = int(DeliveryState.SUCCEEDED)
_ATTEMPTS: Final = 3
_FAILED_ATTEMPTS: Final = 4
_LATENCIES: Final = 5
_NONE: Final = (0,) * (_LATENCIES + LATENCY_BUCKETS)

# By their numbers, for enums are hashed in Python.
_IS_TIMED: Final = tuple(number in TIMED for number in range(max(Outcome) + 1))
_CONNECTIONS: Final = len(Connected)
_ATTEMPT_KINDS: Final = {
    outcome * _CONNECTIONS + connection: (outcome, connection)
    for outcome in Outcome
    for connection in Connected
}

_COUNTS: Final = [column for column in delivery_statistics.columns if not column.primary_key]


def _adding() -> Driven:
    fresh = upsert(delivery_statistics)
    added = {column.name: column + fresh.excluded[column.name] for column in _COUNTS}
    statement = fresh.on_conflict_do_update(
        index_elements=list(delivery_statistics.primary_key.columns), set_=added
    )
    return Driven(statement, *(column.name for column in delivery_statistics.columns))


_ADD: Final = _adding()


class Tally:
    """What the transaction under way counts; belongs to the thread of the writer.

    `pending` is how many deliveries wait or are under way in each lane as of the last commit,
    `totals` what was committed since it was made. Other threads may copy them.
    """

    def __init__(self, pending: Mapping[int, int]) -> None:
        self.pending = dict(pending)
        self.totals = Totals()
        self._accepted = 0
        self._lost = 0
        self._attempts: defaultdict[int, int] = defaultdict(int)
        self._seconds: list[float] = []
        self._queued: defaultdict[int, int] = defaultdict(int)
        self._rows: dict[tuple[int, int], list[int]] = {}

    def accepted(self, count: int) -> None:
        """Count events that were stored."""
        self._accepted += count

    def queued(self, lane_id: int, count: int = 1) -> None:
        """Count deliveries that were put into the queue."""
        self._queued[lane_id] += count

    def pending_in(self, lane_id: int) -> int:
        """Return how many deliveries wait or are under way in a lane, by this transaction too."""
        return self.pending.get(lane_id, 0) + self._queued.get(lane_id, 0)

    def ended(self, lane_id: int, state: DeliveryState, *, at: int) -> None:
        """Count a delivery that was taken out of the queue for good, at this time."""
        self._queued[lane_id] -= 1
        self._row(lane_id, at)[state - _FIRST_END] += 1

    def attempted(self, lane_id: int, result: AttemptResult, *, at: int) -> None:
        """Count an attempt whose result is recorded at this time."""
        row = self._row(lane_id, at)
        outcome = result.outcome
        row[_ATTEMPTS] += 1
        if outcome is not Outcome.SUCCEEDED:
            row[_FAILED_ATTEMPTS] += 1
        if _IS_TIMED[outcome]:
            row[_LATENCIES + latency_bucket(result.latency)] += 1
        self._attempts[outcome * _CONNECTIONS + connected(result)] += 1

    def lost(self) -> None:
        """Count an attempt whose lease was lost before its outcome came."""
        self._lost += 1

    def delivered(self, duration: timedelta) -> None:
        """Count how long after its acceptance an event was delivered."""
        self._seconds.append(duration.total_seconds())

    def _row(self, lane_id: int, at: int) -> list[int]:
        key = (at // BUCKET_MICROSECONDS, lane_id)
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = list(_NONE)
        return row

    def write(self, conn: Connection) -> None:
        """Add what was counted to what is stored."""
        _ADD.many(conn, [(*key, *row) for key, row in self._rows.items()])

    def commit(self) -> None:
        """Take in that the transaction came to pass, and begin with the next one."""
        for lane_id, change in self._queued.items():
            if count := self.pending.get(lane_id, 0) + change:
                self.pending[lane_id] = count
            else:
                self.pending.pop(lane_id, None)
        self._add_to_totals()
        self.discard()

    def _add_to_totals(self) -> None:
        totals = self.totals
        totals.accepted += self._accepted
        totals.leases_lost += self._lost
        for kind, count in self._attempts.items():
            totals.attempts[_ATTEMPT_KINDS[kind]] += count
        for row in self._rows.values():
            for state in _ENDS:
                totals.ended[state] += row[state - _FIRST_END]
        for seconds in self._seconds:
            totals.durations.add(seconds)

    def discard(self) -> None:
        """Forget the transaction."""
        self._accepted = 0
        self._lost = 0
        self._queued.clear()
        self._attempts.clear()
        self._seconds.clear()
        self._rows.clear()

    def join(self, conn: Connection) -> None:
        """Become the tally of a connection."""
        conn.info[_INFO_KEY] = self


def tally_of(conn: Connection) -> Tally:
    """Return the tally of the transaction under way on a connection of the writer."""
    return cast("Tally", conn.info[_INFO_KEY])


def count_pending(conn: Connection) -> dict[int, int]:
    """Count what is in the queue, lane by lane: a million takes a quarter of a second."""
    counts = select(queue.c.lane_id, func.count().label("pending")).group_by(queue.c.lane_id)
    return {row.lane_id: row.pending for row in conn.execute(counts)}
