"""What the limiter of `delivery` asks of the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from signalpost.domain.ids import DeliveryKey, LaneId
from signalpost.domain.lane import Lane


@dataclass(frozen=True, slots=True)
class Surplus:
    """Deliveries that must give way, with their lanes, up to the row `reached`.

    `more` says whether there may be further ones behind it.
    """

    items: Sequence[tuple[LaneId, DeliveryKey]]
    reached: int
    more: bool


@dataclass(frozen=True, slots=True)
class GivenUp:
    """How many deliveries ended, and the active lanes in which others may go instead."""

    count: int
    lanes: Sequence[Lane]


class BacklogStore(Protocol):
    """Keeps lanes from holding too much, or for too long."""

    async def lanes_over(self, limit: int) -> Mapping[LaneId, int]:
        """Return lanes in which more than `limit` deliveries are pending, with the surplus."""
        ...

    async def find_surplus(
        self, *, after: int, over: Mapping[LaneId, int], stopped_before: datetime
    ) -> Surplus:
        """Find deliveries that must give way, the oldest first, behind the row `after`.

        As many of each lane as `over` says, and those that were accepted before `stopped_before`
        in lanes that are paused or suspended since then. Looks at a bounded number of rows, and
        finds few.
        """
        ...

    async def give_up(self, keys: Sequence[DeliveryKey], *, now: datetime) -> GivenUp:
        """End deliveries as FAILED for BACKLOG; those that do not wait stay as they are."""
        ...
