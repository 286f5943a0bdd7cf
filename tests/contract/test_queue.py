"""Handing out deliveries under leases, and taking back what became of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from signalpost.domain.delivery import Delivery, DeliveryState, FailureReason, Lease, Trigger
from signalpost.domain.ids import LaneId
from signalpost.domain.outcome import Outcome, Timings
from signalpost.domain.subscription import State
from signalpost.domain.verdict import GiveUp, RetryAt
from signalpost.ports import Backlog, DeliveryQuery, PageRequest, Pick, Recorded
from signalpost.store import Store
from tests.contract.material import LEASE, NOW, TENANT, claim, ended, event, lane, subscription

LATER = NOW + timedelta(minutes=5)


async def lane_with(store: Store, *event_ids: str, name: str = "sub") -> LaneId:
    lane_id = (await store.create(subscription(name))).lane_id
    await store.accept([event(event_id) for event_id in event_ids], now=NOW)
    return lane_id


async def leased(store: Store) -> Lease:
    lane_id = await lane_with(store, "e1")
    [lease] = await claim(store, lane_id)
    return lease


async def state_of(store: Store, lease: Lease) -> Delivery:
    return await store.get_delivery(lease.key)


async def test_lease_says_all_that_an_attempt_needs(store: Store) -> None:
    lane_id = await lane_with(store)
    stored = event("e1", content='{"a":1}', publish_time=NOW - timedelta(seconds=1))
    await store.accept([stored], now=NOW)
    [lease] = await claim(store, lane_id)
    assert lease == Lease(
        key=lease.key,
        lane_id=lane_id,
        token=lease.token,
        number=1,
        tries=0,
        set_start=None,
        due=NOW,
        trigger=Trigger.SCHEDULED,
        subscription_version=1,
        event_id=stored.event_id,
        event_type=stored.event_type,
        tenant_id=TENANT,
        accept_time=stored.publish_time,
        traceparent=stored.traceparent,
        body=stored.body,
    )


async def test_lease_names_the_present_version_of_the_subscription(store: Store) -> None:
    stored = await store.create(subscription())
    await store.accept([event("e1")], now=NOW)
    await store.replace(stored, now=NOW)
    [lease] = await claim(store, stored.lane_id)
    assert lease.subscription_version == 2


async def test_claim_takes_the_longest_due_up_to_the_count_of_each_lane(store: Store) -> None:
    first = await lane_with(store, name="first")
    second = await lane_with(store, name="second")
    for number in range(4):
        now = NOW + timedelta(seconds=number)
        await store.accept([event(f"e{number}", publish_time=now)], now=now)
    leases = await store.claim(
        [Pick(first, 2), Pick(second, 3), Pick(LaneId(99), 5)],
        now=NOW + timedelta(seconds=2),
        lease_until=LATER,
    )
    taken = [(lease.lane_id, lease.event_id) for lease in leases]
    assert taken == [(first, "e0"), (first, "e1"), *((second, f"e{n}") for n in range(3))]


async def test_claim_of_what_is_leased_or_not_due_gets_nothing(store: Store) -> None:
    lane_id = await lane_with(store, "e1")
    assert not await claim(store, lane_id, now=NOW - timedelta(microseconds=1))
    assert len(await claim(store, lane_id)) == 1
    assert not await claim(store, lane_id)


async def test_concurrent_claims_never_share_a_delivery(store: Store) -> None:
    lane_id = await lane_with(store, *(f"e{n}" for n in range(50)))
    claims = await asyncio.gather(*(claim(store, lane_id, count=7) for _ in range(10)))
    keys = [lease.key for leases in claims for lease in leases]
    assert len(keys) == len(set(keys)) == 50


@pytest.mark.parametrize("state", [State.PAUSED, State.SUSPENDED])
async def test_inactive_lane_hands_out_nothing_until_it_is_resumed(
    store: Store, state: State
) -> None:
    stored = await store.create(subscription(state=state))
    await store.accept([event("e1")], now=NOW)
    lane_id = stored.lane_id
    assert not await claim(store, lane_id)
    assert not await store.backlogs()
    assert not await store.next_due([lane_id])
    await store.replace(replace(stored, state=State.ACTIVE), now=NOW)
    assert await store.backlogs() == [Backlog(lane(lane_id), NOW)]
    assert await store.next_due([lane_id]) == {lane_id: NOW}
    assert len(await claim(store, lane_id)) == 1


async def test_backlogs_and_next_due_tell_the_first_that_waits(store: Store) -> None:
    lane_id = await lane_with(store)
    assert not await store.backlogs()
    for number in (1, 0, 2):
        now = NOW + timedelta(seconds=number)
        await store.accept([event(f"e{number}", publish_time=now)], now=now)
    assert await store.backlogs() == [Backlog(lane(lane_id), NOW)]
    await claim(store, lane_id, count=1, now=LATER)
    assert await store.next_due([lane_id, LaneId(99)]) == {lane_id: NOW + timedelta(seconds=1)}
    await claim(store, lane_id, now=LATER)
    assert await store.next_due([lane_id]) == {}
    assert await store.next_due([]) == {}


async def test_success_ends_the_delivery(store: Store) -> None:
    lease = await leased(store)
    record = ended(
        lease,
        timings=Timings(dns=timedelta(milliseconds=1), wait=timedelta(microseconds=7)),
        status_code=204,
        response_body=b"\xff\0ok",
        response_truncated=True,
        retry_after="120",
        remote_address="192.0.2.1:443",
    )
    assert await store.record(record, now=LATER)
    found = await state_of(store, lease)
    assert (found.state, found.failure_reason) == (DeliveryState.SUCCEEDED, FailureReason.NONE)
    assert (found.end_time, found.next_attempt_time, found.attempt_count) == (LATER, None, 1)
    assert found.attempts == (record.attempt,)
    assert not await claim(store, lease.lane_id, now=LATER + LEASE)
    assert not await store.backlogs()


@pytest.mark.parametrize("reason", [FailureReason.EXHAUSTED, FailureReason.EXPIRED])
async def test_giving_up_ends_the_delivery_as_failed(store: Store, reason: FailureReason) -> None:
    lease = await leased(store)
    refused = ended(lease, GiveUp(reason), outcome=Outcome.REJECTED, status_code=500)
    assert await store.record(refused, now=LATER)
    found = await state_of(store, lease)
    assert (found.state, found.failure_reason) == (DeliveryState.FAILED, reason)
    assert (found.end_time, found.next_attempt_time) == (LATER, None)
    assert not await claim(store, lease.lane_id, now=LATER + LEASE)


async def test_retry_waits_until_it_is_due_and_counts(store: Store) -> None:
    first = await leased(store)
    began = NOW + timedelta(seconds=1)
    retry = ended(first, RetryAt(LATER), outcome=Outcome.TIMED_OUT, start=began)
    assert await store.record(retry, now=NOW) == Recorded(LATER)
    waiting = await state_of(store, first)
    assert (waiting.state, waiting.next_attempt_time) == (DeliveryState.PENDING, LATER)
    assert (waiting.attempt_count, waiting.end_time) == (1, None)
    assert not await claim(store, first.lane_id, now=LATER - timedelta(microseconds=1))

    [second] = await claim(store, first.lane_id, now=LATER)
    assert (second.number, second.tries, second.set_start) == (2, 1, began)
    assert second.due == LATER
    assert second.token > first.token
    again = ended(second, RetryAt(LATER), outcome=Outcome.TIMED_OUT, start=LATER)
    assert await store.record(again, now=LATER)
    [third] = await claim(store, first.lane_id, now=LATER)
    assert (third.number, third.tries, third.set_start) == (3, 2, began)


async def test_attempt_that_is_not_charged_leaves_the_set_as_it_was(store: Store) -> None:
    first = await leased(store)
    free = ended(first, RetryAt(NOW, charged=False), outcome=Outcome.INTERRUPTED)
    assert await store.record(free, now=NOW)
    [second] = await claim(store, first.lane_id)
    assert (second.number, second.tries, second.set_start) == (2, 0, None)


async def test_record_after_lease_loss_changes_nothing(store: Store) -> None:
    lost = await leased(store)
    await store.rescue(now=NOW + LEASE, limit=10)
    before = await state_of(store, lost)
    assert not await store.record(ended(lost), now=LATER)
    assert await state_of(store, lost) == before
    [new] = await claim(store, lost.lane_id, now=LATER)
    assert not await store.record(ended(lost), now=LATER)
    assert await store.record(ended(new), now=LATER)
    assert not await store.record(ended(new), now=LATER)
    assert (await state_of(store, lost)).attempt_count == 2


async def test_late_success_that_still_holds_its_lease_counts(store: Store) -> None:
    lease = await leased(store)
    assert await store.record(ended(lease), now=NOW + 2 * LEASE)
    assert (await state_of(store, lease)).state is DeliveryState.SUCCEEDED


async def test_concurrent_records_of_one_lease_count_once(store: Store) -> None:
    lease = await leased(store)
    answers = await asyncio.gather(*(store.record(ended(lease), now=NOW) for _ in range(20)))
    assert [answer is not None for answer in answers].count(True) == 1
    assert (await state_of(store, lease)).attempt_count == 1


async def test_result_that_cannot_be_stored_fails_alone(store: Store) -> None:
    lane_id = await lane_with(store, *(f"e{n}" for n in range(20)))
    leases = await claim(store, lane_id)
    records = [
        ended(lease, status_code=10**30 if number == 7 else 200)
        for number, lease in enumerate(leases)
    ]
    calls = (store.record(record, now=NOW) for record in records)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(answers[7], OverflowError)
    assert answers[:7] + answers[8:] == [Recorded(None)] * 19
    assert await store.record(ended(leases[7]), now=NOW)


async def test_texts_of_the_network_are_stored_whatever_they_hold(store: Store) -> None:
    lease = await leased(store)
    strange = "nul \0 and half a pair \ud800"
    record = ended(lease, error_message=strange, retry_after=strange)
    assert await store.record(record, now=NOW)
    [attempt] = (await state_of(store, lease)).attempts
    assert attempt.result.error_message == "nul \ufffd and half a pair ?"


async def test_recovery_takes_up_every_lease_at_once(store: Store) -> None:
    lane_id = await lane_with(store, "e1", "e2", "e3")
    leases = await claim(store, lane_id, count=2)
    assert await store.recover(now=LATER) == 2
    for lease in leases:
        found = await state_of(store, lease)
        assert (found.state, found.next_attempt_time) == (DeliveryState.PENDING, LATER)
        [attempt] = found.attempts
        assert (attempt.number, attempt.start_time) == (1, NOW)
        assert attempt.result.outcome is Outcome.INTERRUPTED
        assert attempt.result.error_message
        assert not await store.record(ended(lease), now=LATER)
    untouched, again, _ = await claim(store, lane_id, now=LATER)
    assert (untouched.event_id, untouched.number) == ("e3", 1)
    assert (again.event_id, again.number, again.tries, again.set_start) == ("e1", 2, 0, None)
    assert again.token > leases[0].token
    assert await store.recover(now=LATER) == 3
    assert await store.recover(now=LATER) == 0


async def test_rescue_takes_back_expired_leases_only(store: Store) -> None:
    first = await lane_with(store, "e1", "e2", name="first")
    second = (await store.create(subscription("second"))).lane_id
    await store.accept([event("e3")], now=NOW)
    await claim(store, first)
    await claim(store, second, now=NOW + timedelta(seconds=1))
    assert not await store.rescue(now=NOW + LEASE - timedelta(microseconds=1), limit=10)
    assert await store.rescue(now=NOW + LEASE, limit=1) == [lane(first)]
    assert await store.rescue(now=NOW + LEASE, limit=10) == [lane(first)]
    assert not await store.rescue(now=NOW + LEASE, limit=10)
    again = await claim(store, first, now=NOW + LEASE)
    assert [lease.number for lease in again] == [2, 2, 2]


async def test_deleted_lane_hands_out_nothing_and_is_emptied_in_chunks(store: Store) -> None:
    lane_id = await lane_with(store, *(f"e{n}" for n in range(5)))
    await store.delete(TENANT, subscription().subscription_id, etag=None, now=NOW)
    assert not await claim(store, lane_id)
    assert not await store.backlogs()
    assert not await store.next_due([lane_id])
    assert await store.deleted_lanes() == [lane_id]
    assert [await store.cancel_waiting(lane_id, limit=3, now=LATER) for _ in range(3)] == [3, 2, 0]
    assert not await store.deleted_lanes()
    page = await store.list_deliveries(DeliveryQuery(tenant_id=TENANT), PageRequest(size=9))
    assert {(found.state, found.end_time) for found in page.items} == {
        (DeliveryState.CANCELED, LATER)
    }


async def test_attempt_under_way_outlives_its_subscription_only_by_success(
    store: Store,
) -> None:
    lane_id = await lane_with(store, "taken", "refused", "given-up", "rescued", "recovered")
    leases = {lease.event_id: lease for lease in await claim(store, lane_id, count=4)}
    [late] = await store.claim([Pick(lane_id, 1)], now=NOW, lease_until=NOW + 9 * LEASE)
    assert late.event_id == "recovered"
    await store.delete(TENANT, subscription().subscription_id, etag=None, now=NOW)
    assert await store.cancel_waiting(lane_id, limit=9, now=NOW) == 0

    rejected = Outcome.REJECTED
    taken, refused, given_up, rescued = leases.values()
    assert await store.record(ended(taken), now=LATER)
    assert await store.record(ended(refused, RetryAt(LATER), outcome=rejected), now=LATER)
    over = GiveUp(FailureReason.EXHAUSTED)
    assert await store.record(ended(given_up, over, outcome=rejected), now=LATER)
    assert await store.rescue(now=NOW + LEASE, limit=9) == []
    assert await store.recover(now=LATER) == 1

    canceled = (DeliveryState.CANCELED, FailureReason.NONE, 1)
    for lease in (refused, given_up, rescued, late):
        found = await state_of(store, lease)
        assert (found.state, found.failure_reason, len(found.attempts)) == canceled
    assert (await state_of(store, taken)).state is DeliveryState.SUCCEEDED
    assert not await store.deleted_lanes()
