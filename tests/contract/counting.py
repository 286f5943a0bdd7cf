"""What the store has counted, held against what is there: every test of a store ends with it."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import Connection, func, select

from signalpost.domain.delivery import DeliveryState
from signalpost.store import Store
from signalpost.store.tables import deliveries, delivery_statistics
from signalpost.store.tally import BUCKET_MICROSECONDS, count_pending

_COLUMNS = {
    DeliveryState.SUCCEEDED: delivery_statistics.c.succeeded,
    DeliveryState.FAILED: delivery_statistics.c.failed,
    DeliveryState.CANCELED: delivery_statistics.c.canceled,
}


async def assert_all_is_counted(store: Store) -> None:
    """Whoever puts a delivery into the queue, or ends one, must have told the tally.

    What was reopened has ended more often than it shows; old counts may be pruned.
    """
    assert await store._for_callers.run(count_pending) == store.counts._tally.pending
    counted, there = await store._for_callers.run(_ends)
    assert not there - counted


def _ends(conn: Connection) -> tuple[Counter[object], Counter[object]]:
    counted: Counter[object] = Counter()
    for state, column in _COLUMNS.items():
        sums = select(delivery_statistics.c.lane_id, func.sum(column)).group_by(
            delivery_statistics.c.lane_id
        )
        counted.update({(lane_id, int(state)): total for lane_id, total in conn.execute(sums)})
    first_kept = conn.scalar(select(func.min(delivery_statistics.c.bucket))) or 0
    ended = (
        select(deliveries.c.lane_id, deliveries.c.state, func.count())
        .where(deliveries.c.end_time >= first_kept * BUCKET_MICROSECONDS)
        .group_by(deliveries.c.lane_id, deliveries.c.state)
    )
    there: Counter[object] = Counter()
    there.update({(lane_id, state): total for lane_id, state, total in conn.execute(ended)})
    return counted, there
