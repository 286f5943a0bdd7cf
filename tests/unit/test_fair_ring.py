"""How many slots tenants hold, whatever they want, and what they leave to others.

All lanes here are known to be prompt; `test_prompt_lanes` has the others.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalpost.delivery.fair_ring import FairRing
from signalpost.delivery.lane_state import Party
from signalpost.domain.ids import LaneId, TenantId
from signalpost.domain.lane import tenant_room
from tests.unit.town import Town, assert_empty


@pytest.mark.parametrize(
    ("held", "free", "room"),
    [
        # Of all slots one tenant has half, the odd one too.
        (0, 512, 256),
        (0, 8, 4),
        (0, 3, 2),
        (0, 1, 1),
        # It may go on while it holds fewer than are free.
        (200, 312, 56),
        (255, 257, 1),
        (256, 256, 0),
        (300, 212, 0),
        # One that comes later has half of what the others left.
        (0, 256, 128),
        (10, 100, 45),
        (0, 2, 1),
        # Who holds nothing may take the last one, and nobody takes what is not there.
        (1, 1, 0),
        (0, 0, 0),
        (5, 0, 0),
    ],
)
def test_the_room_of_a_tenant(held: int, free: int, room: int) -> None:
    assert tenant_room(held, free=free) == room


@given(st.integers(0, 600), st.integers(0, 600))
def test_what_is_taken_at_once_is_what_could_be_taken_one_by_one(held: int, free: int) -> None:
    room = taken = tenant_room(held, free=free)
    while tenant_room(held, free=free):
        held, free, taken = held + 1, free - 1, taken - 1
    assert taken == 0
    assert room == 0 or free >= held - 1


@pytest.mark.parametrize("slots", [8, 64, 512])
async def test_one_alone_has_half_of_the_slots(slots: int) -> None:
    town = Town(slots)
    town.want(1)
    town.start_all()
    assert town.counts() == {1: slots // 2}


@pytest.mark.parametrize("count", [2, 3, 7, 50])
async def test_those_that_want_more_than_there_is_hold_as_many_as_are_free(count: int) -> None:
    town = Town(512)
    for tenant in range(count):
        town.want(tenant)
    town.start_all()
    held = town.counts()
    free = town.slots - len(town.lanes)
    assert set(held.values()) <= {512 // (count + 1), 512 // (count + 1) + 1}
    assert free >= 512 // (count + 1) - count


async def test_each_that_comes_later_has_half_of_what_was_left_and_the_same_as_all_in_the_end() -> (
    None
):
    town = Town(512)
    for tenant in range(5):
        town.want(tenant, 1000)
        town.start_all()
    assert town.counts() == {0: 256, 1: 128, 2: 64, 3: 32, 4: 16}
    for _ in range(512):
        town.end(0)
        town.start_all()
    assert set(town.counts().values()) <= {85, 86}


async def test_who_stands_aside_goes_as_soon_as_it_holds_fewer_than_are_free() -> None:
    town = Town(8)
    town.want(1)
    assert town.start() == [1, 1, 1, 1]
    assert town.start() == []
    town.want(2)
    assert town.start() == [2, 2]
    assert town.start() == []
    town.end_of(2)
    assert town.start() == [2]
    # A slot of another one will do as well, and who holds the least comes first.
    town.end_of(1)
    assert town.start() == [2]
    town.end_of(1)
    assert town.start() == [1]
    assert town.start() == []


async def test_who_stood_aside_has_its_turn_however_many_others_come() -> None:
    town = Town(16)
    town.want(0, 8)
    town.start_all()
    town.want(1)
    assert town.start() == [1, 1, 1, 1]
    for _ in range(6):
        town.end_of(0)
    for tenant in (2, 3, 4, 5):
        town.want(tenant)
    assert [town.start(most=2) for _ in range(3)] == [[2, 3], [4, 5], [1, 2]]


def test_if_those_that_are_called_have_no_use_for_a_slot_the_next_is_called() -> None:
    ring = FairRing()
    parties = [Party(TenantId(name), is_prompt=True) for name in "abcd"]
    for number, party in enumerate(parties):
        ring.hold(party, 1)
        ring.add(party, LaneId(number))
    assert ring.room(free=1, slots=8) == 0
    assert len(ring) == 0
    ring.recall(free=2, slots=8, most=2)
    assert len(ring) == 2
    for number, party in enumerate(parties):
        assert ring.room(free=2, slots=8) == 1
        assert ring.take_turn() == (party, LaneId(number))
    assert ring.room(free=2, slots=8) == 0


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("want"), st.integers(0, 5), st.integers(1, 20)),
        st.tuples(st.just("end"), st.integers(0, 99), st.integers(1, 5)),
    ),
    max_size=60,
)


@given(STEPS, st.integers(1, 24), st.integers(1, 8))
async def test_nobody_takes_more_than_its_share_and_all_goes_in_the_end(
    steps: list[tuple[str, int, int]], slots: int, most: int
) -> None:
    town = Town(slots)
    started = 0
    for what, which, count in steps:
        if what == "want":
            town.want(which, count)
        for _ in range(count if what == "end" else 0):
            if town.lanes:
                town.end(which)
        while fresh := town.start(most=most):
            started += len(fresh)
        free = slots - len(town.lanes)
        # Nobody waits who may go.
        waiting = [party for party, lanes in town.home._ring._lanes.items() if lanes]
        assert all(not tenant_room(party.held, free=free) for party in waiting)
    while town.lanes:
        town.end(0)
        started += len(town.start(most=most))
    assert started == town.numbers.total()
    assert not town.home._lanes
    assert_empty(town.home._ring)


async def test_few_are_looked_at_for_each_slot_that_is_freed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hundreds of tenants stand aside, each with one slot."""
    looks = 0
    town = Town(400)
    for tenant in range(399):
        town.want(tenant, 20)
    town.start_all()
    assert len(town.home._ring._aside[True][1]) == 399

    def counted(held: int, *, free: int) -> int:
        nonlocal looks
        looks += 1
        return tenant_room(held, free=free)

    monkeypatch.setattr("signalpost.delivery.fair_ring.tenant_room", counted)
    for _ in range(100):
        town.end(7)
        assert len(town.start()) == 1
    assert looks <= 100 * 12
