"""For statistics: what the store counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from signalpost.domain.ids import LaneId, SubscriptionId, TenantId
from signalpost.domain.statistics import Ended
from signalpost.domain.subscription import State


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticsQuery:
    """Whose deliveries to count; None means those of all."""

    tenant_id: TenantId | None
    subscription_id: SubscriptionId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingLane:
    """A lane in which something waits or is under way.

    `first_due` is when the first delivery that waits is due, None if all are under way.
    """

    lane_id: LaneId
    state: State
    deliveries: int
    first_due: datetime | None


class StatisticsStore(Protocol):
    """Counts. Whatever ends a delivery or an attempt counts it in the same transaction."""

    async def count_ended(self, query: StatisticsQuery, *, start: datetime, end: datetime) -> Ended:
        """Count what ended from the stretch of `start` to that of `end`, both included whole.

        Deleted subscriptions count, too. Raises NotFound if none has this ID.
        """
        ...

    async def waiting(self, query: StatisticsQuery) -> Sequence[WaitingLane]:
        """Return the lanes in which something waits, but for those of deleted subscriptions.

        The cost does not depend on how much waits in them.
        """
        ...

    async def oldest_pending(self, query: StatisticsQuery) -> datetime | None:
        """Return when the oldest delivery that waits or is under way was queued."""
        ...

    async def count_subscriptions(self) -> Mapping[State, int]:
        """Count the subscriptions in each state."""
        ...

    async def prune_statistics(self, *, before: datetime, limit: int) -> int:
        """Remove up to `limit` counts of stretches that ended before this time.

        Return how many; fewer than `limit` means that none is left.
        """
        ...
