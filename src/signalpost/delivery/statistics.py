"""What became of deliveries, and what still waits, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol, assert_never

from signalpost.domain.ids import LaneId
from signalpost.domain.statistics import Condition, Ended, Overview, Waiting, bucket_start
from signalpost.domain.subscription import State
from signalpost.ports import Clock
from signalpost.ports.statistics import StatisticsQuery, StatisticsStore, WaitingLane

_ALL: Final = StatisticsQuery(tenant_id=None)


class Throttling(Protocol):
    """Knows which lanes are held back by their limits or their endpoints."""

    def is_throttled(self, lane_id: LaneId, *, now: datetime) -> bool:
        """Tell whether nothing of a lane may go now, even if it is due."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryStatistics:
    """What `ended` from `start` to `end`, and what waits at the end.

    `oldest_pending` is when the oldest delivery that waits was queued, None if none does.
    """

    start: datetime
    end: datetime
    ended: Ended
    waiting: Mapping[Condition, Waiting]
    oldest_pending: datetime | None


class Statistics:
    """Puts together what the store counts and what the lanes know."""

    def __init__(self, store: StatisticsStore, *, lanes: Throttling, clock: Clock) -> None:
        self._store = store
        self._lanes = lanes
        self._clock = clock

    async def of(self, query: StatisticsQuery, *, period: timedelta) -> DeliveryStatistics:
        """Count what ended in the last period, which begins at full five minutes, and what waits.

        Raises NotFound if no subscription has the ID that the query names.
        """
        now = self._clock.now()
        start = bucket_start(now - period)
        return DeliveryStatistics(
            start=start,
            end=now,
            ended=await self._store.count_ended(query, start=start, end=now),
            waiting=await self._waiting(query, now=now),
            oldest_pending=await self._store.oldest_pending(query),
        )

    async def overview(self) -> Overview:
        """Tell what waits, and count the subscriptions; one in which nothing waits flows."""
        now = self._clock.now()
        waiting = await self._waiting(_ALL, now=now)
        states = await self._store.count_subscriptions()
        throttled = waiting[Condition.THROTTLED].subscriptions
        subscriptions = {
            Condition.FLOWING: max(0, states[State.ACTIVE] - throttled),
            Condition.THROTTLED: throttled,
            Condition.PAUSED: states[State.PAUSED],
            Condition.SUSPENDED: states[State.SUSPENDED],
        }
        return Overview(time=now, waiting=waiting, subscriptions=subscriptions)

    async def _waiting(
        self, query: StatisticsQuery, *, now: datetime
    ) -> Mapping[Condition, Waiting]:
        found = dict.fromkeys(Condition, Waiting())
        for lane in await self._store.waiting(query):
            found[self._condition(lane, now=now)] += _waiting(lane, now=now)
        return found

    def _condition(self, lane: WaitingLane, *, now: datetime) -> Condition:
        match lane.state:
            case State.PAUSED:
                return Condition.PAUSED
            case State.SUSPENDED:
                return Condition.SUSPENDED
            case State.ACTIVE:
                throttled = self._lanes.is_throttled(lane.lane_id, now=now)
                return Condition.THROTTLED if throttled else Condition.FLOWING
            case _:
                assert_never(lane.state)


def _waiting(lane: WaitingLane, *, now: datetime) -> Waiting:
    due = lane.first_due if lane.first_due is not None and lane.first_due <= now else None
    return Waiting(deliveries=lane.deliveries, subscriptions=1, oldest_due=due)
