"""What the store does for statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from signalpost.domain.statistics import Ended
from signalpost.domain.subscription import State
from signalpost.ports.statistics import StatisticsQuery, WaitingLane
from signalpost.store.readers import Readers
from signalpost.store.statistics import (
    PruneStatisticsCall,
    count_ended,
    count_subscriptions,
    oldest_pending,
    prune_statistics,
    scope_of,
    stretches,
    waiting,
)
from signalpost.store.tally import Tally
from signalpost.store.writer import Writer, one_by_one

_PRUNE = one_by_one(prune_statistics)


class Counts:
    """Implements `StatisticsStore` with the threads of a store.

    `totals` is what was committed since the store was opened.
    """

    def __init__(self, writer: Writer, readers: Readers, *, tally: Tally) -> None:
        self._writer = writer
        self._readers = readers
        self._tally = tally
        self.totals = tally.totals

    async def count_ended(self, query: StatisticsQuery, *, start: datetime, end: datetime) -> Ended:
        """Count what ended. Raises NotFound."""
        scope = await self._readers.run(scope_of, query)
        total = Ended()
        for buckets in stretches(scope, start, end):
            total += await self._readers.run(count_ended, scope, buckets)
        return total

    async def waiting(self, query: StatisticsQuery) -> Sequence[WaitingLane]:
        """Return the lanes in which something waits."""
        return await self._readers.run(waiting, query, self._tally.pending.copy())

    async def oldest_pending(self, query: StatisticsQuery) -> datetime | None:
        """Return when the oldest delivery that waits was queued."""
        return await self._readers.run(oldest_pending, query, self._tally.pending.copy())

    async def count_subscriptions(self) -> Mapping[State, int]:
        """Count the subscriptions in each state."""
        return await self._readers.run(count_subscriptions)

    async def prune_statistics(self, *, before: datetime, limit: int) -> int:
        """Remove old counts; return how many."""
        call = PruneStatisticsCall(before=before, limit=limit)
        return await self._writer.submit(_PRUNE, call)
