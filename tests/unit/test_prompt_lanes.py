"""Lanes that are known to be prompt, and all others."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalpost.delivery.lanes import LaneHome
from signalpost.domain.ids import LaneId, TenantId
from signalpost.domain.lane import Lane, slow_room, tenant_room
from signalpost.domain.outcome import AttemptResult, Outcome
from tests.unit.town import NOW, Town, assert_empty


@pytest.mark.parametrize(
    ("held", "free", "room"),
    [(0, 512, 384), (0, 100, 100), (300, 212, 84), (384, 128, 0), (400, 112, 0)],
)
def test_the_room_of_those_that_are_not_known_to_be_prompt(held: int, free: int, room: int) -> None:
    assert slow_room(held, free=free, slots=512) == room


@pytest.mark.parametrize("slots", range(1, 20))
def test_however_few_slots_there_are_new_lanes_may_take_one(slots: int) -> None:
    assert slow_room(0, free=slots, slots=slots) > 0


@pytest.mark.parametrize("slots", [8, 64, 512])
async def test_of_one_alone_those_that_are_not_prompt_leave_slots_for_those_that_are(
    slots: int,
) -> None:
    town = Town(slots)
    town.want(1, prompt=False)
    town.start_all()
    assert len(town.lanes) == slots * 3 // 8
    town.want(1)
    town.start_all()
    assert slots // 4 <= slots - len(town.lanes) <= slots // 2
    assert len(town.lanes) >= slots * 5 // 8


async def test_those_of_many_that_are_not_prompt_leave_a_quarter_to_those_that_are() -> None:
    town = Town(512)
    for tenant in range(20):
        town.want(tenant, prompt=False)
        town.start_all()
    assert len(town.lanes) == 512 * 3 / 4
    town.want(30)
    town.start_all()
    assert town.counts()[30] == 512 / 8
    town.want(31, prompt=False)
    assert town.start() == []
    # As soon as one of theirs is free, it is that of who holds none, and came first.
    town.end_of(0)
    assert town.start() == [30, 9]


async def test_who_turns_out_to_be_prompt_goes_at_once_and_who_does_not_waits() -> None:
    home, slots = LaneHome(), 8
    lanes = [Lane(LaneId(number), TenantId("a"), 2) for number in range(4)]
    home.notice(lanes, due=NOW)

    def begin(under_way: int) -> list[LaneId]:
        free = slots - under_way
        picks = home.picks(limit=free, now=NOW, free=free, slots=slots)
        home.claimed(picks, {pick.lane_id: pick.count for pick in picks}, now=NOW)
        return [pick.lane_id for pick in picks]

    def learn(number: int, *, seconds: float) -> None:
        result = answered(seconds=seconds)
        home.learn(LaneId(number), result, start=NOW, width=1, now=NOW)

    # Two of the first, one of the second.
    assert begin(0) == [0, 1]
    assert begin(3) == []
    learn(0, seconds=2.1)
    assert begin(3) == []
    learn(1, seconds=2)
    # It has room for one more, and it holds no slot of those that are not prompt any more.
    assert sorted(begin(3)) == [1, 2]
    learn(1, seconds=15)
    assert begin(5) == []
    assert home._ring._slow_held == 5
    assert home._lanes[LaneId(1)].party.held == 5


async def test_who_turns_out_not_to_be_prompt_has_no_use_for_its_former_place() -> None:
    home, tenant = LaneHome(), TenantId("a")
    prompt, slow = Lane(LaneId(0), tenant, 2), Lane(LaneId(1), tenant, 2)
    home._ring._known.add(prompt.lane_id)
    home.notice([slow], due=NOW)
    (pick,) = home.picks(limit=2, now=NOW, free=8, slots=8)
    home.ran_dry(home.claimed([pick], {pick.lane_id: 2}, now=NOW), {})
    home.notice([prompt], due=NOW)
    (pick,) = home.picks(limit=1, now=NOW, free=6, slots=8)
    home.claimed([pick], {pick.lane_id: 1}, now=NOW)
    # All slots of the worker are taken for a moment, so it stands in its place.
    assert home.picks(limit=0, now=NOW, free=5, slots=8) == []
    home.learn(prompt.lane_id, answered(seconds=15), start=NOW, width=1, now=NOW)
    assert home.picks(limit=5, now=NOW, free=5, slots=8) == []


async def test_who_is_prompt_now_and_then_has_no_more_turns_than_others() -> None:
    home, slots = LaneHome(), 16
    lanes = [Lane(LaneId(number), TenantId("a"), 9) for number in range(2)]
    home.notice(lanes, due=NOW)
    (pick,) = home.picks(limit=1, now=NOW, free=slots, slots=slots)
    home.claimed([pick], {pick.lane_id: 1}, now=NOW)
    # No slot of the worker is free for a moment, so both stand in their places.
    assert home.picks(limit=0, now=NOW, free=0, slots=slots) == []
    for seconds in (1, 3) * 9:
        result = answered(seconds=seconds)
        home.learn(pick.lane_id, result, start=NOW, width=1, now=NOW)
    went = []
    for under_way in range(1, 5):
        free = slots - under_way
        (pick,) = home.picks(limit=1, now=NOW, free=free, slots=slots)
        home.claimed([pick], {pick.lane_id: 1}, now=NOW)
        went.append(pick.lane_id)
    assert Counter(went) == {0: 2, 1: 2}
    assert sum(map(len, home._ring._lanes.values())) <= 3


def answered(*, seconds: float) -> AttemptResult:
    latency = timedelta(seconds=seconds)
    return AttemptResult(outcome=Outcome.SUCCEEDED, latency=latency, status_code=200)


LANES, CAP = 6, 3
TURNS = st.lists(
    st.one_of(
        st.tuples(st.just("want"), st.integers(0, LANES - 1), st.integers(1, 9)),
        st.tuples(st.just("answer"), st.integers(0, 99), st.sampled_from([0, 1, 2, 3, 15])),
        st.tuples(st.just("interrupt"), st.integers(0, 99), st.just(0)),
        st.tuples(st.just("start"), st.integers(1, 9), st.just(0)),
        st.tuples(st.just("forget"), st.integers(0, LANES - 1), st.just(0)),
    ),
    max_size=150,
)


class Street:
    """Few lanes of two tenants, in which several deliveries wait, with any answers."""

    def __init__(self, slots: int) -> None:
        self.home = LaneHome()
        self.slots = slots
        self.lanes = [Lane(LaneId(n), TenantId(str(n % 2)), CAP) for n in range(LANES)]
        self.waiting = Counter[LaneId]()
        self.under_way = list[LaneId]()

    def turn(self, what: str, number: int, count: int) -> None:
        if what == "want":
            self.waiting[self.lanes[number].lane_id] += count
            self.home.notice([self.lanes[number]], due=NOW)
        elif what == "start":
            self.start(number)
        elif what == "forget":
            self.home.forget(self.lanes[number].lane_id)
        elif self.under_way:
            self.end(number, Outcome.SUCCEEDED if what == "answer" else Outcome.INTERRUPTED, count)

    def start(self, most: int) -> int:
        free = self.slots - len(self.under_way)
        picks = self.home.picks(limit=min(most, free), now=NOW, free=free, slots=self.slots)
        counts = {pick.lane_id: min(pick.count, self.waiting[pick.lane_id]) for pick in picks}
        self.home.ran_dry(self.home.claimed(picks, counts, now=NOW), {})
        self.waiting.subtract(counts)
        self.under_way += Counter(counts).elements()
        return len(picks)

    def end(self, index: int, outcome: Outcome, seconds: float) -> None:
        lane_id = self.under_way.pop(index % len(self.under_way))
        result = AttemptResult(outcome=outcome, latency=timedelta(seconds=seconds))
        self.home.learn(lane_id, result, start=NOW, width=1, now=NOW)
        self.home.ended(lane_id)
        self.home.recorded(lane_id, next_due=None)

    def check(self) -> None:
        ring = self.home._ring
        assert len(self.under_way) <= self.slots
        assert max(Counter(self.under_way).values(), default=0) <= CAP
        held = Counter(self.home._lanes[lane_id].party for lane_id in self.under_way)
        parties = [*ring._slow.values(), *ring._prompt.values()]
        assert {party: party.held for party in parties if party.held} == held
        assert ring._slow_held == sum(held[one] for one in held if not one.is_prompt)


@given(TURNS, st.integers(1, 12))
async def test_whatever_turns_out_to_be_prompt_or_not_all_goes_in_the_end(
    turns: list[tuple[str, int, int]], slots: int
) -> None:
    street = Street(slots)
    for turn in turns:
        street.turn(*turn)
        street.check()
    street.home.notice(street.lanes, due=NOW)
    while street.start(9) or street.under_way:
        if street.under_way:
            street.end(0, Outcome.SUCCEEDED, 0)
    assert not +street.waiting
    assert not street.home._lanes
    assert_empty(street.home._ring)


async def test_few_that_are_not_prompt_are_looked_at_for_each_slot_that_is_freed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They hold all they may, hundreds of tenants stand aside, and many slots are free."""
    looks = 0
    town = Town(400)
    for tenant in range(400):
        town.want(tenant, 20, prompt=False)
    town.start_all()
    assert len(town.lanes) == 300
    assert len(town.home._ring._aside[False][0]) == 100

    def counted(held: int, *, free: int) -> int:
        nonlocal looks
        looks += 1
        return tenant_room(held, free=free)

    monkeypatch.setattr("signalpost.delivery.fair_ring.tenant_room", counted)
    for _ in range(100):
        town.end(7)
        assert len(town.start()) == 1
    assert looks <= 100 * 12
