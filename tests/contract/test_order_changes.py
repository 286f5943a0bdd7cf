"""Turning order on and off while deliveries wait."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from signalpost.domain.ids import LaneId
from signalpost.domain.subscription import Subscription
from signalpost.domain.verdict import RetryAt
from signalpost.ports import Recorded
from signalpost.store import Store, subscriptions
from tests.contract.lines import is_sound, standing
from tests.contract.material import NOW, TENANT, claim, ended, subscription
from tests.contract.test_order import accept, end, names

LATER = NOW + timedelta(minutes=5)


@pytest.fixture
def two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "_CHUNK", 2)


async def changed(store: Store, **changes: object) -> Subscription:
    stored = await store.get(TENANT, subscription().subscription_id)
    return await store.replace(replace(stored, **changes), now=NOW)  # type: ignore[arg-type]


async def arrange(store: Store, lane_id: LaneId, after: str = "", *, chunks: int = 1000) -> str:
    """Arrange in chunks of two, at most so many; return where it stopped, empty at the end."""
    for _ in range(chunks):
        reached = await store.arrange(lane_id, after=after, limit=2, now=NOW)
        if reached is None:
            return ""
        after = reached
    return after


async def drained(store: Store, lane_id: LaneId) -> list[list[str]]:
    """Deliver all that may go, again and again; return the IDs of each round."""
    seen = []
    while leases := await claim(store, lane_id, now=LATER):
        seen.append(names(leases))
        for lease in leases:
            await end(store, lease, now=LATER)
    return seen


async def test_order_that_is_turned_on_holds_for_what_already_waits(store: Store) -> None:
    lane_id = (await store.create(subscription())).lane_id
    await accept(store, "a1", "a2", "b1", "a3")
    assert (await changed(store, ordered=True)).ordered
    await accept(store, "a4", "b2")
    assert not await store.unarranged_lanes()
    assert await drained(store, lane_id) == [["a1", "b1"], ["a2", "b2"], ["a3"], ["a4"]]


async def test_what_is_under_way_when_order_is_turned_on_comes_first(store: Store) -> None:
    lane_id = (await store.create(subscription())).lane_id
    await accept(store, "a1", "a2", "a3", "b1")
    first, second = await claim(store, lane_id, count=2)
    await changed(store, ordered=True)
    assert names(await claim(store, lane_id)) == ["b1"]
    assert await end(store, second, RetryAt(NOW)) == Recorded(None)
    assert not await claim(store, lane_id)
    assert await end(store, first) == Recorded(NOW)
    assert await drained(store, lane_id) == [["a2"], ["a3"]]


async def test_a_retry_that_waits_when_order_is_turned_on_holds_its_resource(
    store: Store,
) -> None:
    lane_id = (await store.create(subscription())).lane_id
    await accept(store, "a1", "a2", "b1")
    [first] = await claim(store, lane_id, count=1)
    await end(store, first, RetryAt(LATER))
    await changed(store, ordered=True)
    assert names(await claim(store, lane_id)) == ["b1"]
    assert await drained(store, lane_id) == [["a1"], ["a2"]]


@pytest.mark.usefixtures("two_at_once")
async def test_nothing_is_handed_out_until_all_is_in_order(store: Store) -> None:
    stored = await store.create(subscription())
    lane_id = stored.lane_id
    await accept(store, *(f"a{n}" for n in range(6)), "b0")
    [lease] = await claim(store, lane_id, count=1)
    await changed(store, ordered=True)
    await accept(store, "a7", "c1")
    after = await arrange(store, lane_id, chunks=1)
    assert after
    assert await store.unarranged_lanes() == [stored.lane]
    assert not await claim(store, lane_id)
    assert not await store.backlogs()
    assert not await store.next_due([lane_id])
    assert await end(store, lease) == Recorded(NOW)
    assert await arrange(store, lane_id, after) == ""
    assert not await store.unarranged_lanes()
    expected = [["a1", "b0", "c1"], *([f"a{n}"] for n in range(2, 6)), ["a7"]]
    assert [sorted(found) for found in await drained(store, lane_id)] == expected


@pytest.mark.usefixtures("two_at_once")
async def test_a_restart_begins_the_arranging_anew(store: Store, database_url: str) -> None:
    lane_id = (await store.create(subscription())).lane_id
    await accept(store, *(f"a{n}" for n in range(9)))
    await claim(store, lane_id, count=3)
    await changed(store, ordered=True)
    await arrange(store, lane_id, chunks=2)
    await store.aclose()
    again = await Store.open(database_url, master_key=b"m" * 32)
    try:
        await again.recover(now=NOW)
        [lane] = await again.unarranged_lanes()
        assert await arrange(again, lane.lane_id) == ""
        assert await drained(again, lane_id) == [[f"a{n}"] for n in range(9)]
    finally:
        await again.aclose()


async def test_order_that_is_turned_off_lets_all_go(store: Store) -> None:
    stored = await store.create(subscription(ordered=True))
    lane_id = stored.lane_id
    await accept(store, "a1", "a2", "a3")
    [first] = await claim(store, lane_id)
    assert not (await changed(store, ordered=False)).ordered
    await accept(store, "a4")
    assert sorted(names(await claim(store, lane_id))) == ["a2", "a3", "a4"]
    assert await end(store, first) == Recorded(None)
    assert not await store.unarranged_lanes()


@pytest.mark.usefixtures("two_at_once")
async def test_lines_that_are_being_dissolved_stay_lines_until_they_are_gone(
    store: Store, path: Path
) -> None:
    lane_id = (await store.create(subscription(ordered=True))).lane_id
    await accept(store, *(f"a{n}" for n in range(5)), *(f"b{n}" for n in range(4)))
    leases = [*await claim(store, lane_id, count=1)]
    await changed(store, ordered=False)
    for _ in range(3):
        assert all(map(is_sound, standing(path).values()))
        [lane] = await store.unarranged_lanes()
        await arrange(store, lane.lane_id, chunks=1)
        leases += await claim(store, lane_id, count=1)
    assert [lease.event_id for lease in leases[:2]] == ["a0", "b0"]
    for lease in leases:
        assert await store.record(ended(lease), now=NOW)
    assert all(map(is_sound, standing(path).values()))
    assert await arrange(store, lane_id) == ""
    assert standing(path) == {}
    assert sum(map(len, await drained(store, lane_id))) == 9 - len(leases)


@pytest.mark.usefixtures("two_at_once")
async def test_order_that_is_turned_off_and_on_half_way_holds(store: Store, path: Path) -> None:
    lane_id = (await store.create(subscription(ordered=True))).lane_id
    await accept(store, *(f"a{n}" for n in range(9)))
    await changed(store, ordered=False)
    stale = await arrange(store, lane_id, chunks=2)
    await changed(store, ordered=True)
    await changed(store, ordered=False)
    await changed(store, ordered=True)
    assert await arrange(store, lane_id, stale) == ""
    assert all(map(is_sound, standing(path).values()))
    assert await drained(store, lane_id) == [[f"a{n}"] for n in range(9)]


async def test_a_change_of_something_else_arranges_nothing_anew(store: Store) -> None:
    await store.create(subscription(ordered=True))
    await accept(store, "a1", "a2")
    await changed(store, display_name="Other")
    assert not await store.unarranged_lanes()
    assert (await store.get(TENANT, subscription().subscription_id)).ordered
