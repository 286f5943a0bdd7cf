"""What the store does to stay within bounds: removes what is over, ends what is too much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from signalpost.domain.ids import DeliveryKey, LaneId
from signalpost.domain.retention import Retention
from signalpost.ports.backlog import GivenUp, Surplus
from signalpost.ports.retention import Expired, Prunable
from signalpost.store.backlog import GiveUpCall, find_surplus, give_up
from signalpost.store.readers import Readers
from signalpost.store.retention import PruneCall, find_expired, prune
from signalpost.store.tally import Tally
from signalpost.store.writer import Writer, one_by_one

_ROW_BYTES = 2048

_PRUNE = one_by_one(prune, after_commit="prune.after_commit")
_GIVE_UP = one_by_one(give_up, before_commit="backlog.before_commit")


class Upkeep:
    """Implements `RetentionStore` and `BacklogStore` with the threads of a store."""

    def __init__(self, writer: Writer, readers: Readers, *, tally: Tally) -> None:
        self._writer = writer
        self._readers = readers
        self._tally = tally

    async def find_expired(
        self, kind: Prunable, *, after: int, retention: Retention, now: datetime
    ) -> Expired:
        """Find what is kept no longer."""
        return await self._readers.run(
            find_expired, kind, after=after, retention=retention, now=now
        )

    async def prune(
        self, kind: Prunable, rows: Sequence[int], *, retention: Retention, now: datetime
    ) -> int:
        """Remove what is kept no longer; return how many of these rows that were."""
        call = PruneCall(kind=kind, rows=rows, retention=retention, now=now)
        return await self._writer.submit(_PRUNE, call, content_bytes=len(rows) * _ROW_BYTES)

    async def lanes_over(self, limit: int) -> Mapping[LaneId, int]:
        """Return lanes in which too much waits, each with the surplus."""
        pending = self._tally.pending.copy()
        return {LaneId(lane): count - limit for lane, count in pending.items() if count > limit}

    async def find_surplus(
        self, *, after: int, over: Mapping[LaneId, int], stopped_before: datetime
    ) -> Surplus:
        """Find deliveries that must give way, the oldest first."""
        return await self._readers.run(
            find_surplus, after=after, over=over, stopped_before=stopped_before
        )

    async def give_up(self, keys: Sequence[DeliveryKey], *, now: datetime) -> GivenUp:
        """End deliveries that wait as FAILED for BACKLOG."""
        call = GiveUpCall(keys=keys, now=now)
        return await self._writer.submit(_GIVE_UP, call, content_bytes=len(keys) * _ROW_BYTES)
