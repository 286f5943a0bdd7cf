"""Making a delivery due now, whatever state it is in."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from signalpost.domain.delivery import DeliveryState, FailureReason, Lease, Trigger
from signalpost.domain.errors import NotFound, StateInvalid
from signalpost.domain.ids import DeliveryKey
from signalpost.domain.outcome import Outcome
from signalpost.domain.subscription import State
from signalpost.domain.verdict import GiveUp, RetryAt, Succeed, Verdict
from signalpost.store import Store
from tests.contract.material import LEASE, NOW, TENANT, claim, ended, lane
from tests.contract.repairing import (
    LATER,
    SUB,
    canceled,
    failed_lane,
    keys,
    lane_with,
    prune_oldest,
    states,
)


async def leased(store: Store) -> Lease:
    [lease] = await claim(store, await lane_with(store, "e1"))
    return lease


@pytest.mark.parametrize("verdict", [Succeed(), GiveUp(FailureReason.EXPIRED)])
async def test_an_ended_delivery_is_reopened_with_a_new_set_of_attempts(
    store: Store, verdict: Verdict
) -> None:
    lease = await leased(store)
    assert await store.record(ended(lease, RetryAt(NOW), outcome=Outcome.REJECTED), now=NOW)
    [second] = await claim(store, lease.lane_id)
    assert await store.record(ended(second, verdict), now=NOW)
    assert await store.repairs.retry(lease.key, now=LATER) == lane(lease.lane_id)
    reopened = await store.get_delivery(lease.key)
    assert (reopened.state, reopened.failure_reason) == (DeliveryState.PENDING, FailureReason.NONE)
    assert (reopened.end_time, reopened.next_attempt_time) == (None, LATER)
    assert reopened.attempt_count == 2
    [third] = await claim(store, lease.lane_id, now=LATER)
    assert (third.number, third.tries, third.set_start) == (3, 0, None)
    assert third.trigger is Trigger.MANUAL
    assert await store.record(ended(third, RetryAt(LATER), outcome=Outcome.REJECTED), now=LATER)
    [fourth] = await claim(store, lease.lane_id, now=LATER)
    assert (fourth.trigger, fourth.tries) == (Trigger.SCHEDULED, 1)


async def test_no_late_result_of_a_former_lease_matches_a_reopened_delivery(
    store: Store,
) -> None:
    lease = await leased(store)
    former = [lease]
    for number in range(4):
        # In turn it is given up, taken back from its lease, and canceled without an attempt.
        if number % 2:
            assert await store.rescue(now=NOW + LEASE, limit=9)
            assert (await canceled(store)).waiting == 1
        else:
            assert await store.record(ended(former[-1]), now=NOW)
        await store.repairs.retry(lease.key, now=NOW)
        assert (await canceled(store)).waiting == 1
        await store.repairs.retry(lease.key, now=NOW)
        [new] = await claim(store, lease.lane_id)
        assert new.token > max(one.token for one in former)
        for one in former:
            assert await store.record(ended(one), now=NOW) is None
        former.append(new)
    assert await store.record(ended(former[-1]), now=NOW)


async def test_one_that_waits_does_not_wait_for_its_backoff(store: Store) -> None:
    lease = await leased(store)
    refused = ended(lease, RetryAt(LATER), outcome=Outcome.REJECTED)
    assert await store.record(refused, now=NOW)
    soon = NOW + timedelta(seconds=1)
    await store.repairs.retry(lease.key, now=soon)
    assert (await store.get_delivery(lease.key)).next_attempt_time == soon
    [second] = await claim(store, lease.lane_id, now=soon)
    assert (second.number, second.tries, second.set_start) == (2, 1, NOW)
    assert second.trigger is Trigger.MANUAL


async def test_one_that_is_due_keeps_its_place(store: Store) -> None:
    await lane_with(store, "e1", "e2")
    [first, _] = await keys(store)
    await store.repairs.retry(first, now=LATER)
    assert (await store.get_delivery(first)).next_attempt_time == NOW


async def test_one_under_way_stays_and_gets_no_second_lease(store: Store) -> None:
    lease = await leased(store)
    await store.repairs.retry(lease.key, now=LATER)
    assert not await claim(store, lease.lane_id, now=LATER)
    assert await store.record(ended(lease), now=LATER)
    assert await states(store) == {"e1": "SUCCEEDED"}


async def test_one_under_way_that_was_to_be_canceled_goes_on(store: Store) -> None:
    lease = await leased(store)
    assert (await canceled(store)).under_way == 1
    await store.repairs.retry(lease.key, now=NOW)
    assert await store.record(ended(lease, RetryAt(NOW), outcome=Outcome.REJECTED), now=NOW)
    assert len(await claim(store, lease.lane_id)) == 1


async def test_twenty_retries_at_once_are_one(store: Store) -> None:
    lane_id = await failed_lane(store, "e1")
    [key] = await keys(store)
    await asyncio.gather(*(store.repairs.retry(key, now=LATER) for _ in range(20)))
    [lease] = await claim(store, lane_id, now=LATER)
    assert await store.record(ended(lease), now=LATER)
    assert not await claim(store, lane_id, now=LATER)


@pytest.mark.parametrize("state", [State.PAUSED, State.SUSPENDED])
async def test_while_its_subscription_is_stopped_it_waits(store: Store, state: State) -> None:
    lane_id = await failed_lane(store, "e1")
    stored = await store.get(TENANT, SUB)
    stopped = await store.replace(replace(stored, state=state), now=NOW)
    [key] = await keys(store)
    assert await store.repairs.retry(key, now=LATER) is None
    assert not await claim(store, lane_id, now=LATER)
    await store.replace(replace(stopped, state=State.ACTIVE), now=LATER)
    assert len(await claim(store, lane_id, now=LATER)) == 1


async def test_of_a_deleted_subscription_nothing_is_retried(store: Store) -> None:
    await failed_lane(store, "e1")
    [key] = await keys(store)
    await store.delete(TENANT, SUB, etag=None, now=NOW)
    with pytest.raises(StateInvalid, match='subscription "sub" is deleted'):
        await store.repairs.retry(key, now=LATER)
    assert await states(store) == {"e1": "FAILED"}


async def test_of_an_event_that_is_no_longer_stored_nothing_is_retried(store: Store) -> None:
    await failed_lane(store, "e1")
    [key] = await keys(store)
    await prune_oldest(store)
    with pytest.raises(StateInvalid, match="is no longer stored"):
        await store.repairs.retry(key, now=LATER)


async def test_an_unknown_delivery_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.repairs.retry(DeliveryKey(1), now=LATER)
