"""Follows the changes of deliveries for one client."""

from __future__ import annotations

from functools import partial

from signalpost.api.boundary import Respond
from signalpost.api.convert_deliveries import delivery_message
from signalpost.api.convert_events import listed_tenant
from signalpost.api.watching import Pulse, Watchers, shown
from signalpost.domain.delivery import DeliveryState
from signalpost.domain.ids import SubscriptionId
from signalpost.ports.watching import ChangeQuery, DeliveryChanges
from signalpost.v1.delivery_service_pb2 import WatchDeliveriesRequest, WatchDeliveriesResponse

_MOST_AT_ONCE = 100

_show = partial(delivery_message, with_attempts=False)


class DeliveryStreams:
    """Streams of deliveries as they change."""

    def __init__(self, changes: DeliveryChanges, *, watchers: Watchers) -> None:
        self._changes = changes
        self._watchers = watchers

    async def run(
        self, request: WatchDeliveriesRequest, respond: Respond[WatchDeliveriesResponse]
    ) -> None:
        """Send what a checked request asks for, until cancelled. Raises QuotaExceeded."""
        query = ChangeQuery(
            tenant_id=listed_tenant(request.tenant_id),
            subscription_id=SubscriptionId(request.subscription_id) or None,
            states=frozenset(DeliveryState(number) for number in request.states),
        )
        with self._watchers.join(request.tenant_id):
            async with self._changes.watch_deliveries(query) as feed:
                pulse = Pulse(self._watchers.keep_alive)
                while True:
                    async with self._watchers.turn:
                        changes = await feed.take(limit=_MOST_AT_ONCE)
                        deliveries = await shown(changes.deliveries, _show)
                    if deliveries or changes.skipped or pulse.is_due:
                        response = WatchDeliveriesResponse(
                            deliveries=deliveries, skipped_count=changes.skipped
                        )
                        await respond(response)
                        pulse.beat()
                    await pulse.wait(feed.wait)
