"""When each lane is to be looked at again."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from signalpost.domain.ids import LaneId

_FEW: Final = 64


class Alarms:
    """One time for each lane, the earliest that was set since the last one came.

    A time that gives way to an earlier one stays in the heap for now. A lane with a retry in
    some hours and much that goes before it sets that time again and again, so those that gave
    way go all at once when they are the most.
    """

    def __init__(self) -> None:
        self._times: dict[LaneId, datetime] = {}
        self._heap: list[tuple[datetime, LaneId]] = []

    def set(self, lane_id: LaneId, at: datetime) -> None:
        """See to it that a lane is looked at then, or before."""
        former = self._times.get(lane_id)
        if former is not None and former <= at:
            return
        self._times[lane_id] = at
        heapq.heappush(self._heap, (at, lane_id))
        if len(self._heap) > 2 * len(self._times) + _FEW:
            self._heap = [(time, one) for one, time in self._times.items()]
            heapq.heapify(self._heap)

    def due(self, now: datetime) -> Iterator[LaneId]:
        """Return each lane whose time has come, also of those that are set meanwhile."""
        while self._heap and self._heap[0][0] <= now:
            at, lane_id = heapq.heappop(self._heap)
            if self._times.get(lane_id) == at:
                del self._times[lane_id]
                yield lane_id

    @property
    def next(self) -> datetime | None:
        """When to look again, None if no time is set. Nothing may be due by then."""
        return self._heap[0][0] if self._heap else None

    def __len__(self) -> int:
        return len(self._heap)
