"""Tenants with many lanes each, as many as they want."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from signalpost.delivery.fair_ring import FairRing
from signalpost.delivery.lanes import LaneHome
from signalpost.domain.ids import LaneId, TenantId
from signalpost.domain.lane import Lane, slow_room

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MANY = 10_000
"""More lanes than a tenant has."""


class Town:
    """Tenants with many lanes each, in which there is always something due."""

    def __init__(self, slots: int) -> None:
        self.home = LaneHome()
        self.slots = slots
        self.held: list[TenantId] = []
        self.lanes: list[LaneId] = []
        self.numbers: Counter[TenantId] = Counter()

    def want(self, tenant: int, count: int = 300, *, prompt: bool = True) -> None:
        """Let so many lanes of a tenant, new ones, have one delivery each."""
        name = TenantId(str(tenant))
        first, self.numbers[name] = self.numbers[name], self.numbers[name] + count
        lanes = [Lane(self._id(tenant, first + n), name, 1) for n in range(count)]
        if prompt:
            self.home._ring._known.update(lane.lane_id for lane in lanes)
        self.home.notice(lanes, due=NOW)

    def _id(self, tenant: int, number: int) -> LaneId:
        return LaneId(tenant * MANY + number)

    def start(self, *, most: int = 200) -> list[int]:
        """Start what may go; return of which tenants. None that takes a slot holds many."""
        held = Counter(self.party(lane_id) for lane_id in self.lanes)
        free = self.slots - len(self.lanes)
        picks = self.home.picks(limit=min(free, most), now=NOW, free=free, slots=self.slots)
        for pick in picks:
            party, there = self.party(pick.lane_id), free
            if not party[1]:
                slow = sum(count for other, count in held.items() if not other[1])
                there = slow_room(slow, free=free, slots=self.slots)
            assert held[party] < there
            held[party], free = held[party] + 1, free - 1
        self.home.ran_dry(
            self.home.claimed(picks, {pick.lane_id: pick.count for pick in picks}, now=NOW), {}
        )
        self.lanes += [pick.lane_id for pick in picks]
        return [pick.lane_id // MANY for pick in picks]

    def party(self, lane_id: LaneId) -> tuple[int, bool]:
        """Return the tenant of a lane under way, and whether that is known to be prompt."""
        return lane_id // MANY, self.home._lanes[lane_id].party.is_prompt

    def start_all(self) -> None:
        while self.start():
            pass

    def end(self, index: int) -> None:
        self._end(self.lanes[index % len(self.lanes)])

    def end_of(self, tenant: int) -> None:
        self._end(next(lane_id for lane_id in self.lanes if lane_id // MANY == tenant))

    def _end(self, lane_id: LaneId) -> None:
        self.lanes.remove(lane_id)
        # It is empty now.
        self.home._lanes[lane_id].due = None
        self.home.ended(lane_id)
        self.home.recorded(lane_id, next_due=None)

    def counts(self) -> Counter[int]:
        return Counter(lane_id // MANY for lane_id in self.lanes)


def assert_empty(ring: FairRing) -> None:
    assert not ring
    assert not ring._lanes
    assert not ring._slow_held
    assert not ring._slow
    assert not ring._prompt
    assert ring._aside == {True: {}, False: {}}
