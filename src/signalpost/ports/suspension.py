"""What suspending a subscription asks of the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from signalpost.domain.event import Event
from signalpost.domain.ids import SubscriptionId
from signalpost.domain.lane import Lane
from signalpost.domain.suspension import Suspension
from signalpost.ports import AttemptRecord, Recorded

Announce = Callable[[SubscriptionId, int], Event]
"""Makes the event that tells of it from the subscription and how many deliveries it holds."""


@dataclass(frozen=True, slots=True)
class Suspended:
    """What became of a record and of a suspension.

    `lanes` are those that got a delivery of the event. None in place of `subscription_id`: the
    subscription was changed, stopped or deleted since the attempt was begun, and is let be.
    """

    recorded: Recorded | None
    subscription_id: SubscriptionId | None = None
    lanes: tuple[Lane, ...] = ()


class SuspensionStore(Protocol):
    """Suspends subscriptions."""

    async def suspend(
        self, record: AttemptRecord, suspension: Suspension, *, announce: Announce, now: datetime
    ) -> Suspended:
        """Store an attempt as `record` does, suspend its subscription, and store the event.

        All of it in one transaction; what was learned of the endpoint is forgotten. The event
        never goes to the subscription itself. Repeating after StorageUnavailable is safe.
        """
        ...
