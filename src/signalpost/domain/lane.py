"""The queue of one subscription: how many deliveries may go, and when to look again."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from signalpost.domain.ids import LaneId, TenantId
from signalpost.domain.pace import HEALTHY, Pace

UNLIMITED: Final = 1 << 62
"""As a limit: none."""

SLOTS_AT_FIRST: Final = 32
SLOTS_DOUBLE_EVERY: Final = timedelta(seconds=1)
"""How a process begins where much is due: so many attempts at once, and then more."""

PROMPT_WITHIN: Final = timedelta(seconds=2)
"""An endpoint whose last attempt ended within this time is prompt, whatever it answered.

Others may hold their slots for as long as an attempt may take, and nothing tells beforehand of
those that are new which they are.
"""

_BURSTS_A_SECOND = 50

REPLAY_TURN: Final = 5
"""While live deliveries wait, every so manieth that a lane starts may be a replay."""

DEFAULT_LANE_LIMIT: Final = 1_000_000
"""Most deliveries that may wait in a lane."""

LONGEST_STOP: Final = timedelta(days=30)
"""What waits for longer than this in a lane that stands still for longer is given up."""


@dataclass(frozen=True, slots=True)
class Lane:
    """What a lane's home must know of it to let deliveries go.

    `host` is that of the endpoint, for what all subscriptions together may send there; empty
    for none. Lanes are looked up by number, so that alone is hashed.
    """

    lane_id: LaneId
    tenant_id: TenantId = field(hash=False)
    max_in_flight: int = field(hash=False)
    max_per_second: float | None = field(default=None, hash=False)
    host: str = field(default="", hash=False)


def host_of(endpoint_uri: str) -> str:
    """Return the host of a canonical URI, an IPv6 address without its brackets.

    Of what is no such URI nothing is said: an empty text.
    """
    _, _, authority = endpoint_uri.partition("://")
    authority = authority.partition("/")[0]
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


@dataclass(slots=True)
class HostFacts:
    """How many attempts are under way to a host, how many may be, and what fails there.

    Each failure keeps a slot of the host from use, and each `gap` gives one back, the last at
    `clear_at`; None if none is kept. So a host that takes nothing is asked as often as gaps
    pass, and one that takes what it is sent as often as it can.
    """

    limit: int = UNLIMITED
    in_flight: int = 0
    gap: timedelta = timedelta()
    clear_at: datetime | None = None

    def room(self, *, now: datetime) -> int:
        """Return how many attempts of lanes that are not proven may start now."""
        room = self.limit - self.in_flight
        if self.clear_at is None or self.clear_at <= now:
            return room
        return room + (now - self.clear_at) // self.gap

    @property
    def next_room(self) -> datetime | None:
        """When there is room for one of these; None if an attempt must end before."""
        room = self.limit - self.in_flight
        if room <= 0 or self.clear_at is None:
            return None
        return self.clear_at - (room - 1) * self.gap


@dataclass(slots=True, kw_only=True)
class LaneFacts:
    """What a decision about a lane rests on; its home keeps it current.

    `due` is when the first of its waiting deliveries is due, None if none is known to wait.
    `next_token` is when a lane with a limited rate may go again. `held` is set while what
    waits is being looked at. A lane is `proven` while the last attempt of it that is known
    succeeded.
    """

    lane: Lane
    host: HostFacts
    proven: bool = False
    pace: Pace = HEALTHY
    due: datetime | None = None
    next_token: datetime | None = None
    in_flight: int = 0
    held: bool = False


@dataclass(frozen=True, slots=True)
class Go:
    """This many attempts may start now."""

    count: int


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Nothing may start before this time."""

    at: datetime


@dataclass(frozen=True, slots=True)
class AwaitHost:
    """Nothing may start before an attempt to the same host, of whatever lane, ends."""


@dataclass(frozen=True, slots=True)
class SpareHost:
    """Nothing may start before the host, where much failed, has room for what is not proven."""


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing may start until something changes: a new delivery, the end of an attempt."""


LaneDecision = Go | LookAgain | AwaitHost | SpareHost | Rest

_AWAIT_HOST: Final = AwaitHost()
_SPARE_HOST: Final = SpareHost()
_REST: Final = Rest()


def decide(facts: LaneFacts, *, now: datetime) -> LaneDecision:
    """Decide what a lane may do now."""
    at = opens_at(facts)
    if at is None:
        return _REST
    if at > now:
        return LookAgain(at)
    host = facts.host
    there = host.limit - host.in_flight
    if there <= 0:
        return _AWAIT_HOST
    if host.clear_at is not None and not facts.proven:
        there = host.room(now=now)
        if there <= 0:
            return _SPARE_HOST
    room = facts.pace.limit(facts.lane.max_in_flight) - facts.in_flight
    rate = facts.lane.max_per_second
    if rate is not None:
        room = min(room, burst(rate))
    return Go(min(room, there))


def open_slots(most: int, *, running: timedelta) -> int:
    """Return how many of `most` slots may be in use, so long after a start with much due.

    They double by time and not by success: those that a dead endpoint holds up must not keep
    the others from their turn.
    """
    doublings = max(0, running // SLOTS_DOUBLE_EVERY)
    return min(most, SLOTS_AT_FIRST << min(doublings, most.bit_length()))


def tenant_room(held: int, *, free: int) -> int:
    """Return how many of the free slots a tenant may take that holds so many.

    As many as it can while it holds fewer than are still free: one alone half of all slots,
    one that comes after it half of the others. Once all that began before this has ended,
    each of those that want more holds as many as are free.
    """
    return max(0, (free - held + 1) // 2)


def slow_room(held: int, *, free: int, slots: int) -> int:
    """Return how many of the free slots all lanes may take that are not known to be prompt.

    They hold so many: three quarters of all slots at most, so that prompt ones find the others.
    """
    return max(0, min(free, slots - slots // 4 - held))


def replay_share(turn: int, count: int) -> tuple[int, int]:
    """Return how many of the next `count` starts of a lane may be replays, and its next turn.

    `turn` counts the starts since the last of them, 0 at first.
    """
    return divmod(turn + count, REPLAY_TURN)


def opens_at(facts: LaneFacts) -> datetime | None:
    """Return when the next attempt may start, as far as it is up to the lane.

    None if nothing waits, or something must end before.
    """
    at, pace = facts.due, facts.pace
    if at is None or facts.held or facts.in_flight >= pace.limit(facts.lane.max_in_flight):
        return None
    if pace is not HEALTHY:
        at = pace.opens_at(at)
    if facts.next_token is not None and facts.next_token > at:
        at = facts.next_token
    return at


def burst(rate: float) -> int:
    """Return how many attempts may start at once where `rate` may start in a second.

    One, up to 50 a second; of a faster lane a fiftieth of a second's worth, for no timer is
    finer than that.
    """
    return max(1, int(rate / _BURSTS_A_SECOND))


def spacing(rate: float) -> timedelta:
    """Return the time that each attempt puts off those after it.

    By the generic cell rate algorithm, with the burst taken off the rate: no second, wherever
    it begins, sees more than `rate` attempts start, rounded up.
    """
    return timedelta(microseconds=math.ceil(1_000_000 / (rate - (burst(rate) - 1))))
