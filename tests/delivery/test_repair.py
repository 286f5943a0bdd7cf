"""Retries, replays and cancellations in the engine: what goes when, and how often."""

from __future__ import annotations

from datetime import timedelta

import pytest

from signalpost.domain.delivery import DeliveryState, FailureReason, Trigger
from signalpost.domain.filter import EventFilter
from signalpost.domain.outcome import Outcome
from signalpost.domain.pace import OPEN_AFTER
from signalpost.domain.replay import ReplayOrder, ReplayScope
from signalpost.domain.subscription import RetryPolicy, Subscription, paused, resumed
from signalpost.ports import DeliveryQuery, PageRequest
from signalpost.ports.repair import Canceled
from signalpost.publishing.repair import Repairer
from signalpost.publishing.replay import Replayer
from tests.contract.material import NOW, TENANT, subscription
from tests.delivery.engine import Engine

CAP = 5


def repairer(engine: Engine) -> Repairer:
    return Repairer(
        engine.store.repairs, deliveries=engine.store, lanes=engine.lanes, clock=engine.clock
    )


async def replay(engine: Engine, scope: ReplayScope = ReplayScope.FAILED) -> int:
    """Replay all that was published before now."""
    engine.clock.advance(milliseconds=1)
    ordered = ReplayOrder(
        tenant_id=TENANT,
        subscription_id=subscription().subscription_id,
        scope=scope,
        start=NOW - timedelta(days=1),
    )
    replayer = Replayer(engine.store.repairs, lanes=engine.lanes, clock=engine.clock)
    begun = await engine.store.repairs.begin_replay(
        ordered, request_id=None, now=engine.clock.now()
    )
    while await replayer.run_once():
        pass
    return (await engine.store.repairs.get_replay(begun.key)).delivery_count


async def cancel(engine: Engine) -> Canceled:
    engine.clock.advance(milliseconds=1)
    return await repairer(engine).cancel(
        TENANT,
        subscription().subscription_id,
        chosen=EventFilter(),
        end=None,
        validate_only=False,
    )


async def with_canceled(
    engine: Engine, count: int, *, max_concurrent_attempts: int = CAP
) -> Subscription:
    """Create a subscription of which so many deliveries were canceled."""
    lane = subscription(max_concurrent_attempts=max_concurrent_attempts)
    stored = await engine.store.create(lane)
    await engine.publish(*(f"old{number}" for number in range(count)))
    await cancel(engine)
    return stored


def sent(engine: Engine) -> list[str]:
    return [request.headers["webhook-id"] for request in engine.sender.requests]


async def states(engine: Engine) -> set[DeliveryState]:
    page = await engine.store.list_deliveries(DeliveryQuery(tenant_id=None), PageRequest(size=1000))
    return {found.state for found in page.items}


@pytest.mark.parametrize("cap", [1, 2, CAP, 64])
async def test_while_live_deliveries_wait_every_fifth_start_is_a_replay(
    engine: Engine, cap: int
) -> None:
    await with_canceled(engine, 100, max_concurrent_attempts=cap)
    assert await replay(engine) == 100
    await engine.publish(*(f"new{number}" for number in range(100)))
    await engine.work()
    order = sent(engine)
    live_waits = order[: 1 + max(at for at, name in enumerate(order) if name.startswith("new"))]
    replayed = sum(name.startswith("old") for name in live_waits)
    # The last claim of all may fill up what the live ones leave.
    assert len(live_waits) // 5 - cap <= replayed <= len(live_waits) // 5 + cap
    started = order[: len(live_waits) // cap * cap - cap]
    for end in range(cap, len(started), cap):
        assert sum(name.startswith("old") for name in started[:end]) <= end // 5
    assert len(order) == len(set(order)) == 200
    assert await states(engine) == {DeliveryState.SUCCEEDED}


async def test_a_replay_alone_has_the_whole_lane(engine: Engine) -> None:
    await with_canceled(engine, 20)
    await replay(engine)
    engine.sender.gate.clear()
    assert await engine.worker.run_once() == CAP
    engine.sender.gate.set()
    await engine.worker.idle()
    assert await engine.work() == 20 - CAP


async def test_a_replay_waits_while_its_subscription_is_paused(engine: Engine) -> None:
    stored = await with_canceled(engine, 3)
    now = engine.clock.now()
    stopped = await engine.store.replace(paused(stored, now=now), now=now)
    engine.lanes.forget(stored.lane_id)
    assert await replay(engine) == 3
    assert await engine.work() == 0
    changed = await engine.store.replace(resumed(stopped, now=now), now=now)
    engine.lanes.notice([changed.lane], due=engine.clock.now())
    assert await engine.work() == 3


async def test_a_replay_of_which_nobody_was_told_is_found_by_the_next_look(
    engine: Engine,
) -> None:
    await with_canceled(engine, 3)
    await replay(engine)
    restarted = Engine(engine.store, clock=engine.clock)
    await restarted.rescuer.start()
    assert await restarted.work() == 3


async def test_a_replay_is_canceled_with_all_that_it_queued(engine: Engine) -> None:
    await with_canceled(engine, 20)
    await replay(engine)
    assert await cancel(engine) == Canceled(waiting=20, under_way=0)
    assert await engine.work() == 0
    assert await states(engine) == {DeliveryState.CANCELED}


async def test_a_replayed_delivery_has_its_retries_and_numbers_that_go_on(
    engine: Engine,
) -> None:
    policy = RetryPolicy(max_attempts=2, min_backoff=timedelta(seconds=10))
    await engine.store.create(subscription(retry_policy=policy))
    engine.sender.outcomes = [Outcome.REJECTED] * 4
    await engine.publish("event")
    for _ in range(2):
        assert await engine.work() == 1
        engine.clock.advance(hours=1)
        assert await engine.work() == 1
        [delivery] = await engine.deliveries()
        assert delivery.failure_reason is FailureReason.EXHAUSTED
        await replay(engine)
    assert await engine.work() == 1
    [delivery] = await engine.deliveries()
    assert delivery.state is DeliveryState.SUCCEEDED
    assert [attempt.number for attempt in delivery.attempts] == [1, 2, 3, 4, 5]
    manual, scheduled = Trigger.MANUAL, Trigger.SCHEDULED
    triggers = [attempt.trigger for attempt in delivery.attempts]
    assert triggers == [scheduled, scheduled, manual, scheduled, manual]
    assert {request.headers["webhook-id"] for request in engine.sender.requests} == {"event"}


async def test_a_retry_goes_at_once_and_once(engine: Engine) -> None:
    await engine.store.create(subscription())
    engine.sender.outcomes = [Outcome.REJECTED]
    await engine.publish("event")
    await engine.work()
    [delivery] = await engine.deliveries()
    assert await engine.work() == 0
    await repairer(engine).retry(delivery.key)
    await repairer(engine).retry(delivery.key)
    assert await engine.work() == 1
    assert await engine.outcomes() == ["REJECTED", "SUCCEEDED"]
    await repairer(engine).retry(delivery.key)
    assert await engine.work() == 1


async def test_a_retry_does_not_wait_for_the_probe_of_an_endpoint_that_fails(
    engine: Engine,
) -> None:
    await engine.store.create(subscription(retry_policy=RetryPolicy(max_attempts=1)))
    engine.sender.outcomes = [Outcome.REJECTED] * OPEN_AFTER
    for number in range(OPEN_AFTER):
        await engine.publish(f"e{number}")
        assert await engine.work() == 1
    await engine.publish("waits")
    assert await engine.work() == 0
    first = (await engine.deliveries())[0]
    await repairer(engine).retry(first.key)
    assert await engine.work() == 2
    assert set(sent(engine)[-2:]) == {"waits", "e0"}


async def test_a_retry_during_an_attempt_starts_no_second_one(engine: Engine) -> None:
    await engine.store.create(subscription())
    await engine.publish("event")
    engine.sender.gate.clear()
    await engine.worker.run_once()
    [delivery] = await engine.deliveries()
    await repairer(engine).retry(delivery.key)
    assert await engine.worker.run_once() == 0
    engine.sender.gate.set()
    await engine.worker.idle()
    assert await engine.work() == 0
    assert await engine.outcomes() == ["SUCCEEDED"]


async def test_a_failure_under_way_when_all_is_canceled_is_the_last(engine: Engine) -> None:
    await engine.store.create(subscription())
    engine.sender.outcomes = [Outcome.REJECTED]
    await engine.publish("event")
    engine.sender.gate.clear()
    await engine.worker.run_once()
    assert await cancel(engine) == Canceled(waiting=0, under_way=1)
    engine.sender.gate.set()
    await engine.worker.idle()
    engine.clock.advance(days=1)
    assert await engine.work() == 0
    assert await states(engine) == {DeliveryState.CANCELED}
