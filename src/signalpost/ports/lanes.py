"""Lanes between those who fill them, their home and the store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from signalpost.domain.ids import LaneId
from signalpost.domain.lane import Lane
from signalpost.domain.pace import Pace


class LaneNotices(Protocol):
    """Tells the delivery side that there is something to do. A lost notice costs one rescan."""

    def notice(self, lanes: Iterable[Lane], *, due: datetime) -> None:
        """Say that each lane holds a delivery that is due at `due` or before."""
        ...

    def hasten(self, lane: Lane, *, due: datetime) -> None:
        """Say that somebody wants an attempt on a lane at `due`, although its endpoint fails."""
        ...

    def resume(self, lane: Lane, *, due: datetime) -> None:
        """Say that a lane that was stopped may go on, slowly at first."""
        ...

    def forget(self, lane_id: LaneId) -> None:
        """Say that nothing more may go on this lane until there is a notice of it again."""
        ...


@dataclass(frozen=True, slots=True)
class Backlog:
    """A lane with something waiting, and when the first of it is due."""

    lane: Lane
    due: datetime


@dataclass(frozen=True, slots=True)
class Paced:
    """A lane of whose endpoint something was learned."""

    lane: Lane
    pace: Pace


@dataclass(frozen=True, slots=True)
class Pick:
    """Up to this many deliveries of this lane, of which so many may be replays.

    Replays may be more where live ones, those that no replay put in the queue, do not need
    the room.
    """

    lane_id: LaneId
    count: int
    replays: int = 0
