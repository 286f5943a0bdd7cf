"""Ordered lanes from their claim to what comes next."""

from dataclasses import replace
from datetime import timedelta

from signalpost.domain.delivery import DeliveryState
from signalpost.domain.outcome import Outcome
from signalpost.domain.subscription import RetryPolicy
from tests.contract.material import TENANT, event, subscription
from tests.delivery.engine import Engine

QUICK = RetryPolicy(
    max_attempts=2, min_backoff=timedelta(seconds=1), max_backoff=timedelta(seconds=1)
)


def sent(engine: Engine) -> list[str]:
    return [request.headers["webhook-id"] for request in engine.sender.requests]


async def test_each_lets_the_next_of_its_resource_go(engine: Engine) -> None:
    await engine.store.create(subscription(ordered=True))
    await engine.publish("e1", "e2", "e3")
    assert await engine.work() == 3
    await engine.publish("e4")
    assert await engine.work() == 1
    assert sent(engine) == ["e1", "e2", "e3", "e4"]


async def test_a_retry_holds_the_others_back_until_it_is_given_up(engine: Engine) -> None:
    await engine.store.create(subscription(ordered=True, retry_policy=QUICK))
    engine.sender.outcomes = [Outcome.REJECTED] * 2
    await engine.publish("e1", "e2")
    assert await engine.work() == 1
    await engine.publish("e3")
    assert await engine.work() == 0
    engine.clock.advance(seconds=1)
    assert await engine.work() == 3
    assert sent(engine) == ["e1", "e1", "e2", "e3"]
    states = [delivery.state for delivery in await engine.deliveries()]
    assert states == [DeliveryState.FAILED, DeliveryState.SUCCEEDED, DeliveryState.SUCCEEDED]


async def test_a_long_line_shares_its_lane_with_other_resources(engine: Engine) -> None:
    stored = await engine.store.create(subscription(ordered=True, max_concurrent_attempts=1))
    await engine.publish(*(f"a{number}" for number in range(5)))
    now = engine.clock.now()
    await engine.store.accept([event("b", resource="other")], now=now)
    engine.lanes.notice([stored.lane], due=now)
    while await engine.worker.run_once():
        engine.clock.advance(milliseconds=1)
        await engine.worker.idle()
    assert sent(engine) == ["a0", "b", "a1", "a2", "a3", "a4"]


async def test_a_crash_repeats_the_first_before_the_next_goes(engine: Engine) -> None:
    await engine.store.create(subscription(ordered=True))
    await engine.publish("e1", "e2")
    engine.sender.gate.clear()
    await engine.worker.run_once()
    restarted = Engine(engine.store, clock=engine.clock)
    await restarted.rescuer.start()
    assert await restarted.work() == 2
    assert sent(restarted) == ["e1", "e2"]
    engine.sender.gate.set()
    await engine.worker.idle()


async def test_a_change_of_order_that_was_cut_short_is_finished(engine: Engine) -> None:
    stored = await engine.store.create(subscription())
    await engine.publish(*(f"e{number}" for number in range(1200)))
    await engine.store.replace(replace(stored, ordered=True), now=engine.clock.now())
    assert await engine.store.unarranged_lanes()
    assert await engine.worker.run_once() == 0
    await engine.rescuer.run_once()
    assert await engine.worker.run_once() == 1
    await engine.worker.idle()
    assert await engine.worker.run_once() == 1
    await engine.worker.idle()
    assert sent(engine) == ["e0", "e1"]
    assert (await engine.store.get(TENANT, stored.subscription_id)).ordered
