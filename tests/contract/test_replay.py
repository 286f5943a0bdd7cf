"""Delivering stored events again: which of them, how often, and what a crash costs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from signalpost.domain.delivery import Trigger
from signalpost.domain.errors import NotFound, RequestIdConflict, StateInvalid
from signalpost.domain.filter import EventFilter
from signalpost.domain.ids import ReplayKey, SubscriptionId
from signalpost.domain.replay import ReplayScope
from signalpost.domain.subscription import State
from signalpost.ports import Backlog, Pick
from signalpost.store import Store, replayable
from tests.contract.lines import is_sound, standing
from tests.contract.material import NOW, TENANT, claim, ended, event, lane, subscription
from tests.contract.material import prune as prune_all
from tests.contract.repairing import (
    LATER,
    SUB,
    begun,
    canceled,
    failed_lane,
    lane_with,
    order,
    prune_oldest,
    replayed,
    states,
    worked_off,
)


async def test_a_replayed_delivery_is_the_one_there_was(store: Store) -> None:
    lane_id = await failed_lane(store, "e1")
    [before] = (await store.repairs.find_replayable(order(), after=None, limit=9, now=LATER)).items
    assert await replayed(store, order()) == 1
    assert await store.backlogs() == [Backlog(lane(lane_id), LATER)]
    assert await store.next_due([lane_id]) == {lane_id: LATER}
    [lease] = await claim(store, lane_id, now=LATER)
    assert (lease.key, lease.number, lease.tries) == (before.key, 2, 0)
    assert lease.trigger is Trigger.MANUAL


async def test_canceled_deliveries_count_as_failed(store: Store) -> None:
    await lane_with(store, "e1")
    await canceled(store)
    assert await replayed(store, order(ReplayScope.MISSING)) == 0
    assert await replayed(store, order(ReplayScope.FAILED)) == 1


async def test_a_missing_delivery_is_made_and_made_once(store: Store) -> None:
    await store.accept([event("e1"), event("e2", event_type="quota.exceeded")], now=NOW)
    await store.accept([event("foreign", tenant="other")], now=NOW)
    chosen = EventFilter(event_types=frozenset({"account.*"}))
    lane_id = await lane_with(store, filter=chosen)
    assert await replayed(store, order(ReplayScope.MISSING)) == 1
    assert await replayed(store, order(ReplayScope.MISSING)) == 0
    [lease] = await claim(store, lane_id, now=LATER)
    assert (lease.event_id, lease.number, lease.tries) == ("e1", 1, 0)
    assert await store.record(ended(lease), now=LATER)
    assert await replayed(store, order(ReplayScope.ALL)) == 1


async def test_deliveries_of_other_subscriptions_do_not_count(store: Store) -> None:
    await store.create(subscription("other"))
    await store.accept([event(f"e{number}") for number in range(3)], now=NOW)
    await lane_with(store)
    assert await replayed(store, order(ReplayScope.MISSING)) == 3
    assert await replayed(store, order(ReplayScope.ALL)) == 0


@pytest.mark.parametrize("scope", list(ReplayScope))
async def test_pages_go_through_everything_a_bounded_number_of_rows_at_a_time(
    store: Store, monkeypatch: pytest.MonkeyPatch, scope: ReplayScope
) -> None:
    monkeypatch.setattr(replayable, "PAGE_ROWS", 4)
    if scope is ReplayScope.MISSING:
        await store.accept([event(f"e{number}") for number in range(10)], now=NOW)
        await lane_with(store)
    else:
        await failed_lane(store, *(f"e{number}" for number in range(10)))
    rare = order(scope, filter=EventFilter(resource_ids=frozenset({"nothing"})))
    empty = await store.repairs.find_replayable(rare, after=None, limit=9, now=LATER)
    assert (empty.items, empty.next_position is None) == ([], False)
    assert await replayed(store, rare) == 0
    replay = await worked_off(store, await begun(store, order(scope)), limit=3)
    assert replay.delivery_count == 10
    assert set((await states(store)).values()) == {"PENDING"}


async def test_the_range_is_one_of_publish_times(store: Store) -> None:
    await lane_with(store)
    for number in range(4):
        moment = NOW + timedelta(seconds=number)
        await store.accept([event(f"e{number}", publish_time=moment)], now=moment)
    await canceled(store)
    second, fourth = NOW + timedelta(seconds=1), NOW + timedelta(seconds=3)
    assert await replayed(store, order(start=second, end=fourth)) == 2
    assert sorted(name for name, state in (await states(store)).items() if state == "PENDING") == [
        "e1",
        "e2",
    ]


async def test_what_was_published_before_the_clock_was_set_back_is_found(store: Store) -> None:
    await lane_with(store)
    future = NOW + timedelta(days=3650)
    await store.accept([event("future", publish_time=future)], now=future)
    await store.accept([event("e1")], now=NOW)
    await canceled(store)
    assert await replayed(store, order(end=LATER)) == 1


async def test_replays_fill_what_live_ones_leave_and_get_their_share(store: Store) -> None:
    lane_id = await failed_lane(store, *(f"old{number}" for number in range(10)))
    assert await replayed(store, order()) == 10
    await store.accept([event(f"new{number}") for number in range(10)], now=LATER)

    async def taken(count: int, replays: int) -> tuple[int, int]:
        pick = Pick(lane_id, count, replays)
        leases = await store.claim([pick], now=LATER, lease_until=LATER + timedelta(minutes=1))
        live = sum(lease.event_id.startswith("new") for lease in leases)
        return live, len(leases) - live

    assert await taken(4, 0) == (4, 0)
    assert await taken(4, 1) == (3, 1)
    assert await taken(5, 0) == (3, 2)
    assert await taken(4, 0) == (0, 4)
    assert await taken(9, 0) == (0, 3)


async def test_a_stopped_subscription_is_replayed_into(store: Store) -> None:
    lane_id = await lane_with(store, "e1", state=State.PAUSED)
    await canceled(store)
    replay = await begun(store, order())
    page = await store.repairs.find_replayable(replay.order, after=None, limit=9, now=LATER)
    moved = await store.repairs.queue_page(replay, page, now=LATER)
    assert (moved.lane, moved.replay.delivery_count) == (None, 1)
    assert not await claim(store, lane_id, now=LATER)


async def test_in_an_ordered_lane_replays_take_their_places(store: Store, path: Path) -> None:
    lane_id = await lane_with(store, "e1", "e2", "e3", ordered=True)
    await canceled(store)
    await store.accept([event("e4")], now=LATER)
    assert await replayed(store, order()) == 3
    taken = []
    while leases := await claim(store, lane_id, now=LATER):
        [line] = standing(path).values()
        assert is_sound(line)
        [lease] = leases
        taken.append(lease.event_id)
        assert await store.record(ended(lease), now=LATER)
    assert taken == ["e1", "e2", "e3", "e4"]


async def test_a_page_is_queued_once_whatever_is_repeated(store: Store) -> None:
    lane_id = await failed_lane(store, "e1", "e2")
    replay = await begun(store, order())
    page = await store.repairs.find_replayable(replay.order, after=None, limit=1, now=LATER)
    answers = await asyncio.gather(
        *(store.repairs.queue_page(replay, page, now=LATER) for _ in range(5))
    )
    assert {answer.replay.delivery_count for answer in answers} == {1}
    assert len(await claim(store, lane_id, now=LATER)) == 1


@pytest.mark.parametrize("scope", [ReplayScope.ALL, ReplayScope.MISSING])
async def test_a_page_that_is_repeated_after_its_deliveries_queues_none_again(
    store: Store, scope: ReplayScope
) -> None:
    """As a caller does who did not hear that it was queued."""
    if scope is ReplayScope.MISSING:
        await store.accept([event("e1"), event("e2")], now=NOW)
        lane_id = await lane_with(store)
    else:
        lane_id = await failed_lane(store, "e1", "e2")
    replay = await begun(store, order(scope))
    page = await store.repairs.find_replayable(replay.order, after=None, limit=1, now=LATER)
    await store.repairs.queue_page(replay, page, now=LATER)
    [lease] = await claim(store, lane_id, now=LATER)
    assert await store.record(ended(lease), now=LATER)
    again = await store.repairs.queue_page(replay, page, now=LATER)
    assert (again.replay.delivery_count, again.lane) == (1, None)
    assert await claim(store, lane_id, now=LATER) == []


async def test_a_replay_goes_on_after_a_restart(store: Store, database_url: str) -> None:
    await failed_lane(store, "e1", "e2", "e3")
    replay = await begun(store, order())
    page = await store.repairs.find_replayable(replay.order, after=None, limit=1, now=LATER)
    await store.repairs.queue_page(replay, page, now=LATER)
    await store.aclose()
    again = await Store.open(database_url, master_key=b"m" * 32)
    [replay] = await again.repairs.running_replays()
    assert replay.delivery_count == 1
    assert (await worked_off(again, replay)).delivery_count == 3
    assert not await again.repairs.running_replays()
    await again.aclose()


async def test_at_most_one_replay_of_a_subscription_is_queueing(store: Store) -> None:
    await failed_lane(store, "e1")
    await store.create(subscription("other"))
    replay = await begun(store, order())
    with pytest.raises(StateInvalid, match="is still queueing") as refused:
        await begun(store, order(ReplayScope.ALL))
    assert refused.value.state == "REPLAYING"
    await begun(store, replace(order(), subscription_id=SubscriptionId("other")))
    await worked_off(store, replay)
    await begun(store, order(ReplayScope.ALL))


async def test_of_twenty_orders_at_once_one_begins(store: Store) -> None:
    await failed_lane(store, "e1")
    answers = await asyncio.gather(
        *(begun(store, order()) for _ in range(20)), return_exceptions=True
    )
    assert sum(isinstance(answer, StateInvalid) for answer in answers) == 19


async def test_a_request_is_known_for_a_day(store: Store, database_url: str) -> None:
    await failed_lane(store, "e1")
    name = str(uuid4())
    begin = store.repairs.begin_replay
    replay = await begin(order(), request_id=name, now=LATER)
    assert await begin(order(), request_id=name, now=LATER) == replay
    done = await worked_off(store, replay)
    await store.aclose()
    again = await Store.open(database_url, master_key=b"m" * 32)
    begin = again.repairs.begin_replay
    day_end = LATER + timedelta(days=1)
    assert await begin(order(), request_id=name, now=day_end) == done
    for other in (order(ReplayScope.ALL), order(end=None), order(start=NOW)):
        with pytest.raises(RequestIdConflict):
            await begin(other, request_id=name, now=day_end)
    after = day_end + timedelta(microseconds=1)
    assert (await begin(order(), request_id=name, now=after)).key != replay.key
    await again.aclose()


async def test_a_stopped_replay_queues_no_more(store: Store) -> None:
    await failed_lane(store, "e1")
    replay = await begun(store, order())
    page = await store.repairs.find_replayable(replay.order, after=None, limit=9, now=LATER)
    await store.repairs.stop_replay(TENANT, SUB, now=LATER)
    answer = await store.repairs.queue_page(replay, page, now=LATER)
    assert (answer.replay.ended, answer.replay.delivery_count) == (True, 0)
    assert await states(store) == {"e1": "FAILED"}


async def test_a_replay_ends_with_its_subscription(store: Store) -> None:
    await failed_lane(store, "e1")
    replay = await begun(store, order())
    page = await store.repairs.find_replayable(replay.order, after=None, limit=9, now=LATER)
    await store.delete(TENANT, SUB, etag=None, now=LATER)
    answer = await store.repairs.queue_page(replay, page, now=LATER)
    assert (answer.replay.ended, answer.replay.delivery_count) == (True, 0)
    with pytest.raises(NotFound):
        await store.repairs.find_replayable(replay.order, after=None, limit=9, now=LATER)


@pytest.mark.parametrize("scope", list(ReplayScope))
async def test_an_event_that_is_pruned_meanwhile_is_left_out(
    store: Store, scope: ReplayScope
) -> None:
    if scope is ReplayScope.MISSING:
        await store.accept([event("e1"), event("e2")], now=NOW)
        await lane_with(store)
    else:
        await failed_lane(store, "e1", "e2")
    replay = await begun(store, order(scope))
    page = await store.repairs.find_replayable(replay.order, after=None, limit=9, now=LATER)
    assert len(page.items) == 2
    await prune_oldest(store)
    assert (await store.repairs.queue_page(replay, page, now=LATER)).replay.delivery_count == 1


async def test_what_was_delivered_and_is_no_longer_stored_is_not_missing(store: Store) -> None:
    await store.create(subscription("slow"))
    lane_id = await lane_with(store, "e1", "e2")
    for lease in await claim(store, lane_id):
        assert await store.record(ended(lease), now=NOW)
    week = NOW + timedelta(days=8)
    assert await prune_all(store, now=week) == 2
    await store.accept([event("e3", publish_time=week)], now=week)
    assert await replayed(store, order(ReplayScope.MISSING, end=week)) == 0
    await store.create(subscription("late"))
    missing = order(ReplayScope.MISSING, end=week + timedelta(seconds=1))
    late = replace(missing, subscription_id=SubscriptionId("late"))
    assert await replayed(store, late) == 1


async def test_an_unknown_replay_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.repairs.get_replay(ReplayKey(9))
    await store.repairs.end_replay(ReplayKey(9), now=NOW)
