"""Deliveries that are under way whenever the process dies are given up, one for each crash."""

from datetime import timedelta

import pytest

from signalpost.domain.delivery import Delivery, DeliveryState, FailureReason
from signalpost.domain.outcome import Outcome
from signalpost.domain.verdict import RetryAt
from signalpost.ports import DeliveryQuery, PageRequest
from signalpost.store import Store
from tests.contract.material import LEASE, NOW, TENANT, claim, ended, event, subscription

SECOND = timedelta(seconds=1)


async def crash(store: Store, way: str, *, hours: int) -> None:
    """Let a process die; the leases it held are taken back by the given way."""
    now = NOW + timedelta(hours=hours)
    if way == "recover":
        await store.recover(now=now)
    else:
        await store.rescue(now=now, limit=100)


async def only_one(store: Store) -> Delivery:
    page = await store.list_deliveries(DeliveryQuery(tenant_id=TENANT), PageRequest(size=2))
    [found] = page.items
    return await store.get_delivery(found.key)


@pytest.mark.parametrize("way", ["recover", "rescue"])
async def test_the_third_crash_in_a_row_ends_a_delivery(store: Store, way: str) -> None:
    lane_id = (await store.create(subscription())).lane_id
    await store.accept([event("deadly")], now=NOW)
    for hours in (1, 2, 3):
        assert await store.backlogs()
        await claim(store, lane_id, now=NOW + timedelta(hours=hours) - LEASE)
        await crash(store, way, hours=hours)
    found = await only_one(store)
    assert (found.state, found.failure_reason) == (DeliveryState.FAILED, FailureReason.INTERNAL)
    assert [attempt.result.error_code for attempt in found.attempts] == [
        "OUTCOME_UNKNOWN",
        "OUTCOME_UNKNOWN",
        "QUARANTINED",
    ]
    assert not await store.backlogs()
    # It is a dead letter like any other one: whoever sends it again begins anew.
    await store.repairs.retry(found.key, now=NOW + 4 * timedelta(hours=1))
    await claim(store, lane_id, now=NOW + timedelta(hours=5) - LEASE)
    await crash(store, way, hours=5)
    assert (await only_one(store)).state is DeliveryState.PENDING


async def test_crashes_that_an_answer_came_between_are_not_in_a_row(store: Store) -> None:
    lane_id = (await store.create(subscription())).lane_id
    await store.accept([event("unlucky")], now=NOW)
    for round_ in range(5):
        for crashed in (True, True, False):
            [lease] = await claim(store, lane_id, now=NOW + round_ * LEASE)
            if crashed:
                await store.recover(now=NOW + round_ * LEASE)
            else:
                refused = ended(lease, RetryAt(NOW), outcome=Outcome.REJECTED)
                assert await store.record(refused, now=NOW)
    assert (await only_one(store)).state is DeliveryState.PENDING


async def test_those_beside_it_go_again_apart_from_each_other_and_are_taken(store: Store) -> None:
    lane_id = (await store.create(subscription())).lane_id
    await store.accept([event(f"e{number}") for number in range(4)], now=NOW)
    for _ in range(2):
        assert len(await claim(store, lane_id)) == 4
        await store.recover(now=NOW)
    for number in range(3):
        [lease] = await claim(store, lane_id, now=NOW + number * SECOND)
        assert lease.event_id == f"e{number}"
        assert await store.record(ended(lease), now=NOW + number * SECOND)
    [deadly] = await claim(store, lane_id, now=NOW + 3 * SECOND)
    await store.recover(now=NOW + 4 * SECOND)
    found = await store.get_delivery(deadly.key)
    assert (found.event_id, found.failure_reason) == ("e3", FailureReason.INTERNAL)
    assert not await store.backlogs()


async def test_one_crash_ends_one_delivery_at_most(store: Store) -> None:
    lane_id = (await store.create(subscription())).lane_id
    await store.accept([event(f"e{number}") for number in range(9)], now=NOW)
    now = NOW
    for crashes in range(1, 7):
        expected = min(9, 9 - (crashes - 3))
        assert len(await claim(store, lane_id, count=expected - 1, now=now)) == expected - 1
        assert len(await claim(store, lane_id, now=now + SECOND)) == 1
        assert await store.recover(now=now + SECOND) == expected
        now += timedelta(hours=1)


async def test_of_those_that_go_together_a_crash_ends_none(store: Store) -> None:
    lane_id = (await store.create(subscription())).lane_id
    await store.accept([event(f"e{number}") for number in range(2)], now=NOW)
    now = NOW
    for hour in range(9):
        now = NOW + timedelta(hours=hour)
        assert len(await claim(store, lane_id, now=now)) == 2
        assert await store.recover(now=now) == 2
    assert len(await claim(store, lane_id, now=now + 31 * SECOND)) == 1
    assert len(await claim(store, lane_id, now=now + 32 * SECOND)) == 1
