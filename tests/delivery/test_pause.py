from dataclasses import replace
from datetime import timedelta

from signalpost.domain.delivery import DeliveryState
from signalpost.domain.outcome import Outcome
from signalpost.domain.subscription import RetryPolicy, Subscription, paused, resumed
from tests.contract.material import subscription
from tests.delivery.engine import Engine


async def pause(engine: Engine, stored: Subscription) -> Subscription:
    now = engine.clock.now()
    engine.lanes.forget(stored.lane_id)
    return await engine.store.replace(paused(stored, now=now), now=now)


async def resume(engine: Engine, stored: Subscription) -> Subscription:
    now = engine.clock.now()
    changed = await engine.store.replace(resumed(stored, now=now), now=now)
    engine.lanes.notice([changed.lane], due=now)
    return changed


async def test_while_paused_nothing_goes_and_afterwards_all_does(engine: Engine) -> None:
    stored = await pause(engine, await engine.store.create(subscription()))
    await engine.publish("e1", "e2")
    assert await engine.work() == 0
    await engine.rescuer.rescan()
    assert await engine.work() == 0
    restarted = Engine(engine.store, clock=engine.clock)
    await restarted.rescuer.start()
    assert await restarted.work() == 0
    await resume(engine, stored)
    assert await engine.work() == 2


async def test_an_attempt_under_way_counts_and_its_retry_waits(engine: Engine) -> None:
    stored = await engine.store.create(subscription())
    engine.sender.outcomes = [Outcome.REJECTED]
    await engine.publish("event")
    engine.sender.gate.clear()
    await engine.worker.run_once()
    stored = await pause(engine, stored)
    engine.sender.gate.set()
    await engine.worker.idle()
    assert await engine.outcomes() == ["REJECTED"]
    engine.clock.advance(hours=1)
    assert await engine.work() == 0
    await resume(engine, stored)
    assert await engine.work() == 1
    assert await engine.outcomes() == ["REJECTED", "SUCCEEDED"]


async def test_time_in_which_it_is_paused_does_not_use_up_the_retry_duration(
    engine: Engine,
) -> None:
    policy = RetryPolicy(max_retry_duration=timedelta(minutes=1), min_backoff=timedelta(seconds=10))
    stored = await engine.store.create(replace(subscription(), retry_policy=policy))
    engine.sender.outcomes = [Outcome.REJECTED] * 2
    await engine.publish("event")
    await engine.work()
    stored = await pause(engine, stored)
    engine.clock.advance(days=2)
    await resume(engine, stored)
    assert await engine.work() == 1
    [delivery] = await engine.deliveries()
    assert delivery.state is DeliveryState.PENDING
