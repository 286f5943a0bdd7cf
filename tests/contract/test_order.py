"""Ordered lanes: of each resource one delivery at a time, in the order of acceptance."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from signalpost.domain.delivery import DeliveryState, FailureReason, Lease
from signalpost.domain.errors import EventIdConflict
from signalpost.domain.ids import LaneId
from signalpost.domain.outcome import Outcome
from signalpost.domain.subscription import State
from signalpost.domain.verdict import GiveUp, RetryAt, Verdict
from signalpost.ports import DeliveryQuery, PageRequest, Recorded
from signalpost.store import Store
from tests.contract.lines import standing
from tests.contract.material import LEASE, NOW, TENANT, claim, ended, event, subscription

LATER = NOW + timedelta(minutes=5)


async def ordered_lane(store: Store, name: str = "sub", *, tenant: str = TENANT) -> LaneId:
    return (await store.create(subscription(name, tenant=tenant, ordered=True))).lane_id


async def accept(store: Store, *names: str, now: datetime = NOW, tenant: str = TENANT) -> None:
    """Accept events in one call; the letter of each names its resource."""
    events = [event(name, resource=name[0], tenant=tenant) for name in names]
    await store.accept(events, now=now)


async def lane_with(store: Store, *names: str) -> LaneId:
    lane_id = await ordered_lane(store)
    await accept(store, *names)
    return lane_id


async def end(
    store: Store, lease: Lease, verdict: Verdict | None = None, *, now: datetime = NOW
) -> Recorded | None:
    outcome = Outcome.REJECTED if verdict else Outcome.SUCCEEDED
    return await store.record(ended(lease, verdict, outcome=outcome), now=now)


def names(leases: Sequence[Lease]) -> list[str]:
    return [lease.event_id for lease in leases]


async def test_one_of_each_resource_can_be_claimed_in_the_order_of_acceptance(
    store: Store,
) -> None:
    lane_id = await lane_with(store, "a1", "a2", "b1", "a3")
    await accept(store, "b2", "c1")
    seen = []
    while leases := await claim(store, lane_id):
        seen.append(names(leases))
        for lease in leases:
            await end(store, lease)
    assert seen == [["a1", "b1", "c1"], ["a2", "b2"], ["a3"]]


async def test_while_one_is_leased_nothing_of_its_resource_is_handed_out(store: Store) -> None:
    lane_id = await lane_with(store, "a1", "a2")
    [lease] = await claim(store, lane_id)
    await accept(store, "a3")
    assert not await claim(store, lane_id, now=LATER)
    assert not await store.backlogs()
    assert await store.next_due([lane_id]) == {}
    assert await end(store, lease, now=LATER) == Recorded(LATER)
    assert names(await claim(store, lane_id, now=LATER)) == ["a2"]


async def test_retries_hold_their_resource_back_and_no_other(store: Store) -> None:
    lane_id = await lane_with(store, "a1", "a2", "b1")
    head, other = await claim(store, lane_id)
    assert await end(store, head, RetryAt(LATER)) == Recorded(LATER)
    assert await end(store, other) == Recorded(None)
    await accept(store, "b2", "a3")
    assert names(await claim(store, lane_id)) == ["b2"]
    assert await store.next_due([lane_id]) == {lane_id: LATER}
    assert names(await claim(store, lane_id, now=LATER)) == ["a1"]


async def test_what_is_given_up_lets_the_next_go_and_stays_listed(store: Store) -> None:
    lane_id = await lane_with(store, "a1", "a2")
    [head] = await claim(store, lane_id)
    verdict = GiveUp(FailureReason.EXHAUSTED)
    assert await end(store, head, verdict, now=LATER) == Recorded(LATER)
    assert names(await claim(store, lane_id, now=LATER)) == ["a2"]
    query = DeliveryQuery(tenant_id=TENANT, states=frozenset({DeliveryState.FAILED}))
    page = await store.list_deliveries(query, PageRequest(size=9))
    assert [found.event_id for found in page.items] == ["a1"]


async def test_a_lost_lease_lets_nothing_go(store: Store) -> None:
    lane_id = await lane_with(store, "a1", "a2")
    [lost] = await claim(store, lane_id)
    await store.rescue(now=NOW + LEASE, limit=10)
    assert await end(store, lost, now=LATER) is None
    assert names(await claim(store, lane_id, now=LATER)) == ["a1"]


@pytest.mark.parametrize("how", ["recover", "rescue"])
async def test_a_crash_leaves_the_first_the_first(store: Store, how: str) -> None:
    lane_id = await lane_with(store, "a1", "a2", "b1")
    await claim(store, lane_id)
    if how == "recover":
        await store.recover(now=LATER)
    else:
        await store.rescue(now=LATER, limit=10)
    assert names(await claim(store, lane_id, now=LATER)) == ["a1", "b1"]


async def test_pause_and_a_new_endpoint_leave_the_order_as_it_is(store: Store) -> None:
    stored = await store.create(subscription(ordered=True))
    lane_id = stored.lane_id
    await accept(store, "a1")
    [lease] = await claim(store, lane_id)
    paused = await store.replace(replace(stored, state=State.PAUSED), now=NOW)
    await accept(store, "a2", "a3")
    assert await end(store, lease, RetryAt(NOW)) == Recorded(NOW)
    assert not await claim(store, lane_id)
    moved = replace(paused, state=State.ACTIVE, endpoint_uri="https://elsewhere.example/")
    assert (await store.replace(moved, now=NOW)).ordered
    seen = []
    while leases := await claim(store, lane_id):
        seen += names(leases)
        await end(store, leases[0])
    assert seen == ["a1", "a2", "a3"]


async def test_lanes_and_tenants_keep_their_own_order(store: Store) -> None:
    ours = await ordered_lane(store)
    second = await ordered_lane(store, "second")
    theirs = await ordered_lane(store, tenant="other")
    loose = (await store.create(subscription("loose"))).lane_id
    await accept(store, "a1", "a2")
    await accept(store, "a1", "a2", tenant="other")
    for lane_id in (ours, second, theirs):
        assert names(await claim(store, lane_id)) == ["a1"]
    assert names(await claim(store, loose)) == ["a1", "a2"]


async def test_types_of_resources_do_not_mix(store: Store) -> None:
    lane_id = await ordered_lane(store)
    account = event("e1", resource="1")
    other = replace(account, event_id=event("e2").event_id)
    other = replace(other, resource=replace(account.resource, type="quota"))
    await store.accept([account, other], now=NOW)
    assert names(await claim(store, lane_id)) == ["e1", "e2"]


async def test_concurrent_publishers_get_one_place_each(store: Store) -> None:
    lane_id = await ordered_lane(store)
    await asyncio.gather(*(accept(store, f"a{n}", f"b{n}") for n in range(20)))
    query = DeliveryQuery(tenant_id=TENANT)
    page = await store.list_deliveries(query, PageRequest(size=100))
    accepted = [found.event_id for found in reversed(page.items)]
    seen = []
    while leases := await claim(store, lane_id):
        assert len({name[0] for name in names(leases)}) == len(leases)
        seen += names(leases)
        for lease in leases:
            await end(store, lease)
    for resource in "ab":
        assert [n for n in seen if n[0] == resource] == [n for n in accepted if n[0] == resource]


async def test_duplicates_and_refused_calls_take_no_place(store: Store) -> None:
    lane_id = await lane_with(store, "a1")
    [lease] = await claim(store, lane_id)
    await end(store, lease)
    conflict = event("a1", resource="b", content="other")
    calls = (
        store.accept([event("b0", resource="b"), conflict], now=NOW),
        store.accept([event("a1", resource="a"), event("b1", resource="b")], now=NOW),
        store.accept([event("b2", resource="b"), event("b2", resource="b")], now=NOW),
    )
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(answers[0], EventIdConflict)
    [lease] = await claim(store, lane_id)
    assert lease.event_id == "b1"
    await end(store, lease)
    assert names(await claim(store, lane_id)) == ["b2"]


async def test_answers_name_the_lanes_in_which_something_may_go(store: Store) -> None:
    lane_id = await ordered_lane(store)
    loose = (await store.create(subscription("loose"))).lane_id
    answers = await store.accept(
        [event("a1", resource="a"), event("a2", resource="a"), event("b1", resource="b")], now=NOW
    )
    named = [{lane.lane_id for lane in answer.lanes} for answer in answers]
    assert named == [{lane_id, loose}, {loose}, {lane_id, loose}]
    assert [answer.delivery_count for answer in answers] == [2, 2, 2]


async def test_one_that_waits_behind_another_has_no_time_of_its_next_attempt(
    store: Store,
) -> None:
    lane_id = await lane_with(store, "a1", "a2")
    page = await store.list_deliveries(DeliveryQuery(tenant_id=TENANT), PageRequest(size=9))
    assert [(d.event_id, d.next_attempt_time) for d in page.items] == [("a2", None), ("a1", NOW)]
    assert all(found.state is DeliveryState.PENDING for found in page.items)
    [lease] = await claim(store, lane_id)
    await end(store, lease, now=LATER)
    page = await store.list_deliveries(DeliveryQuery(tenant_id=TENANT), PageRequest(size=9))
    assert page.items[0].next_attempt_time == LATER


async def test_deletion_cancels_all_that_stands_in_line(store: Store, path: Path) -> None:
    lane_id = await lane_with(store, "a1", "a2", "a3", "b1", "b2")
    [lease] = await claim(store, lane_id, count=1)
    name = subscription().subscription_id
    await store.delete(TENANT, name, etag=None, now=NOW)
    assert await store.cancel_waiting(lane_id, limit=2, now=NOW) == 2
    assert await store.deleted_lanes() == [lane_id]
    assert await store.cancel_waiting(lane_id, limit=9, now=NOW) == 2
    assert await store.deleted_lanes() == []
    await end(store, lease)
    assert standing(path) == {}
    page = await store.list_deliveries(DeliveryQuery(tenant_id=TENANT), PageRequest(size=9))
    states = [found.state.name for found in reversed(page.items)]
    assert states == ["SUCCEEDED", "CANCELED", "CANCELED", "CANCELED", "CANCELED"]


async def test_a_reopened_one_goes_before_all_that_were_accepted_later(store: Store) -> None:
    lane_id = await lane_with(store, "a1", "a2", "a3")
    [first] = await claim(store, lane_id)
    await end(store, first, GiveUp(FailureReason.EXHAUSTED))
    await store.repairs.retry(first.key, now=NOW)
    assert names(await claim(store, lane_id)) == ["a1"]


async def test_a_reopened_one_waits_for_the_one_that_is_under_way(store: Store) -> None:
    lane_id = await lane_with(store, "a1", "a2", "a3")
    [first] = await claim(store, lane_id)
    await end(store, first, GiveUp(FailureReason.EXHAUSTED))
    [second] = await claim(store, lane_id)
    await store.repairs.retry(first.key, now=NOW)
    assert not await claim(store, lane_id)
    await end(store, second)
    assert names(await claim(store, lane_id)) == ["a1"]


async def test_a_reopened_one_goes_before_a_younger_one_that_is_to_be_retried(
    store: Store,
) -> None:
    lane_id = await lane_with(store, "a1", "a2")
    [first] = await claim(store, lane_id)
    await end(store, first, GiveUp(FailureReason.EXHAUSTED))
    [second] = await claim(store, lane_id)
    await store.repairs.retry(first.key, now=NOW)
    assert await end(store, second, RetryAt(LATER)) == Recorded(NOW)
    [again] = await claim(store, lane_id)
    assert again.key == first.key
    assert await end(store, again) == Recorded(LATER)
    [third] = await claim(store, lane_id, now=LATER)
    assert (third.key, third.tries) == (second.key, 1)


async def test_a_reopened_one_of_a_lane_without_order_just_waits(store: Store) -> None:
    lane_id = (await store.create(subscription())).lane_id
    await accept(store, "a1", "a2")
    first, _ = await claim(store, lane_id)
    await end(store, first)
    await store.repairs.retry(first.key, now=NOW)
    assert names(await claim(store, lane_id)) == ["a1"]
