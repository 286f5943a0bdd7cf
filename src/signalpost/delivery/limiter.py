"""Ends the oldest deliveries of lanes that hold too much, or stand still for too long."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import timedelta
from typing import Final

from signalpost.delivery.upkeep import keep_up
from signalpost.domain.ids import LaneId
from signalpost.domain.lane import LONGEST_STOP
from signalpost.ports import Clock, LaneNotices
from signalpost.ports.backlog import BacklogStore

_logger: Final = logging.getLogger(__name__)


class Limiter:
    """Looks once a minute whether a lane holds more than `limit`, or stands for 30 days.

    It follows the queue from its oldest row, a small stretch at a time, until all that must
    give way is ended.
    """

    def __init__(
        self, store: BacklogStore, *, lanes: LaneNotices, clock: Clock, limit: int
    ) -> None:
        self._store = store
        self._lanes = lanes
        self._clock = clock
        self._limit = limit
        self._over: Counter[LaneId] = Counter()
        self._after = 0
        self._in_round = False
        self._ended: Counter[LaneId] = Counter()

    async def run(self, *, hold: timedelta) -> None:
        """Keep lanes within their limits for ever, once `hold` is over."""
        await keep_up(self.run_once, hold=hold)

    async def run_once(self) -> bool:
        """Count or, in the midst of a round, end the next ones; tell whether it goes on."""
        if not self._in_round:
            self._over = Counter(await self._store.lanes_over(self._limit))
            self._after, self._in_round = 0, True
        now = self._clock.now()
        found = await self._store.find_surplus(
            after=self._after, over=+self._over, stopped_before=now - LONGEST_STOP
        )
        if found.items:
            given_up = await self._store.give_up([key for _, key in found.items], now=now)
            self._lanes.notice(given_up.lanes, due=now)
            of_lanes = Counter(lane_id for lane_id, _ in found.items)
            self._over -= of_lanes
            self._ended += of_lanes
        self._after, self._in_round = found.reached, found.more
        if not found.more:
            self._end_round()
        return found.more

    def _end_round(self) -> None:
        for lane_id, count in self._ended.items():
            _logger.warning(
                "gave up the oldest deliveries of a lane that holds too much or stands too long",
                extra={"lane": lane_id, "count": count},
            )
        self._ended.clear()
