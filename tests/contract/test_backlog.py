"""Lanes that hold too much, or stand for too long, let go of their oldest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from signalpost.domain.delivery import DeliveryState, FailureReason
from signalpost.domain.ids import DeliveryKey, LaneId
from signalpost.domain.outcome import Outcome
from signalpost.domain.subscription import State
from signalpost.domain.verdict import RetryAt
from signalpost.ports import DeliveryQuery, PageRequest
from signalpost.store import Store, backlog
from tests.contract.material import LEASE, NOW, claim, ended, event, subscription

LATER = NOW + timedelta(minutes=5)
LONG_AGO = NOW - timedelta(days=40)


async def lane(store: Store, name: str, **fields: Any) -> LaneId:
    return (await store.create(subscription(name, **fields))).lane_id


async def publish(store: Store, *event_ids: str, now: datetime = NOW, **fields: str) -> None:
    await store.accept(
        [event(event_id, publish_time=now, **fields) for event_id in event_ids], now=now
    )


async def surplus(
    store: Store, over: Mapping[LaneId, int], *, stopped_before: datetime = LONG_AGO
) -> list[tuple[LaneId, DeliveryKey]]:
    """Walk to the end of what must give way."""
    found: list[tuple[LaneId, DeliveryKey]] = []
    left, after, more = dict(over), 0, True
    while more:
        part = await store.upkeep.find_surplus(
            after=after, over=left, stopped_before=stopped_before
        )
        after, more = part.reached, part.more
        for lane_id, key in part.items:
            left[lane_id] = left.get(lane_id, 0) - 1
            found.append((lane_id, key))
    return found


async def states(store: Store) -> dict[tuple[str, str], str]:
    page = await store.list_deliveries(DeliveryQuery(tenant_id=None), PageRequest(size=1000))
    return {
        (d.subscription_id, d.event_id): (
            d.failure_reason.name if d.state is DeliveryState.FAILED else d.state.name
        )
        for d in page.items
    }


async def give_up(store: Store, over: Mapping[LaneId, int], **more: datetime) -> int:
    keys = [key for _, key in await surplus(store, over, **more)]
    return (await store.upkeep.give_up(keys, now=LATER)).count


async def test_lanes_over_a_limit_are_found_with_their_surplus(store: Store) -> None:
    full = await lane(store, "full")
    paused = await lane(store, "paused", state=State.PAUSED, stop_time=NOW)
    ordered = await lane(store, "ordered", ordered=True)
    await publish(store, "e1", "e2", "e3")
    await lane(store, "young")
    await publish(store, "e4")
    assert await store.upkeep.lanes_over(4) == {}
    assert await store.upkeep.lanes_over(3) == {full: 1, paused: 1, ordered: 1}
    [first, _] = await claim(store, full, count=2)
    assert await store.record(ended(first), now=NOW)
    assert await store.upkeep.lanes_over(3) == {paused: 1, ordered: 1}


async def test_the_oldest_of_a_lane_give_way_and_no_other_lane_is_touched(store: Store) -> None:
    full = await lane(store, "full")
    await lane(store, "other")
    for number in range(5):
        await publish(store, f"e{number}", now=NOW + timedelta(seconds=number))
    assert await give_up(store, {full: 2}) == 2
    found = await states(store)
    assert [found["full", f"e{n}"] for n in range(5)] == ["BACKLOG"] * 2 + ["PENDING"] * 3
    assert [found["other", f"e{n}"] for n in range(5)] == ["PENDING"] * 5
    assert len(await claim(store, full, now=LATER)) == 3


async def test_a_retry_gives_way_before_what_came_later_and_keeps_its_attempts(
    store: Store,
) -> None:
    lane_id = await lane(store, "sub")
    await publish(store, "e1")
    [lease] = await claim(store, lane_id)
    retry = ended(lease, RetryAt(LATER + LEASE), outcome=Outcome.REJECTED)
    assert await store.record(retry, now=NOW)
    await publish(store, "e2")
    assert await give_up(store, {lane_id: 1}) == 1
    assert await states(store) == {("sub", "e1"): "BACKLOG", ("sub", "e2"): "PENDING"}
    found = await store.get_delivery(lease.key)
    assert (found.failure_reason, found.attempt_count) == (FailureReason.BACKLOG, 1)
    assert (found.end_time, found.next_attempt_time) == (LATER, None)
    await store.repairs.retry(lease.key, now=LATER)
    assert (await states(store))["sub", "e1"] == "PENDING"


async def test_what_is_under_way_stays(store: Store) -> None:
    lane_id = await lane(store, "sub")
    await publish(store, "e1", "e2")
    [lease] = await claim(store, lane_id, count=1)
    assert [key for _, key in await surplus(store, {lane_id: 1})] != [lease.key]
    assert (await store.upkeep.give_up([lease.key], now=LATER)).count == 0
    assert await store.record(ended(lease), now=LATER)


async def test_what_ended_since_it_was_found_stays_as_it_is(store: Store) -> None:
    lane_id = await lane(store, "sub")
    await publish(store, "e1")
    [(_, key)] = await surplus(store, {lane_id: 1})
    [lease] = await claim(store, lane_id)
    assert await store.record(ended(lease), now=NOW)
    assert (await store.upkeep.give_up([key], now=LATER)).count == 0
    assert await states(store) == {("sub", "e1"): "SUCCEEDED"}


async def test_in_an_ordered_lane_the_next_of_each_resource_may_go_instead(store: Store) -> None:
    lane_id = await lane(store, "sub", ordered=True)
    await publish(store, "a1", "a2", "a3", resource="a")
    await publish(store, "b1", "b2", resource="b")
    keys = [key for _, key in await surplus(store, {lane_id: 2})]
    given_up = await store.upkeep.give_up(keys, now=LATER)
    assert [woken.lane_id for woken in given_up.lanes] == [lane_id]
    leases = await claim(store, lane_id, now=LATER)
    assert [lease.event_id for lease in leases] == ["b1", "a3"]
    assert (await states(store))["sub", "a2"] == "BACKLOG"


async def test_what_waits_for_too_long_in_a_lane_that_stands_gives_way(store: Store) -> None:
    stopped: dict[str, Any] = {"state": State.PAUSED, "stop_time": LONG_AGO}
    await lane(store, "standing", **stopped)
    await lane(store, "active")
    await lane(store, "stopped-lately", state=State.SUSPENDED, stop_time=NOW - timedelta(days=9))
    await publish(store, "old", now=LONG_AGO)
    await publish(store, "young", now=NOW - timedelta(days=29))
    assert await give_up(store, {}, stopped_before=NOW - timedelta(days=30)) == 1
    assert {pair for pair, state in (await states(store)).items() if state == "BACKLOG"} == {
        ("standing", "old")
    }


async def test_what_waits_in_a_lane_that_was_resumed_may_go(store: Store) -> None:
    stored = await store.create(subscription("sub", state=State.PAUSED, stop_time=LONG_AGO))
    await publish(store, "old", now=LONG_AGO)
    await store.replace(replace(stored, state=State.ACTIVE, stop_time=None), now=NOW)
    assert await give_up(store, {}, stopped_before=NOW - timedelta(days=30)) == 0
    assert len(await claim(store, stored.lane_id)) == 1


async def test_a_call_is_bounded_in_what_it_looks_at_and_ends(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MOST_LOOKED_AT", 10)
    monkeypatch.setattr(backlog, "MOST_ENDED", 4)
    other, full = await lane(store, "other"), await lane(store, "full")
    await publish(store, *(f"e{number}" for number in range(20)))
    sizes, after, over, more = [], 0, {full: 11}, True
    while more:
        found = await store.upkeep.find_surplus(after=after, over=over, stopped_before=LONG_AGO)
        after, more = found.reached, found.more
        over[full] -= len(found.items)
        sizes.append(len(found.items))
        assert other not in dict(found.items)
    assert sizes == [4, 4, 3]
