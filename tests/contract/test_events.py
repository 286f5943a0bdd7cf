"""Accepting events and showing them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from signalpost.domain.delivery import DeliveryState
from signalpost.domain.errors import EventIdConflict, NotFound
from signalpost.domain.filter import EventFilter
from signalpost.domain.ids import EventId, TenantId
from signalpost.domain.subscription import State
from signalpost.ports import DeliveryQuery, EventQuery, PageRequest
from signalpost.store import Store
from tests.contract.material import NOW, TENANT, claim, event, lane, subscription

ALL = PageRequest(size=1000)


async def stored_ids(store: Store, tenant: TenantId | None = TENANT) -> list[str]:
    page = await store.list_events(EventQuery(tenant_id=tenant), ALL)
    return [found.event_id for found in page.items]


async def test_accepted_event_is_read_back_as_it_was(store: Store) -> None:
    original = event("e1", content='{"name":"Zoë\\u0000"}')
    [answer] = await store.accept([original], now=NOW)
    assert (answer.event_id, answer.duplicate, answer.delivery_count) == ("e1", False, 0)
    assert await store.get_event(TENANT, EventId("e1")) == original


async def test_missing_event_and_that_of_another_tenant_are_not_found(store: Store) -> None:
    foreign = event("e1", tenant="other")
    await store.accept([foreign], now=NOW)
    with pytest.raises(NotFound):
        await store.get_event(TENANT, EventId("e1"))
    assert await store.get_event(TenantId("other"), EventId("e1")) == foreign


async def test_event_goes_to_the_subscriptions_that_match_and_to_no_other(store: Store) -> None:
    everything = await store.create(subscription("everything"))
    family = await store.create(
        subscription("family", filter=EventFilter(event_types=frozenset({"account.*"})))
    )
    for name, chosen in {
        "type": EventFilter(event_types=frozenset({"quota.exceeded"})),
        "resource": EventFilter(resource_ids=frozenset({"acc_2"})),
    }.items():
        await store.create(subscription(name, filter=chosen))
    await store.create(subscription("foreign", tenant="other"))

    [answer] = await store.accept([event("e1")], now=NOW)

    assert answer.delivery_count == 2
    assert {lane.lane_id for lane in answer.lanes} == {everything.lane_id, family.lane_id}
    found = await store.list_deliveries(DeliveryQuery(tenant_id=None), ALL)
    assert {delivery.subscription_id for delivery in found.items} == {"everything", "family"}


async def test_lane_of_an_answer_says_how_many_may_fly(store: Store) -> None:
    stored = await store.create(subscription(max_concurrent_attempts=7))
    [answer] = await store.accept([event("e1")], now=NOW)
    assert answer.lanes == (lane(stored.lane_id, max_in_flight=7),)


@pytest.mark.parametrize("state", [State.PAUSED, State.SUSPENDED])
async def test_inactive_subscription_gets_deliveries_but_no_notice(
    store: Store, state: State
) -> None:
    await store.create(subscription(state=state))
    [answer] = await store.accept([event("e1")], now=NOW)
    assert (answer.delivery_count, answer.lanes) == (1, ())


async def test_changes_of_subscriptions_count_from_the_next_event_on(store: Store) -> None:
    async def receivers(event_id: str) -> int:
        return (await store.accept([event(event_id)], now=NOW))[0].delivery_count

    assert await receivers("e0") == 0
    stored = await store.create(subscription())
    assert await receivers("e1") == 1
    chosen = EventFilter(event_types=frozenset({"quota.exceeded"}))
    await store.replace(replace(stored, filter=chosen), now=NOW)
    assert await receivers("e2") == 0
    await store.replace(replace(stored, version=2), now=NOW)
    assert await receivers("e3") == 1
    await store.delete(TENANT, stored.subscription_id, etag=None, now=NOW)
    assert await receivers("e4") == 0


async def test_same_content_again_is_a_duplicate_and_nothing_is_done(store: Store) -> None:
    await store.create(subscription())
    await store.accept([event("e1")], now=NOW)
    await store.create(subscription("later"))
    repeated = event("e1", publish_time=NOW + timedelta(hours=1))
    [answer] = await store.accept([repeated], now=NOW)
    assert (answer.duplicate, answer.delivery_count, answer.lanes) == (True, 1, ())
    assert (await store.get_event(TENANT, EventId("e1"))).publish_time == NOW


async def test_same_event_twice_in_a_call_is_stored_once(store: Store) -> None:
    await store.create(subscription())
    first, second = await store.accept([event("e1"), event("e1")], now=NOW)
    assert (first.duplicate, second.duplicate) == (False, True)
    assert second.delivery_count == 1
    assert await stored_ids(store) == ["e1"]


async def test_other_content_conflicts_and_nothing_of_the_call_is_stored(store: Store) -> None:
    await store.create(subscription())
    await store.accept([event("e1")], now=NOW)
    with pytest.raises(EventIdConflict) as caught:
        await store.accept([event("e2"), event("e1", content="[]")], now=NOW)
    assert (caught.value.index, caught.value.name) == (1, "e1")
    assert await stored_ids(store) == ["e1"]
    found = await store.list_deliveries(DeliveryQuery(tenant_id=TENANT), ALL)
    assert len(found.items) == 1


async def test_conflict_within_a_call_stores_nothing(store: Store) -> None:
    with pytest.raises(EventIdConflict):
        await store.accept([event("e1"), event("e1", content="[]")], now=NOW)
    assert await stored_ids(store) == []


async def test_ids_are_unique_within_a_tenant_only(store: Store) -> None:
    answers = await store.accept([event("e1"), event("e1", tenant="other", content="[]")], now=NOW)
    assert [answer.duplicate for answer in answers] == [False, False]


async def test_concurrent_calls_share_no_fate(store: Store) -> None:
    await store.create(subscription())
    await store.accept([event("taken")], now=NOW)
    bad = [
        store.accept([event(f"bad-{n}"), event("taken", content="[]")], now=NOW) for n in range(10)
    ]
    good = [store.accept([event(f"good-{n}")], now=NOW) for n in range(10)]
    mixed = [call for pair in zip(bad, good, strict=True) for call in pair]
    answers = await asyncio.gather(*mixed, return_exceptions=True)
    assert all(isinstance(answer, EventIdConflict) for answer in answers[::2])
    assert not any(isinstance(answer, BaseException) for answer in answers[1::2])
    assert set(await stored_ids(store)) == {"taken", *(f"good-{n}" for n in range(10))}


async def test_fifty_publishers_of_one_event_store_it_once(store: Store) -> None:
    await store.create(subscription())
    answers = await asyncio.gather(*(store.accept([event("e1")], now=NOW) for _ in range(50)))
    assert sorted(answer.duplicate for [answer] in answers) == [False] + [True] * 49
    assert {answer.delivery_count for [answer] in answers} == {1}
    assert await stored_ids(store) == ["e1"]


async def test_two_contents_at_once_leave_one_event_and_one_refusal(store: Store) -> None:
    calls = (store.accept([event("e1", content=text)], now=NOW) for text in ("{}", "[]"))
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(answer, EventIdConflict) for answer in answers) == 1
    assert await stored_ids(store) == ["e1"]


async def test_canceled_caller_leaves_all_or_nothing(store: Store) -> None:
    lane_id = (await store.create(subscription())).lane_id
    calls = [
        asyncio.create_task(store.accept([event(f"e{n}a"), event(f"e{n}b")], now=NOW))
        for n in range(40)
    ]
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await store.check_writable()

    ids = await stored_ids(store)
    assert {f"e{n[1:-1]}a" for n in ids} == {n for n in ids if n.endswith("a")}
    assert {f"e{n[1:-1]}b" for n in ids} == {n for n in ids if n.endswith("b")}
    assert {lease.event_id for lease in await claim(store, lane_id)} == set(ids)
    assert len(ids) >= 2


async def test_events_accepted_each_on_its_own_leave_out_only_what_conflicts(store: Store) -> None:
    lane_id = (await store.create(subscription())).lane_id
    await store.accept([event("taken")], now=NOW)
    answers = await store.accept_each(
        [event("e1"), event("taken", content="[]"), event("e1", content="[]"), event("e1")],
        now=NOW,
    )
    found = [answer and (answer.event_id, answer.duplicate) for answer in answers]
    assert found == [("e1", False), None, None, ("e1", True)]
    assert await stored_ids(store) == ["e1", "taken"]
    assert [lease.event_id for lease in await claim(store, lane_id)] == ["taken", "e1"]


async def test_calls_begun_one_after_the_other_are_accepted_in_that_order(store: Store) -> None:
    names = [f"e{n}" for n in range(100)]
    calls = [store.accept_each([event(name)], now=NOW) for name in names]
    rivals = [store.accept_each([event(name, content="[]")], now=NOW) for name in names]
    mixed = [call for pair in zip(calls, rivals, strict=True) for call in pair]
    answers = await asyncio.gather(*mixed)
    assert [answer is None for [answer] in answers] == [False, True] * 100
    assert await stored_ids(store) == names[::-1]


async def test_preview_answers_like_accept_and_stores_nothing(store: Store) -> None:
    await store.create(subscription())
    await store.accept([event("old")], now=NOW)
    fresh, twice, old = await store.preview([event("new"), event("new"), event("old")])
    assert (fresh.duplicate, twice.duplicate, old.duplicate) == (False, True, True)
    assert [answer.delivery_count for answer in (fresh, twice, old)] == [1, 1, 1]
    assert fresh.lanes == ()
    with pytest.raises(EventIdConflict):
        await store.preview([event("old", content="[]")])
    assert await stored_ids(store) == ["old"]


async def test_list_is_newest_first_and_stable_while_events_come_in(store: Store) -> None:
    await store.accept([event(f"e{n}") for n in range(7)], now=NOW)
    query = EventQuery(tenant_id=TENANT)
    seen: list[str] = []
    after: str | None = None
    for number in range(3):
        page = await store.list_events(query, PageRequest(size=3, after=after))
        seen += [found.event_id for found in page.items]
        after = page.next_after
        await store.accept([event(f"late{number}")], now=NOW)
    assert seen == [f"e{n}" for n in reversed(range(7))]
    assert after is None


async def test_order_is_that_of_acceptance_even_when_the_clock_is_set_back(store: Store) -> None:
    for number, hours in enumerate((0, 5, -5, 1)):
        moment = NOW + timedelta(hours=hours)
        await store.accept([event(f"e{number}", publish_time=moment)], now=moment)
    assert await stored_ids(store) == ["e3", "e2", "e1", "e0"]


async def test_list_keeps_to_tenant_filter_and_time(store: Store) -> None:
    for hour in range(4):
        moment = NOW + timedelta(hours=hour)
        await store.accept(
            [
                event(f"a{hour}", publish_time=moment),
                event(f"q{hour}", event_type="quota.exceeded", publish_time=moment),
                event(f"o{hour}", tenant="other", publish_time=moment),
            ],
            now=moment,
        )
    query = EventQuery(
        tenant_id=TENANT,
        filter=EventFilter(event_types=frozenset({"account.*"})),
        start=NOW + timedelta(hours=1),
        end=NOW + timedelta(hours=3),
    )
    page = await store.list_events(query, ALL)
    assert [found.event_id for found in page.items] == ["a2", "a1"]
    assert len(await stored_ids(store, tenant=None)) == 12


async def test_page_ends_at_its_bytes_but_is_never_empty_for_that(store: Store) -> None:
    big = '"' + "x" * 50_000 + '"'
    await store.accept([event(f"e{n}", content=big) for n in range(5)], now=NOW)
    sizes = []
    after: str | None = None
    for max_bytes in (120_000, 10, 10_000_000):
        page = await store.list_events(
            EventQuery(tenant_id=TENANT), PageRequest(size=100, max_bytes=max_bytes, after=after)
        )
        sizes.append(len(page.items))
        after = page.next_after
    assert sizes == [2, 1, 2]
    assert after is None


async def test_exactly_full_page_is_the_last_one(store: Store) -> None:
    await store.accept([event("e1"), event("e2")], now=NOW)
    page = await store.list_events(EventQuery(tenant_id=TENANT), PageRequest(size=2))
    assert (len(page.items), page.next_after) == (2, None)


async def test_search_for_the_rare_goes_on_over_short_pages(store: Store) -> None:
    await store.accept([event("rare", event_type="quota.exceeded")], now=NOW)
    for batch in range(2):
        await store.accept([event(f"e{batch}-{n}") for n in range(1000)], now=NOW)
    query = EventQuery(
        tenant_id=TENANT, filter=EventFilter(event_types=frozenset({"quota.exceeded"}))
    )
    pages = [await store.list_events(query, PageRequest(size=10))]
    while (after := pages[-1].next_after) is not None:
        pages.append(await store.list_events(query, PageRequest(size=10, after=after)))
    assert len(pages) > 1
    found = [[one.event_id for one in page.items] for page in pages]
    assert found == [*[[]] * (len(pages) - 1), ["rare"]]


async def test_big_batch_reaches_many_subscriptions(store: Store) -> None:
    for number in range(20):
        await store.create(subscription(f"sub-{number}"))
    answers = await store.accept([event(f"e{n}") for n in range(700)], now=NOW)
    assert {answer.delivery_count for answer in answers} == {20}
    repeated = await store.accept([event(f"e{n}") for n in range(700)], now=NOW)
    assert all(answer.duplicate for answer in repeated)
    page = await store.list_deliveries(
        DeliveryQuery(tenant_id=TENANT, event_id=EventId("e699")), ALL
    )
    assert [found.state for found in page.items] == [DeliveryState.PENDING] * 20
