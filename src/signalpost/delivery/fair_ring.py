"""Lanes that may go, in turn, but for those that hold as many slots as they may.

An attempt at an endpoint that never answers holds its slot for as long as attempts may take,
and nothing tells beforehand which those are. A tenant with more such endpoints than there are
slots would hold all of them, and turns are of no use to the others then. So a tenant may take
a slot only while it holds fewer than are free (`tenant_room`): something is left for whoever
comes next.

Nor are turns of use to those of its own endpoints that answer, and to anybody where many
tenants have such endpoints. So lanes that are not known to be prompt hold only a part of all
slots (`slow_room`), and a tenant for those of its lanes only a part of that, by the same rule.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from signalpost.delivery.lane_state import LaneState, Party
from signalpost.delivery.ring import Ring
from signalpost.domain.ids import LaneId, TenantId
from signalpost.domain.lane import slow_room, tenant_room

_MOST_KNOWN: Final = 100_000
"""Lanes that are remembered to be prompt while nothing of them waits."""


class FairRing(Ring[Party]):
    """The ring of all lanes. It counts the slots that each party holds.

    Parties that may take none stand aside, by how many they hold: until they hold fewer, or
    more are free. Its length is without their lanes. Nothing here looks through all parties,
    or all that stand aside: different numbers of held slots are always few.
    """

    def __init__(self) -> None:
        super().__init__()
        self._slow: dict[TenantId, Party] = {}
        self._prompt: dict[TenantId, Party] = {}
        self._slow_held = 0
        self._aside: dict[bool, dict[int, OrderedDict[Party, None]]] = {True: {}, False: {}}
        self._known: set[LaneId] = set()

    def enter(self, tenant_id: TenantId, lane_id: LaneId) -> Party:
        """Return the party of a lane of which nothing was in memory."""
        return self._enter(tenant_id, is_prompt=lane_id in self._known)

    def leave(self, party: Party) -> None:
        """Let go of a party that a lane entered; it holds no slot of it any more."""
        party.members -= 1
        if not party.members:
            del (self._prompt if party.is_prompt else self._slow)[party.tenant_id]

    def change(self, state: LaneState) -> None:
        """Take in that a lane is prompt, or is not, and was held to be the other."""
        former, lane_id = state.party, state.lane.lane_id
        state.party = self._enter(former.tenant_id, is_prompt=not former.is_prompt)
        self.release(former, state.in_flight)
        self.hold(state.party, state.in_flight)
        self.leave(former)
        if former.is_prompt:
            self._known.discard(lane_id)
        else:
            self._known.add(lane_id)
            if len(self._known) > _MOST_KNOWN:
                self._known.pop()
        if state.stands is not None:
            self.stand(state)

    def stand(self, state: LaneState) -> None:
        """Let a lane have the last turn of its party, or the one that it left there.

        One that it has elsewhere is passed over.
        """
        party, left = state.party, state.left
        if state.stands is not None or left is party:
            state.left = state.stands
        state.stands = party
        if left is party:
            # With one more each time that it comes back it would have the turns of others.
            return
        self.add(party, state.lane.lane_id)
        if party.stands_aside:
            self._count -= 1

    def hold(self, party: Party, count: int) -> None:
        """Take in that a party holds so many slots more."""
        if party.stands_aside:
            self._return(party)
        party.held += count
        if not party.is_prompt:
            self._slow_held += count

    def release(self, party: Party, count: int) -> None:
        """Take in that a party holds so many slots less."""
        self.hold(party, -count)

    def recall(self, *, free: int, slots: int, most: int) -> None:
        """Let so many parties of each kind that stand aside have turns, if they may take a slot.

        Those that hold the least are the first.
        """
        if self._aside[True]:
            self._recall(self._aside[True], free=free, most=most)
        if self._aside[False]:
            slow = slow_room(self._slow_held, free=free, slots=slots)
            self._recall(self._aside[False], free=slow, most=min(most, slow))

    def room(self, *, free: int, slots: int) -> int:
        """Return how many free slots the party may take whose turn it is; 0 if nobody may."""
        while True:
            if not self._parties:
                self.recall(free=free, slots=slots, most=1)
            if not self._parties:
                return 0
            party, there = self._parties[0], free
            if not party.is_prompt:
                there = slow_room(self._slow_held, free=free, slots=slots)
            if room := tenant_room(party.held, free=there):
                return room
            self._parties.popleft()
            party.stands_aside = True
            self._aside[party.is_prompt].setdefault(party.held, OrderedDict())[party] = None
            self._count -= len(self._lanes[party])

    def take_turn(self) -> tuple[Party, LaneId]:
        """Return the lane whose turn it is, and as whose it stood there."""
        return self._parties[0], self.take()

    def _enter(self, tenant_id: TenantId, *, is_prompt: bool) -> Party:
        parties = self._prompt if is_prompt else self._slow
        party = parties.get(tenant_id)
        if party is None:
            party = parties[tenant_id] = Party(tenant_id, is_prompt)
        party.members += 1
        return party

    def _recall(self, aside: dict[int, OrderedDict[Party, None]], *, free: int, most: int) -> None:
        while most > 0 and aside:
            held = min(aside)
            if not tenant_room(held, free=free):
                return
            self._return(next(iter(aside[held])))
            most -= 1

    def _return(self, party: Party) -> None:
        aside = self._aside[party.is_prompt]
        del aside[party.held][party]
        if not aside[party.held]:
            del aside[party.held]
        party.stands_aside = False
        self._parties.append(party)
        self._count += len(self._lanes[party])
