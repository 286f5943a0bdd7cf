"""DeliveryService: shows and streams deliveries, repairs and counts them."""

from __future__ import annotations

from functools import partial

from signalpost.api.boundary import Call, Respond
from signalpost.api.checks import demand
from signalpost.api.convert_deliveries import delivery_message
from signalpost.api.convert_events import event_filter, listed_tenant
from signalpost.api.convert_statistics import statistics_message
from signalpost.api.convert_times import instant, moment, span
from signalpost.api.delivery_streams import DeliveryStreams
from signalpost.api.paging import Pager, fitting
from signalpost.delivery.statistics import Statistics
from signalpost.domain.delivery import DeliveryState
from signalpost.domain.errors import NotFound
from signalpost.domain.ids import DeliveryKey, EventId, SubscriptionId, TenantId, delivery_key
from signalpost.domain.replay import ReplayOrder, ReplayScope
from signalpost.domain.statistics import DEFAULT_PERIOD
from signalpost.ports import DeliveryQuery, DeliveryReader
from signalpost.ports.statistics import StatisticsQuery
from signalpost.publishing.repair import Repairer
from signalpost.publishing.replay import Replayer
from signalpost.v1.delivery_service_pb2 import (
    CancelDeliveriesRequest,
    CancelDeliveriesResponse,
    GetDeliveryRequest,
    GetDeliveryResponse,
    GetDeliveryStatsRequest,
    GetDeliveryStatsResponse,
    ListDeliveriesRequest,
    ListDeliveriesResponse,
    ReplayDeliveriesRequest,
    ReplayDeliveriesResponse,
    RetryDeliveryRequest,
    RetryDeliveryResponse,
    WatchDeliveriesRequest,
    WatchDeliveriesResponse,
)


class DeliveryServicer:
    """Gets, lists, streams, retries, replays, cancels and counts deliveries."""

    def __init__(
        self,
        deliveries: DeliveryReader,
        *,
        streams: DeliveryStreams,
        repairer: Repairer,
        replayer: Replayer,
        statistics: Statistics,
        pager: Pager,
    ) -> None:
        self._deliveries = deliveries
        self._streams = streams
        self._repairer = repairer
        self._replayer = replayer
        self._statistics = statistics
        self._pager = pager

    async def GetDelivery(self, request: GetDeliveryRequest, _: Call) -> GetDeliveryResponse:
        """Show a delivery with its attempts."""
        demand(request)
        delivery = await self._deliveries.get_delivery(_key(request.delivery_id))
        return GetDeliveryResponse(delivery=delivery_message(delivery, with_attempts=True))

    async def ListDeliveries(
        self, request: ListDeliveriesRequest, _: Call
    ) -> ListDeliveriesResponse:
        """Show a page of deliveries."""
        demand(request)
        subscription_id, event_id = request.subscription_id, request.event_id
        query = DeliveryQuery(
            tenant_id=listed_tenant(request.tenant_id),
            subscription_id=SubscriptionId(subscription_id) if subscription_id else None,
            event_id=EventId(event_id) if event_id else None,
            states=frozenset(DeliveryState(number) for number in request.states),
            filter=event_filter(request.filter),
            start=moment(request, "start_time"),
            end=moment(request, "end_time"),
        )

        shown, next_after = await fitting(
            self._pager.page(request),
            partial(self._deliveries.list_deliveries, query),
            partial(delivery_message, with_attempts=False),
        )
        token = self._pager.token(request, next_after)
        return ListDeliveriesResponse(deliveries=shown, next_page_token=token)

    async def WatchDeliveries(
        self,
        request: WatchDeliveriesRequest,
        respond: Respond[WatchDeliveriesResponse],
        _: Call,
    ) -> None:
        """Send deliveries as they change."""
        demand(request)
        await self._streams.run(request, respond)

    async def RetryDelivery(self, request: RetryDeliveryRequest, _: Call) -> RetryDeliveryResponse:
        """Attempt a delivery now."""
        demand(request)
        delivery = await self._repairer.retry(_key(request.delivery_id))
        return RetryDeliveryResponse(delivery=delivery_message(delivery, with_attempts=False))

    async def ReplayDeliveries(
        self, request: ReplayDeliveriesRequest, _: Call
    ) -> ReplayDeliveriesResponse:
        """Queue deliveries of stored events again, or only count them."""
        order = _order(request)
        if request.validate_only:
            count = await self._replayer.count(order)
        else:
            request_id = request.request_id.lower() or None
            count = await self._replayer.replay(order, request_id=request_id)
        return ReplayDeliveriesResponse(delivery_count=count)

    async def CancelDeliveries(
        self, request: CancelDeliveriesRequest, _: Call
    ) -> CancelDeliveriesResponse:
        """Cancel pending deliveries, or only count them."""
        demand(request)
        canceled = await self._repairer.cancel(
            TenantId(request.tenant_id),
            SubscriptionId(request.subscription_id),
            chosen=event_filter(request.filter),
            end=moment(request, "end_time"),
            validate_only=request.validate_only,
        )
        return CancelDeliveriesResponse(
            delivery_count=canceled.waiting, under_way_count=canceled.under_way
        )

    async def GetDeliveryStats(
        self, request: GetDeliveryStatsRequest, _: Call
    ) -> GetDeliveryStatsResponse:
        """Count what became of deliveries, and what waits."""
        demand(request)
        subscription_id = request.subscription_id
        query = StatisticsQuery(
            tenant_id=listed_tenant(request.tenant_id),
            subscription_id=SubscriptionId(subscription_id) if subscription_id else None,
        )
        period = span(request, "period", default=DEFAULT_PERIOD)
        return statistics_message(await self._statistics.of(query, period=period))


def _key(name: str) -> DeliveryKey:
    key = delivery_key(name)
    if key is None:
        raise NotFound("delivery", name)
    return key


def _order(request: ReplayDeliveriesRequest) -> ReplayOrder:
    demand(request)
    return ReplayOrder(
        tenant_id=TenantId(request.tenant_id),
        subscription_id=SubscriptionId(request.subscription_id),
        scope=ReplayScope(int(request.scope)) if request.scope else ReplayScope.FAILED,
        filter=event_filter(request.filter),
        start=instant(request, "start_time"),
        end=moment(request, "end_time"),
    )
