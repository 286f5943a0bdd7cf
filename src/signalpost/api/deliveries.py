"""DeliveryService: shows deliveries."""

from __future__ import annotations

from functools import partial

from signalpost.api.boundary import Context
from signalpost.api.checks import demand
from signalpost.api.convert_deliveries import delivery_message
from signalpost.api.convert_events import event_filter, listed_tenant
from signalpost.api.convert_times import moment
from signalpost.api.paging import Pager, fitting
from signalpost.domain.delivery import DeliveryState
from signalpost.domain.errors import NotFound
from signalpost.domain.ids import EventId, SubscriptionId, delivery_key
from signalpost.ports import DeliveryQuery, DeliveryReader
from signalpost.v1.delivery_service_pb2 import (
    GetDeliveryRequest,
    GetDeliveryResponse,
    ListDeliveriesRequest,
    ListDeliveriesResponse,
)


class DeliveryServicer:
    """Gets and lists deliveries."""

    def __init__(self, deliveries: DeliveryReader, *, pager: Pager) -> None:
        self._deliveries = deliveries
        self._pager = pager

    async def GetDelivery(self, request: GetDeliveryRequest, _: Context) -> GetDeliveryResponse:
        """Show a delivery with its attempts."""
        demand(request)
        key = delivery_key(request.delivery_id)
        if key is None:
            raise NotFound("delivery", request.delivery_id)
        delivery = await self._deliveries.get_delivery(key)
        return GetDeliveryResponse(delivery=delivery_message(delivery, with_attempts=True))

    async def ListDeliveries(
        self, request: ListDeliveriesRequest, _: Context
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
