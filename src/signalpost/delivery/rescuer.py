"""Takes back what a crash, a lost hint or a deletion that was cut short left lying."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta

from signalpost.delivery.lanes import LaneHome
from signalpost.delivery.patience import patiently
from signalpost.domain.ids import LaneId
from signalpost.domain.lane import Lane
from signalpost.domain.pace import after_restart
from signalpost.ports import Clock, DeliveryQueue, SubscriptionStore

_PERIOD = timedelta(seconds=5)
_ROUNDS_PER_RESCAN = 12
_CHUNK = 500
_CHUNKS_A_ROUND = 20

_logger = logging.getLogger(__name__)


class Rescuer:
    """Looks for expired leases every 5 seconds, and for lost hints once a minute."""

    def __init__(
        self,
        *,
        queue: DeliveryQueue,
        subscriptions: SubscriptionStore,
        lanes: LaneHome,
        clock: Clock,
    ) -> None:
        self._queue = queue
        self._subscriptions = subscriptions
        self._lanes = lanes
        self._clock = clock

    async def start(self) -> None:
        """Take up what a former process had in flight, and learn what waits."""
        taken_up = await self._queue.recover(now=self._clock.now())
        if taken_up:
            _logger.warning("took up %d deliveries that were in flight", taken_up)
        self._lanes.begin(now=self._clock.now())
        for known in await self._queue.paces():
            self._lanes.restore(known.lane, after_restart(known.pace, now=self._clock.now()))
        backlogs = await self._queue.backlogs()
        if backlogs:
            self._lanes.climb(now=self._clock.now())
        for backlog in backlogs:
            self._lanes.resume(backlog.lane, due=backlog.due)

    async def run(self) -> None:
        """Rescue for ever."""
        while True:
            for _ in range(_ROUNDS_PER_RESCAN):
                await asyncio.sleep(_PERIOD.total_seconds())
                await patiently(self.run_once)
            await patiently(self.rescan)

    async def run_once(self) -> None:
        """Take expired leases back, and finish deletions and changes of order."""
        now = self._clock.now()
        lanes = await self._queue.rescue(now=now, limit=_CHUNK)
        if lanes:
            _logger.warning("took back expired leases of %d lanes", len(lanes))
            self._lanes.notice(lanes, due=now)
        for lane_id in await self._queue.deleted_lanes():
            await self._cancel(lane_id, now=now)
        for lane in await self._queue.unarranged_lanes():
            await self._arrange(lane)

    async def _cancel(self, lane_id: LaneId, *, now: datetime) -> None:
        """Cancel what waits in a lane, or as much of it as takes about a second."""
        for _ in range(_CHUNKS_A_ROUND):
            if await self._subscriptions.cancel_waiting(lane_id, limit=_CHUNK, now=now) < _CHUNK:
                return

    async def _arrange(self, lane: Lane) -> None:
        after: str | None = ""
        while after is not None:
            after = await self._subscriptions.arrange(
                lane.lane_id, after=after, limit=_CHUNK, now=self._clock.now()
            )
        self._lanes.notice([lane], due=self._clock.now())

    async def rescan(self) -> None:
        """Learn from the store of everything that waits, and let others go on in between."""
        for number, backlog in enumerate(await self._queue.backlogs(), start=1):
            self._lanes.notice([backlog.lane], due=backlog.due)
            if number % _CHUNK == 0:
                await asyncio.sleep(0)
