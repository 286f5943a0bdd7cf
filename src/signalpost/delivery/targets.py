"""What attempts need to know of subscriptions, kept as long as it is current."""

from __future__ import annotations

from collections import OrderedDict

from signalpost.delivery.patience import patiently
from signalpost.domain.delivery import Lease
from signalpost.domain.ids import LaneId
from signalpost.domain.subscription import Subscription
from signalpost.ports import DeliveryQueue

_MOST_KEPT = 10_000


class Targets:
    """Keeps the subscriptions used last; a lease says which version is current."""

    def __init__(self, queue: DeliveryQueue) -> None:
        self._queue = queue
        self._kept: OrderedDict[LaneId, Subscription] = OrderedDict()

    async def of(self, lease: Lease) -> Subscription:
        """Return the subscription of a lease. Raises what `subscription_of` raises."""
        kept = self._kept.get(lease.lane_id)
        if kept is not None and kept.version >= lease.subscription_version:
            self._kept.move_to_end(lease.lane_id)
            return kept
        self._kept.pop(lease.lane_id, None)
        current = await patiently(lambda: self._queue.subscription_of(lease.lane_id))
        self._kept[lease.lane_id] = current
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return current
