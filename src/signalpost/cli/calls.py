"""The gRPC calls of the demonstration, as any client of the service would make them."""

from __future__ import annotations

from collections.abc import Sequence

import grpc.aio
from google.protobuf.duration_pb2 import Duration

from signalpost.v1.delivery_pb2 import Delivery
from signalpost.v1.delivery_service_pb2 import GetDeliveryRequest, ListDeliveriesRequest
from signalpost.v1.delivery_service_pb2_grpc import DeliveryServiceStub
from signalpost.v1.event_pb2 import Event
from signalpost.v1.event_service_pb2 import PublishRequest
from signalpost.v1.event_service_pb2_grpc import EventServiceStub
from signalpost.v1.subscription_pb2 import RetryPolicy, Subscription
from signalpost.v1.subscription_service_pb2 import CreateSubscriptionRequest
from signalpost.v1.subscription_service_pb2_grpc import SubscriptionServiceStub

SUBSCRIPTION_ID = "demo"
MAX_ATTEMPTS = 4
_TIMEOUT_SECONDS = 20.0
_PAGE_SIZE = 100


class Calls:
    """Speaks to one server. Every method may raise `grpc.aio.AioRpcError`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._events = EventServiceStub(channel)
        self._subscriptions = SubscriptionServiceStub(channel)
        self._deliveries = DeliveryServiceStub(channel)

    async def subscribe(self, endpoint_uri: str) -> str:
        """Send all events to this endpoint, with short retries; return the signing secret."""
        request = CreateSubscriptionRequest(
            subscription=Subscription(
                subscription_id=SUBSCRIPTION_ID,
                display_name="Demonstration",
                endpoint_uri=endpoint_uri,
                retry_policy=RetryPolicy(
                    max_attempts=MAX_ATTEMPTS,
                    min_backoff=Duration(seconds=1),
                    backoff_multiplier=1.5,
                ),
            )
        )
        response = await self._subscriptions.CreateSubscription(request, timeout=_TIMEOUT_SECONDS)
        return response.secret

    async def publish(self, event: Event) -> str:
        """Publish an event; return the ID that the server gave it."""
        request = PublishRequest(events=[event])
        response = await self._events.Publish(request, timeout=_TIMEOUT_SECONDS)
        return response.results[0].event_id

    async def deliveries(self) -> Sequence[Delivery]:
        """Return the newest deliveries, each with its last attempt."""
        request = ListDeliveriesRequest(subscription_id=SUBSCRIPTION_ID, page_size=_PAGE_SIZE)
        response = await self._deliveries.ListDeliveries(request, timeout=_TIMEOUT_SECONDS)
        return response.deliveries

    async def delivery(self, delivery_id: str) -> Delivery:
        """Return a delivery with all its attempts."""
        request = GetDeliveryRequest(delivery_id=delivery_id)
        response = await self._deliveries.GetDelivery(request, timeout=_TIMEOUT_SECONDS)
        return response.delivery
