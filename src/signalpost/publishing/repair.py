"""Letting single deliveries go again, and ending those that nobody wants any more."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Final

from signalpost.domain.delivery import Delivery
from signalpost.domain.filter import EventFilter
from signalpost.domain.ids import DeliveryKey, SubscriptionId, TenantId, delivery_id
from signalpost.ports import Clock, DeliveryReader, LaneNotices
from signalpost.ports.repair import Canceled, PendingPage, PendingQuery, RepairStore

_CHUNK: Final = 200
"""Deliveries that one transaction cancels at most: they keep the writer for milliseconds."""

_MOST_PASSES: Final = 10

_logger: Final = logging.getLogger(__name__)


class Repairer:
    """Retries and cancels deliveries, and tells their lanes."""

    def __init__(
        self, store: RepairStore, *, deliveries: DeliveryReader, lanes: LaneNotices, clock: Clock
    ) -> None:
        self._store = store
        self._deliveries = deliveries
        self._lanes = lanes
        self._clock = clock

    async def retry(self, key: DeliveryKey) -> Delivery:
        """Make a delivery due now; one that had ended is pending again. One under way stays.

        Raises NotFound, StateInvalid.
        """
        now = self._clock.now()
        lane = await self._store.retry(key, now=now)
        if lane is not None:
            self._lanes.hasten(lane, due=now)
        _logger.info("delivery retried", extra={"delivery_id": delivery_id(key)})
        return await self._deliveries.get_delivery(key)

    async def cancel(
        self,
        tenant_id: TenantId,
        subscription_id: SubscriptionId,
        *,
        chosen: EventFilter,
        end: datetime | None,
        validate_only: bool,
    ) -> Canceled:
        """End pending deliveries of chosen events that were queued before `end`, or count them.

        A replay that is still queueing ends, too. What is canceled stays so if this is
        interrupted. Raises NotFound.
        """
        now = self._clock.now()
        query = PendingQuery(
            tenant_id=tenant_id, subscription_id=subscription_id, filter=chosen, end=end or now
        )
        if validate_only:
            return await self._pass(query, cancel=False)
        await self._store.stop_replay(tenant_id, subscription_id, now=now)
        total = Canceled(0, 0)
        for _ in range(_MOST_PASSES):
            # A delivery that was attempted meanwhile may have gone past.
            found = await self._pass(query, cancel=True)
            total = _sum(total, found)
            if found == Canceled(0, 0):
                break
        _log(query, total)
        return total

    async def _pass(self, query: PendingQuery, *, cancel: bool) -> Canceled:
        total, after = Canceled(0, 0), None
        while True:
            page = await self._store.find_pending(query, after=after)
            found = await self._cancel(page) if cancel else _counted(page)
            total, after = _sum(total, found), page.next_after
            if after is None:
                return total

    async def _cancel(self, page: PendingPage) -> Canceled:
        total, keys = Canceled(0, 0), [*page.under_way, *page.waiting]
        now = self._clock.now()
        for start in range(0, len(keys), _CHUNK):
            found = await self._store.cancel(keys[start : start + _CHUNK], now=now)
            total = _sum(total, found)
        if total.waiting and page.lane is not None:
            # What stood in line behind them may go.
            self._lanes.notice([page.lane], due=now)
        return total


def _counted(page: PendingPage) -> Canceled:
    return Canceled(len(page.waiting), len(page.under_way))


def _sum(one: Canceled, other: Canceled) -> Canceled:
    return Canceled(one.waiting + other.waiting, one.under_way + other.under_way)


def _log(query: PendingQuery, total: Canceled) -> None:
    _logger.info(
        "deliveries canceled",
        extra={
            "tenant_id": query.tenant_id,
            "subscription_id": query.subscription_id,
            "canceled": total.waiting,
            "under_way": total.under_way,
        },
    )
