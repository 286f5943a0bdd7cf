"""Showing deliveries."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from signalpost.domain.delivery import DeliveryState, FailureReason
from signalpost.domain.errors import NotFound
from signalpost.domain.filter import EventFilter
from signalpost.domain.ids import DeliveryKey, EventId, LaneId, SubscriptionId, TenantId
from signalpost.domain.outcome import Outcome
from signalpost.domain.verdict import GiveUp, RetryAt
from signalpost.ports import DeliveryQuery, PageRequest
from signalpost.store import Store
from tests.contract.material import NOW, TENANT, claim, ended, event, subscription

ALL = PageRequest(size=1000)


async def listed(store: Store, **query: Any) -> list[tuple[str, str]]:
    page = await store.list_deliveries(DeliveryQuery(**{"tenant_id": TENANT, **query}), ALL)
    return [(found.event_id, found.subscription_id) for found in page.items]


async def test_missing_delivery_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.get_delivery(DeliveryKey(1))


async def test_new_delivery_shows_its_event(store: Store) -> None:
    await store.create(subscription())
    stored = event("e1", publish_time=NOW - timedelta(seconds=1))
    await store.accept([stored], now=NOW)
    page = await store.list_deliveries(DeliveryQuery(tenant_id=TENANT), ALL)
    [found] = page.items
    assert await store.get_delivery(found.key) == found
    assert (found.event_id, found.event_type) == (stored.event_id, stored.event_type)
    assert (found.resource, found.traceparent) == (stored.resource, stored.traceparent)
    assert (found.subscription_id, found.tenant_id) == ("sub", TENANT)
    assert (found.state, found.failure_reason) == (DeliveryState.PENDING, FailureReason.NONE)
    assert (found.create_time, found.next_attempt_time, found.end_time) == (NOW, NOW, None)
    assert (found.attempt_count, found.attempts) == (0, ())


async def attempted(store: Store, lane_id: LaneId, times: int) -> DeliveryKey:
    [lease] = await claim(store, lane_id)
    for number in range(times):
        retry = ended(lease, RetryAt(NOW), outcome=Outcome.REJECTED, response_body=b"%d" % number)
        assert await store.record(retry, now=NOW)
        [lease] = await claim(store, lane_id)
    return lease.key


async def test_last_hundred_attempts_are_shown_in_their_order(store: Store) -> None:
    lane_id = (await store.create(subscription())).lane_id
    await store.accept([event("e1")], now=NOW)
    key = await attempted(store, lane_id, 103)
    found = await store.get_delivery(key)
    assert found.attempt_count == 103
    assert [attempt.number for attempt in found.attempts] == list(range(4, 104))
    page = await store.list_deliveries(DeliveryQuery(tenant_id=TENANT), ALL)
    [shown] = page.items
    assert shown.attempts == found.attempts[-1:]


async def test_page_of_deliveries_ends_at_its_bytes(store: Store) -> None:
    lane_id = (await store.create(subscription())).lane_id
    await store.accept([event(f"e{n}") for n in range(5)], now=NOW)
    for lease in await claim(store, lane_id):
        assert await store.record(ended(lease, response_body=b"x" * 4096), now=NOW)
    seen: list[str] = []
    after: str | None = None
    sizes = []
    for max_bytes in (10_000, 1, 10_000, 10_000):
        page = await store.list_deliveries(
            DeliveryQuery(tenant_id=TENANT), PageRequest(size=9, max_bytes=max_bytes, after=after)
        )
        sizes.append(len(page.items))
        seen += [found.event_id for found in page.items]
        after = page.next_after
        if after is None:
            break
    assert sizes == [2, 1, 2]
    assert seen == ["e4", "e3", "e2", "e1", "e0"]


async def test_list_is_newest_first_and_stable_while_deliveries_come_in(store: Store) -> None:
    await store.create(subscription("a"))
    await store.create(subscription("b"))
    await store.accept([event(f"e{n}") for n in range(3)], now=NOW)
    everything = [(f"e{n}", name) for n in (2, 1, 0) for name in ("b", "a")]
    assert await listed(store) == everything
    seen: list[tuple[str, str]] = []
    after: str | None = None
    for number in range(3):
        page = await store.list_deliveries(
            DeliveryQuery(tenant_id=TENANT), PageRequest(size=2, after=after)
        )
        seen += [(found.event_id, found.subscription_id) for found in page.items]
        after = page.next_after
        await store.accept([event(f"late{number}")], now=NOW)
    assert (seen, after) == (everything, None)


async def test_list_keeps_to_what_was_asked(store: Store) -> None:
    await store.create(subscription("a"))
    await store.create(subscription("b"))
    await store.create(subscription("a", tenant="other"))
    hour = timedelta(hours=1)
    await store.accept([event("e1"), event("e1", tenant="other")], now=NOW)
    await store.accept([event("e2", event_type="quota.exceeded")], now=NOW + hour)

    a, e1 = SubscriptionId("a"), EventId("e1")
    assert await listed(store, subscription_id=a) == [("e2", "a"), ("e1", "a")]
    assert await listed(store, event_id=e1) == [("e1", "b"), ("e1", "a")]
    assert await listed(store, event_id=e1, subscription_id=a) == [("e1", "a")]
    assert await listed(store, start=NOW + hour) == [("e2", "b"), ("e2", "a")]
    assert await listed(store, end=NOW + hour) == [("e1", "b"), ("e1", "a")]
    quota = EventFilter(event_types=frozenset({"quota.*"}))
    assert await listed(store, filter=quota) == [("e2", "b"), ("e2", "a")]
    assert await listed(store, subscription_id=SubscriptionId("c")) == []
    assert await listed(store, tenant_id=TenantId("other")) == [("e1", "a")]
    assert len(await listed(store, tenant_id=None)) == 5
    assert len(await listed(store, tenant_id=None, subscription_id=a)) == 3
    assert len(await listed(store, tenant_id=None, event_id=e1)) == 3


async def test_dead_letters_are_those_that_failed(store: Store) -> None:
    lane_id = (await store.create(subscription())).lane_id
    await store.accept([event(f"e{n}") for n in range(4)], now=NOW)
    failed, succeeded, retried = (await claim(store, lane_id, count=3))[:3]
    over = GiveUp(FailureReason.EXHAUSTED)
    await store.record(ended(failed, over, outcome=Outcome.REJECTED), now=NOW)
    await store.record(ended(succeeded), now=NOW)
    await store.record(ended(retried, RetryAt(NOW), outcome=Outcome.REJECTED), now=NOW)

    async def events_in(*states: DeliveryState) -> list[str]:
        return [found for found, _ in await listed(store, states=frozenset(states))]

    assert await events_in(DeliveryState.FAILED) == [failed.event_id]
    assert await events_in(DeliveryState.PENDING) == ["e3", "e2"]
    assert await events_in(DeliveryState.FAILED, DeliveryState.SUCCEEDED) == ["e1", "e0"]
    dead = frozenset({DeliveryState.FAILED})
    of_lane = await listed(store, states=dead, subscription_id=SubscriptionId("sub"))
    assert of_lane == [(failed.event_id, "sub")]


async def test_deliveries_of_a_deleted_subscription_stay_listed_under_its_name(
    store: Store,
) -> None:
    name = SubscriptionId("sub")
    for number in range(3):
        await store.create(subscription())
        await store.accept([event(f"e{number}")], now=NOW)
        await store.delete(TENANT, name, etag=None, now=NOW)
    assert await listed(store, subscription_id=name) == [(f"e{n}", "sub") for n in (2, 1, 0)]


async def test_one_name_in_many_tenants_is_found_in_all_of_them(store: Store) -> None:
    tenants = [f"t{n}" for n in range(25)]
    for tenant in tenants:
        await store.create(subscription(tenant=tenant))
        await store.create(subscription("another", tenant=tenant))
        await store.accept([event("e1", tenant=tenant)], now=NOW)
    name = SubscriptionId("sub")
    assert await listed(store, tenant_id=None, subscription_id=name) == [("e1", "sub")] * 25
