import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import pytest

from signalpost.delivery import rescuer
from signalpost.delivery.worker import LEASE
from signalpost.domain.delivery import DeliveryState, FailureReason, Lease
from signalpost.domain.ids import LaneId
from signalpost.domain.lane import Lane
from signalpost.domain.outcome import RESPONSE_READ_LIMIT, Outcome
from signalpost.domain.subscription import MAX_TIMEOUT, RetryPolicy, Subscription
from signalpost.ports import Pick, WebhookRequest
from signalpost.store import Store
from tests.contract.material import NOW, event, subscription
from tests.delivery.engine import Engine


async def test_what_is_due_is_delivered(engine: Engine) -> None:
    await engine.store.create(subscription())
    await engine.publish("e1", "e2")
    assert await engine.work() == 2
    assert [d.state for d in await engine.deliveries()] == [DeliveryState.SUCCEEDED] * 2
    assert sorted(r.headers["webhook-id"] for r in engine.sender.requests) == ["e1", "e2"]


async def test_the_schedule_is_that_of_the_policy_and_then_it_gives_up(engine: Engine) -> None:
    policy = RetryPolicy(max_attempts=4, min_backoff=timedelta(seconds=2), backoff_multiplier=3)
    await engine.store.create(subscription(retry_policy=policy))
    engine.sender.outcomes = [Outcome.REJECTED] * 4
    await engine.publish("event")
    assert await engine.work() == 1
    for delay in (2, 6, 18):
        engine.clock.advance(seconds=delay, microseconds=-1)
        assert await engine.work() == 0
        engine.clock.advance(microseconds=1)
        assert await engine.work() == 1
    [delivery] = await engine.deliveries()
    assert (delivery.state, delivery.failure_reason) == (
        DeliveryState.FAILED,
        FailureReason.EXHAUSTED,
    )
    engine.clock.advance(days=30)
    assert await engine.work() == 0


async def test_a_failed_attempt_is_told_with_whose_it_was(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    await engine.store.create(subscription("crm"))
    engine.sender.outcomes = [Outcome.REJECTED]
    await engine.publish("event")
    with caplog.at_level(logging.INFO, "signalpost.delivery.worker"):
        assert await engine.work() == 1
    [told] = [vars(one) for one in caplog.records if one.getMessage() == "attempt"]
    assert (told["subscription_id"], told["event_id"]) == ("crm", "event")
    assert told["outcome"] == "REJECTED"


async def test_no_more_attempts_than_slots_are_under_way(store: Store) -> None:
    engine = Engine(store, slots=3)
    tenants = "acme", "beta", "core", "data"
    for tenant in tenants:
        await store.create(subscription(tenant=tenant))
    events = [event(f"e{n}", tenant=tenant) for tenant in tenants for n in range(10)]
    for accepted in await store.accept(events, now=NOW):
        engine.lanes.notice(accepted.lanes, due=NOW)
    engine.sender.gate.clear()
    assert await engine.worker.run_once() == 3
    assert await engine.worker.run_once() == 0
    engine.sender.gate.set()
    await engine.worker.idle()
    assert await engine.work() == 37


async def test_a_subscription_is_not_sent_more_at_once_than_it_wants(engine: Engine) -> None:
    await engine.store.create(subscription("few", max_concurrent_attempts=2))
    await engine.store.create(subscription("many", max_concurrent_attempts=5))
    await engine.publish(*(f"e{number}" for number in range(10)))
    engine.sender.gate.clear()
    assert await engine.worker.run_once() == 7
    assert await engine.worker.run_once() == 0
    engine.sender.gate.set()
    await engine.worker.idle()
    assert await engine.work() == 13


async def test_a_result_that_comes_after_its_lease_was_lost_changes_nothing(
    engine: Engine,
) -> None:
    await engine.store.create(subscription())
    await engine.publish("event")
    engine.sender.gate.clear()
    await engine.worker.run_once()
    await engine.sender.asked.wait()
    engine.clock.advance(seconds=LEASE.total_seconds() + 1)
    await engine.rescuer.run_once()
    assert await engine.outcomes() == ["INTERRUPTED"]
    engine.sender.gate.set()
    await engine.worker.idle()
    assert await engine.outcomes() == ["INTERRUPTED"]
    assert await engine.work() == 1
    assert await engine.outcomes() == ["INTERRUPTED", "SUCCEEDED"]
    assert engine.store.counts.totals.leases_lost == 1


def test_a_lease_is_longer_than_any_attempt_by_ten_seconds_at_least() -> None:
    assert MAX_TIMEOUT + RESPONSE_READ_LIMIT + timedelta(seconds=10) <= LEASE


async def test_draining_hands_back_what_takes_too_long(engine: Engine) -> None:
    await engine.store.create(subscription())
    await engine.publish("event")
    engine.sender.gate.clear()
    running = asyncio.create_task(engine.worker.run())
    await engine.sender.asked.wait()
    engine.worker.drain(grace=timedelta())
    await running
    [delivery] = await engine.deliveries()
    assert await engine.outcomes() == ["INTERRUPTED"]
    assert (delivery.state, delivery.next_attempt_time) == (DeliveryState.PENDING, NOW)


async def test_what_is_claimed_as_the_service_stops_is_handed_back_and_not_sent(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.store.create(subscription())
    await engine.publish("event")
    claim = engine.store.claim

    async def claim_and_stop(
        picks: Sequence[Pick], *, now: datetime, lease_until: datetime
    ) -> Sequence[Lease]:
        leases = await claim(picks, now=now, lease_until=lease_until)
        engine.worker.drain(grace=timedelta(hours=1))
        return leases

    monkeypatch.setattr(engine.store, "claim", claim_and_stop)
    await engine.worker.run()
    assert engine.sender.requests == []
    [delivery] = await engine.deliveries()
    assert [attempt.result.error_code for attempt in delivery.attempts] == ["SERVICE_STOPPED"]
    assert (delivery.state, delivery.next_attempt_time) == (DeliveryState.PENDING, NOW)


@pytest.mark.parametrize(("timeout", "latest"), [(30, 14), (15, 29), (1, 43)])
async def test_nothing_is_sent_that_might_outlast_its_lease(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, timeout: int, latest: int
) -> None:
    """As after a claim that took long, or a process that stood still."""
    await engine.store.create(subscription(timeout=timedelta(seconds=timeout)))
    claim, late = engine.store.claim, timedelta(seconds=latest)

    async def claim_slowly(
        picks: Sequence[Pick], *, now: datetime, lease_until: datetime
    ) -> Sequence[Lease]:
        leases = await claim(picks, now=now, lease_until=lease_until)
        engine.clock.time += late
        return leases

    monkeypatch.setattr(engine.store, "claim", claim_slowly)
    await engine.publish("in time")
    assert await engine.worker.run_once() == 1
    await engine.worker.idle()
    assert len(engine.sender.requests) == 1
    late += timedelta(microseconds=1)
    await engine.publish("late")
    assert await engine.worker.run_once() == 1
    await engine.worker.idle()
    assert len(engine.sender.requests) == 1
    monkeypatch.undo()
    assert await engine.work() == 1
    found = (await engine.deliveries())[-1]
    assert [attempt.result.error_code for attempt in found.attempts] == ["STARTED_TOO_LATE", ""]
    assert found.state is DeliveryState.SUCCEEDED


async def test_nor_if_it_is_late_for_what_must_be_read_of_its_subscription(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.store.create(subscription())
    load = engine.store.subscriptions_of

    async def load_slowly(lanes: Sequence[LaneId]) -> Mapping[LaneId, Subscription | Exception]:
        engine.clock.time += LEASE
        return await load(lanes)

    monkeypatch.setattr(engine.store, "subscriptions_of", load_slowly)
    await engine.publish("event")
    assert await engine.work() == 2
    assert len(engine.sender.requests) == 1
    assert await engine.outcomes() == ["INTERRUPTED", "SUCCEEDED"]


async def test_a_restart_takes_up_what_waits_and_what_was_in_flight(
    engine: Engine, store: Store
) -> None:
    await engine.store.create(subscription(max_concurrent_attempts=1))
    await engine.publish("e1", "e2")
    engine.sender.gate.clear()
    assert await engine.worker.run_once() == 1
    after = Engine(store)
    await after.rescuer.start()
    assert await after.work() == 2
    assert [d.state for d in await after.deliveries()] == [DeliveryState.SUCCEEDED] * 2
    engine.sender.gate.set()
    await engine.worker.idle()


async def test_a_bug_met_by_one_delivery_does_not_stop_the_others(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.store.create(subscription())
    await engine.publish("bad", "good")
    send = engine.sender.send

    async def fail_for_bad(request: WebhookRequest) -> object:
        if request.headers["webhook-id"] == "bad":
            raise ZeroDivisionError
        return await send(request)

    monkeypatch.setattr(engine.sender, "send", fail_for_bad)
    await engine.work()
    bad, good = await engine.deliveries()
    assert (bad.state, bad.failure_reason) == (DeliveryState.FAILED, FailureReason.INTERNAL)
    assert bad.attempts[0].result.error_code == "INTERNAL"
    assert good.state is DeliveryState.SUCCEEDED


async def test_a_change_of_the_subscription_holds_from_the_next_attempt_on(
    engine: Engine,
) -> None:
    created = await engine.store.create(subscription())
    engine.sender.outcomes = [Outcome.REJECTED]
    await engine.publish("event")
    await engine.work()
    moved = subscription(endpoint_uri="https://elsewhere.example/", version=created.version)
    await engine.store.replace(moved, now=NOW)
    engine.clock.advance(hours=1)
    await engine.work()
    assert [request.endpoint_uri for request in engine.sender.requests] == [
        created.endpoint_uri,
        "https://elsewhere.example/",
    ]


async def test_a_rescan_of_many_lanes_lets_others_go_on_in_between(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescuer, "_CHUNK", 2)
    for number in range(7):
        await engine.store.create(subscription(f"sub-{number}"))
    await engine.store.accept([event("event")], now=NOW)
    notice, at_a_stretch = engine.lanes.notice, [0]

    def counted(lanes: Iterable[Lane], *, due: datetime) -> None:
        at_a_stretch[-1] += 1
        notice(lanes, due=due)

    async def go_on() -> None:
        while True:
            await asyncio.sleep(0)
            at_a_stretch.append(0)

    monkeypatch.setattr(engine.lanes, "notice", counted)
    other = asyncio.create_task(go_on())
    await engine.rescuer.rescan()
    other.cancel()
    assert sum(at_a_stretch) == 7
    assert max(at_a_stretch) == 2
    assert await engine.work() == 7


async def test_the_rescuer_finishes_a_deletion_that_was_cut_short(engine: Engine) -> None:
    created = await engine.store.create(subscription())
    await engine.publish("event")
    await engine.store.delete(
        created.tenant_id, created.subscription_id, etag=None, now=engine.clock.now()
    )
    assert await engine.work() == 0
    await engine.rescuer.run_once()
    [delivery] = await engine.deliveries()
    assert delivery.state is DeliveryState.CANCELED
