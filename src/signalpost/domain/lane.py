"""The queue of one subscription: how many deliveries may go, and when to look again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from signalpost.domain.ids import LaneId, TenantId

REPLAY_TURN: Final = 5
"""While live deliveries wait, every so manieth that a lane starts may be a replay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneFacts:
    """What a decision about a lane rests on.

    `due` is when the first of its waiting deliveries is due, None if none waits.
    """

    due: datetime | None
    in_flight: int
    max_in_flight: int
    blocked: bool = False


@dataclass(frozen=True, slots=True)
class Go:
    """This many attempts may start now."""

    count: int


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Nothing may start before this time."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing may start until something changes: a new delivery, the end of an attempt."""


LaneDecision = Go | LookAgain | Rest


def decide(facts: LaneFacts, *, now: datetime) -> LaneDecision:
    """Decide what a lane may do now."""
    if facts.blocked or facts.due is None or facts.in_flight >= facts.max_in_flight:
        return Rest()
    if facts.due > now:
        return LookAgain(facts.due)
    return Go(facts.max_in_flight - facts.in_flight)


def replay_share(turn: int, count: int) -> tuple[int, int]:
    """Return how many of the next `count` starts of a lane may be replays, and its next turn.

    `turn` counts the starts since the last of them, 0 at first.
    """
    return divmod(turn + count, REPLAY_TURN)


@dataclass(frozen=True, slots=True)
class Lane:
    """What a lane's home must know of it to let deliveries go."""

    lane_id: LaneId
    tenant_id: TenantId
    max_in_flight: int
