"""What waits, after a restart with a clock that was set back meanwhile.

A delay began when the attempt before it ended. If that is still to come by the clock of now, it
begins anew: nothing waits for longer than its own delay, however far the clock was set back.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, case, or_, select, update

from signalpost.domain.delivery import Trigger
from signalpost.store.tables import LEASED, attempts, queue
from signalpost.store.units import from_time

_BEGAN = (
    select(attempts.c.start_time + attempts.c.latency)
    .where(attempts.c.delivery_id == queue.c.id, attempts.c.number == queue.c.attempts)
    .scalar_subquery()
)

_LONGER_THAN_ANY: Final = timedelta(days=2)
"""A policy lets a delivery wait for a day at most, and so does `Retry-After`; spread upwards."""

_WITHOUT_DELAY = or_(queue.c.attempts == 0, queue.c.cause == int(Trigger.MANUAL))


def begin_delays_anew(conn: Connection, *, now: datetime) -> None:
    """Bring forward what would wait for the time by which the clock was set back.

    What is due later than any delay lasts, or is no number, is damaged: it is due now.
    """
    at, never = from_time(now), from_time(now + _LONGER_THAN_ANY)
    began_later = at < _BEGAN
    conn.execute(
        update(queue)
        .where(
            queue.c.phase != LEASED,
            queue.c.due > at,
            or_(_WITHOUT_DELAY, began_later, queue.c.due > never),
        )
        .values(due=case((_WITHOUT_DELAY, at), (began_later, queue.c.due - _BEGAN + at), else_=at))
    )
