"""Mends the queue where it is damaged, and ends deliveries of which not enough can be read.

Nothing that was read of such a row is relied upon but its number, its lane and its line.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, delete, func, select, update

from signalpost.domain.delivery import Attempt, DeliveryState, FailureReason, Trigger
from signalpost.domain.ids import delivery_id
from signalpost.domain.outcome import AttemptResult, Outcome
from signalpost.store.attempts import INSERT_ATTEMPT, write
from signalpost.store.changes import END
from signalpost.store.engine import mend_indexes
from signalpost.store.order import Line, settle
from signalpost.store.reopening import LIVE_BAND, REPLAY_BAND
from signalpost.store.statements import AnyRow, Keyed
from signalpost.store.tables import Phase, attempts, queue
from signalpost.store.tally import tally_of
from signalpost.store.units import from_time, to_optional_time, to_time

UNREADABLE: Final = (TypeError, ValueError, OverflowError, AttributeError)
"""What comes of reading a row that is damaged."""

_logger: Final = logging.getLogger(__name__)

_RESULT: Final = AttemptResult(
    outcome=Outcome.INTERRUPTED,
    latency=timedelta(0),
    error_code="DELIVERY_UNREADABLE",
    error_message="what the database holds of the delivery or its event is damaged",
)

_LAST: Final = (
    select(func.coalesce(func.max(attempts.c.number), 0))
    .where(attempts.c.delivery_id == queue.c.id)
    .scalar_subquery()
)

_FOUND: Final = Keyed(
    lambda keys: select(
        queue.c.id, queue.c.lane_id, queue.c.resource, _LAST.label("last_attempt")
    ).where(queue.c.id.in_(keys))
)

# What no claim looks for otherwise. The first of each is what the others become.
_KNOWN: Final = {
    queue.c.phase: [int(Phase.WAITING), int(Phase.LEASED), int(Phase.BEHIND)],
    queue.c.band: [LIVE_BAND, REPLAY_BAND],
}

_TAKE_OUT: Final = Keyed(lambda keys: delete(queue).where(queue.c.id.in_(keys)))


def mend_queue(conn: Connection) -> None:
    """See to it that claims find what the queue holds, if it is damaged."""
    if not mend_indexes(conn, queue):
        return
    for column, known in _KNOWN.items():
        lost = column.is_(None) | column.not_in(known)
        conn.execute(update(queue).where(lost).values({column: known[0]}))


def whole(number: object) -> int:
    """Return a number as it is. Raises TypeError if it is none."""
    if isinstance(number, int):
        return number
    raise TypeError(f"not a whole number but {type(number).__name__}")


def is_readable(row: AnyRow) -> bool:
    """Tell whether what follows from an attempt can be told from its row in the queue."""
    try:
        Trigger(row.cause)
        to_time(row.claim_time)
        to_optional_time(row.set_start)
        for number in (row.token, row.attempts, row.tries, row.stopped):
            whole(number)
    except UNREADABLE:
        return False
    return True


def give_up_damaged(conn: Connection, keys: Sequence[int], *, now: datetime) -> None:
    """End deliveries whatever the rest of their rows in the queue says."""
    if not keys:
        return
    rows, at, tally = list(_FOUND.fetch(conn, keys)), from_time(now), tally_of(conn)
    INSERT_ATTEMPT.many(conn, [write(row.id, _attempt(row, now=now)) for row in rows])
    _TAKE_OUT.execute(conn, keys)
    end = (int(DeliveryState.FAILED), int(FailureReason.INTERNAL))
    END.execute_grouped(conn, [(row.id, *end, row.last_attempt + 1, at) for row in rows])
    for row in rows:
        tally.attempted(row.lane_id, _RESULT, at=at)
        tally.ended(row.lane_id, DeliveryState.FAILED, at=at)
        _logger.error(
            "gave up a delivery: what the database holds of it is damaged",
            extra={"delivery_id": delivery_id(row.id), "lane": row.lane_id},
        )
    lines = [Line(row.lane_id, row.resource) for row in rows if row.resource is not None]
    settle(conn, lines, now=at)


def _attempt(row: AnyRow, *, now: datetime) -> Attempt:
    number = row.last_attempt + 1
    return Attempt(number=number, trigger=Trigger.SCHEDULED, start_time=now, result=_RESULT)
