"""What the store does for repairs: retries, replays and cancellations."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from signalpost.domain.ids import DeliveryKey, ReplayKey, SubscriptionId, TenantId
from signalpost.domain.lane import Lane
from signalpost.domain.replay import Replay, ReplayOrder
from signalpost.ports.repair import Canceled, PendingPage, PendingQuery, Replayed, ReplayPage
from signalpost.store import replays
from signalpost.store.cancellation import CancelCall, cancel, find_pending
from signalpost.store.readers import Readers
from signalpost.store.reopening import RetryCall, retry
from signalpost.store.replayable import find_replayable
from signalpost.store.row_numbers import RowNumbers
from signalpost.store.writer import Writer, one_by_one

_ROW_BYTES = 1024

_RETRY = one_by_one(retry, before_commit="retry.before_commit", can_wait=True)
_CANCEL = one_by_one(cancel, before_commit="cancel.before_commit")
_BEGIN = one_by_one(replays.begin, can_wait=True)
_STOP = one_by_one(replays.stop)
_END = one_by_one(replays.end)


class Repairs:
    """Implements `RepairStore` and `ReplayStore` with the threads of a store."""

    def __init__(self, writer: Writer, readers: Readers, *, numbers: RowNumbers) -> None:
        self._writer = writer
        self._readers = readers
        self._queue_page = one_by_one(
            partial(replays.queue_page, numbers=numbers),
            before_commit="replay.before_commit",
            after_commit="replay.after_commit",
            can_wait=True,
        )

    async def retry(self, key: DeliveryKey, *, now: datetime) -> Lane | None:
        """Make a delivery due now. Raises NotFound, StateInvalid."""
        return await self._writer.submit(_RETRY, RetryCall(key=key, now=now))

    async def find_pending(self, query: PendingQuery, *, after: str | None) -> PendingPage:
        """Return a page of what may be canceled. Raises NotFound."""
        return await self._readers.run(find_pending, query, after)

    async def cancel(self, keys: Sequence[DeliveryKey], *, now: datetime) -> Canceled:
        """End deliveries as CANCELED, those under way later."""
        call = CancelCall(keys=keys, now=now)
        return await self._writer.submit(_CANCEL, call, content_bytes=_ROW_BYTES * len(keys))

    async def stop_replay(
        self, tenant_id: TenantId, subscription_id: SubscriptionId, *, now: datetime
    ) -> None:
        """End the replay of a subscription that is running. Raises NotFound."""
        call = replays.StopCall(tenant_id=tenant_id, subscription_id=subscription_id, now=now)
        await self._writer.submit(_STOP, call)

    async def begin_replay(
        self, order: ReplayOrder, *, request_id: str | None, now: datetime
    ) -> Replay:
        """Store a replay, or find it. Raises NotFound, RequestIdConflict, StateInvalid."""
        call = replays.BeginCall(order=order, request_id=request_id, now=now)
        return await self._writer.submit(_BEGIN, call)

    async def get_replay(self, key: ReplayKey) -> Replay:
        """Return a replay. Raises NotFound."""
        return await self._readers.run(replays.get, key)

    async def running_replays(self) -> Sequence[Replay]:
        """Return the replays that are not worked off."""
        return await self._readers.run(replays.running)

    async def find_replayable(
        self, order: ReplayOrder, *, after: int | None, limit: int, now: datetime
    ) -> ReplayPage:
        """Return a page of what a replay is to deliver again. Raises NotFound."""
        return await self._readers.run(find_replayable, order, after=after, limit=limit, now=now)

    async def queue_page(self, replay: Replay, page: ReplayPage, *, now: datetime) -> Replayed:
        """Queue a page and move the replay."""
        call = replays.PageCall(replay=replay, page=page, now=now)
        content_bytes = _ROW_BYTES * len(page.items)
        return await self._writer.submit(self._queue_page, call, content_bytes=content_bytes)

    async def end_replay(self, key: ReplayKey, *, now: datetime) -> None:
        """End a replay where it is."""
        await self._writer.submit(_END, replays.EndCall(key=key, now=now))
