"""Lanes that may go, in turn: tenants first, then the lanes of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from signalpost.domain.ids import LaneId

T = TypeVar("T", bound=Hashable)


class Ring(Generic[T]):
    """Round robin over tenants, or parties of another kind, and over the lanes of each."""

    def __init__(self) -> None:
        self._parties: deque[T] = deque()
        self._lanes: dict[T, deque[LaneId]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, party: T, lane_id: LaneId) -> None:
        """Let a lane have the last turn of its party."""
        lanes = self._lanes.get(party)
        if lanes is None:
            lanes = self._lanes[party] = deque()
            self._parties.append(party)
        lanes.append(lane_id)
        self._count += 1

    def take(self) -> LaneId:
        """Return the lane whose turn it is; its party then is the last."""
        party = self._parties.popleft()
        lanes = self._lanes[party]
        lane_id = lanes.popleft()
        if lanes:
            self._parties.append(party)
        else:
            del self._lanes[party]
        self._count -= 1
        return lane_id
