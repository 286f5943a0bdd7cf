"""What the home of the lanes knows of one of them, and what it learns."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from signalpost.delivery.hosts import Host
from signalpost.domain.ids import TenantId
from signalpost.domain.lane import AwaitHost, LaneFacts, SpareHost
from signalpost.domain.pace import HEALTHY, Pace
from signalpost.domain.suspension import Suspension


@dataclass(slots=True, eq=False)
class Party:
    """The lanes of a tenant that are known to be prompt, or all its others.

    So many `members` are in memory, and `held` slots are theirs. If it `stands_aside`, none of
    them has turns in the ring.
    """

    tenant_id: TenantId
    is_prompt: bool
    held: int = 0
    members: int = 0
    stands_aside: bool = False


@dataclass(slots=True, kw_only=True)
class LaneState(LaneFacts):
    """What is known of one lane.

    `due` is the earliest due time heard of; while a claim is under way (`held`) it is only
    what was heard since the claim began, so that no hint is lost to a claim that ran beside
    it. A lane that is `parked` stands behind its host, for that reason. A `forgotten` one only
    waits for what is under way: what that says is not heard. `strays` were under way to the
    host from which it moved. `turn` keeps the share of replays. `party` is that for which it
    holds its slots, `stands` that for which it has its turn in the ring, and in `left` it has a
    place that is passed over.
    """

    host: Host
    party: Party
    stands: Party | None = None
    left: Party | None = None
    parked: AwaitHost | SpareHost | None = None
    forgotten: bool = False
    unrecorded: int = 0
    strays: int = 0
    turn: int = 0

    def hear(self, due: datetime) -> None:
        """Take in that something is due at this time."""
        if not self.forgotten and (self.due is None or due < self.due):
            self.due = due

    def takes_turn(self, party: Party) -> bool:
        """Give up the place in a party whose turn it is; tell whether it was not left before."""
        if self.stands is party:
            self.stands = None
            return True
        if self.left is party:
            self.left = None
        return False

    @property
    def is_idle(self) -> bool:
        busy = self.due or self.in_flight or self.held or self.parked or self.unrecorded
        return (
            not busy and self.stands is None and (self.pace is HEALTHY or not self.pace.is_telling)
        )

    @property
    def kept_until(self) -> datetime | None:
        """How long there is something to remember of it, even if it is idle.

        While much fails at its host, that it is proven is worth knowing.
        """
        clear_at = self.host.clear_at if self.proven else None
        if clear_at is None or self.next_token is None:
            return clear_at or self.next_token
        return max(clear_at, self.next_token)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What follows from an attempt for its lane.

    `pace` is set if a restart should know of it, `suspension` if that was one too many.
    """

    pace: Pace | None = None
    suspension: Suspension | None = None

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing follows."""
        return self.pace is None and self.suspension is None
