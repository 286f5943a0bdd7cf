"""What stands in line in ordered lanes, looked at from outside."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, insert, update

from signalpost.domain.delivery import DeliveryState
from signalpost.domain.ids import DeliveryKey
from signalpost.store import Store
from signalpost.store.order import place
from signalpost.store.tables import Phase, deliveries, queue
from signalpost.store.tally import tally_of
from signalpost.store.units import from_time
from signalpost.store.writer import one_by_one
from tests.contract.material import NOW
from tests.contract.sqlite_file import look

Row = tuple[int, int]
"""Number of the event, and phase."""


def standing(path: Path) -> dict[tuple[int, str], list[Row]]:
    """Return what stands in each line, in the order of acceptance."""
    lines: dict[tuple[int, str], list[Row]] = defaultdict(list)
    statement = (
        "SELECT lane_id, resource, event_row, phase FROM queue"
        " WHERE resource IS NOT NULL ORDER BY event_row"
    )
    for lane_id, resource, event_row, phase in look(path, statement):
        lines[lane_id, resource].append((event_row, phase))
    return dict(lines)


def is_sound(line: Sequence[Row]) -> bool:
    """Tell whether exactly the one that may go can go, or only what is leased is not behind."""
    first, *others = [phase for _, phase in line]
    phases = [first, *others]
    if Phase.LEASED in phases:
        return Phase.WAITING not in phases
    return first == Phase.WAITING and all(phase == Phase.BEHIND for phase in others)


async def reopen(store: Store, key: DeliveryKey, *, now: datetime = NOW) -> None:
    """Put a delivery that ended back into the queue, as a repair does."""

    def run(conn: Connection, _: None) -> None:
        ended = update(deliveries).where(deliveries.c.id == key)
        conn.execute(ended.values(state=int(DeliveryState.PENDING), end_time=None))
        row = conn.execute(deliveries.select().where(deliveries.c.id == key)).one()
        conn.execute(
            insert(queue).values(
                id=key,
                lane_id=row.lane_id,
                event_row=row.event_row,
                phase=int(Phase.WAITING),
                due=from_time(now),
                token=100,
                attempts=row.attempts,
                tries=0,
                cause=2,
            )
        )
        place(conn, [key], now=from_time(now))
        tally_of(conn).queued(row.lane_id)

    await store._writer.submit(one_by_one(run), None)
