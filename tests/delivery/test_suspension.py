"""Suspending subscriptions, with the real store and a clock that tests set."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import orjson
import pytest

from signalpost.api.rendering import event_from
from signalpost.domain.delivery import DeliveryState
from signalpost.domain.outcome import Outcome
from signalpost.domain.subscription import (
    RetryPolicy,
    State,
    Subscription,
    SuspensionReason,
    resumed,
)
from signalpost.ports import EventQuery, PageRequest
from signalpost.store import Store
from tests.contract.material import NOW, TENANT, subscription
from tests.delivery.engine import Engine
from tests.delivery.world import Answer, Endpoints, live

GONE, WELL = "https://gone.example/hook", "https://well.example/hook"
PATIENT = RetryPolicy(max_attempts=50, max_backoff=timedelta(hours=6), backoff_multiplier=10)


def behaving(store: Store, status: dict[str, int]) -> tuple[Engine, Endpoints]:
    engine = Engine(store, slots=512)
    world = Endpoints(engine.clock, lambda uri, _: Answer(status.get(uri, 200), seconds=0.1))
    engine.attempter._sender = world
    return engine, world


async def current(engine: Engine, name: str) -> Subscription:
    return await engine.store.get(TENANT, subscription(name).subscription_id)


async def announced(engine: Engine) -> list[dict[str, object]]:
    page = await engine.store.list_events(EventQuery(tenant_id=TENANT), PageRequest(size=1000))
    news = [one for one in page.items if one.event_type == "subscription.suspended"]
    assert {event_from(one).subscription_suspended.pending_count > 0 for one in news} <= {True}
    return [orjson.loads(one.body) for one in news]


async def resume(engine: Engine, name: str) -> None:
    stored, now = await current(engine, name), engine.clock.now()
    changed = await engine.store.replace(resumed(stored, now=now), now=now)
    engine.lanes.resume(changed.lane, due=now)


async def test_an_endpoint_that_is_gone_is_suspended_and_the_others_go_on(store: Store) -> None:
    status = {GONE: 410}
    engine, world = behaving(store, status)
    await store.create(subscription("gone", endpoint_uri=GONE, max_concurrent_attempts=3))
    await store.create(subscription("well", endpoint_uri=WELL))
    await engine.publish(*(f"e{number}" for number in range(10)))
    await live(engine, world, until=NOW + timedelta(days=30))

    suspended = await current(engine, "gone")
    assert (suspended.state, suspended.suspension_reason, suspended.stop_time) == (
        State.SUSPENDED,
        SuspensionReason.ENDPOINT_GONE,
        NOW + timedelta(seconds=0.1),
    )
    assert suspended.suspension_message == "The endpoint answered 410 Gone."
    asked = [call.uri for call in world.calls]
    assert (asked.count(GONE), asked.count(WELL)) == (3, 11)
    [body] = await announced(engine)
    assert body["resource"] == {"type": "subscription", "id": "gone"}
    assert body["payload"] == {
        "reason": "ENDPOINT_GONE",
        "message": "The endpoint answered 410 Gone.",
        "pending_count": 10,
    }
    deliveries = await engine.deliveries()
    parked = [one for one in deliveries if one.subscription_id == "gone"]
    assert [one.state for one in parked] == [DeliveryState.PENDING] * 10
    assert {one.state for one in deliveries if one.subscription_id == "well"} == {
        DeliveryState.SUCCEEDED
    }

    status.clear()
    await resume(engine, "gone")
    await live(engine, world, until=engine.clock.now() + timedelta(days=1))
    assert {one.state for one in await engine.deliveries()} == {DeliveryState.SUCCEEDED}
    assert len(await announced(engine)) == 1


async def test_an_endpoint_is_suspended_that_fails_for_five_days(store: Store) -> None:
    status = {GONE: 500}
    engine, world = behaving(store, status)
    await store.create(subscription("failing", endpoint_uri=GONE, retry_policy=PATIENT))
    await engine.publish("event")
    await live(engine, world, until=NOW + timedelta(days=5, seconds=-1))
    assert (await current(engine, "failing")).state is State.ACTIVE
    await live(engine, world, until=NOW + timedelta(days=5, hours=8))
    suspended = await current(engine, "failing")
    assert suspended.suspension_reason is SuspensionReason.ENDPOINT_FAILING
    made = len(world.calls)
    expected = f"All of the {made} attempts since 2026-03-01 12:00 UTC failed."
    assert suspended.suspension_message == expected
    await resume(engine, "failing")
    await live(engine, world, until=engine.clock.now() + timedelta(days=4))
    assert len(world.calls) > made + 10
    assert (await current(engine, "failing")).state is State.ACTIVE


async def test_a_restart_does_not_begin_the_five_days_anew(store: Store) -> None:
    engine, world = behaving(store, {GONE: 500})
    await store.create(subscription("failing", endpoint_uri=GONE, retry_policy=PATIENT))
    await engine.publish("event")
    for day in range(1, 7):
        await live(engine, world, until=NOW + timedelta(days=day))
        engine, former = Engine(store, clock=engine.clock), engine
        engine.attempter._sender = world
        await former.worker.idle()
        await engine.rescuer.start()
    suspended = await current(engine, "failing")
    assert suspended.suspension_reason is SuspensionReason.ENDPOINT_FAILING


async def test_one_success_in_between_spares_an_endpoint(store: Store) -> None:
    status = {GONE: 500}
    engine, world = behaving(store, status)
    await store.create(subscription("failing", endpoint_uri=GONE, retry_policy=PATIENT))
    await engine.publish("e1", "e2")
    await live(engine, world, until=NOW + timedelta(days=3))
    status.clear()
    await live(engine, world, until=NOW + timedelta(days=4))
    status[GONE] = 500
    await engine.publish("e3")
    await live(engine, world, until=NOW + timedelta(days=8))
    assert (await current(engine, "failing")).state is State.ACTIVE


async def test_forbidden_addresses_suspend_after_an_hour(engine: Engine) -> None:
    await engine.store.create(subscription(retry_policy=PATIENT, max_concurrent_attempts=1))
    await engine.publish(*(f"e{number}" for number in range(3)))
    for minute in range(0, 200, 5):
        engine.sender.outcomes = [Outcome.FORBIDDEN] * 9
        engine.clock.time = NOW + timedelta(minutes=minute)
        await engine.work()
    suspended = await current(engine, "sub")
    assert suspended.suspension_reason is SuspensionReason.ENDPOINT_FORBIDDEN
    assert suspended.stop_time is not None
    assert suspended.stop_time >= NOW + timedelta(hours=1)


async def test_forbidden_addresses_that_come_and_go_do_not_suspend(engine: Engine) -> None:
    await engine.store.create(subscription(retry_policy=PATIENT, max_concurrent_attempts=1))
    await engine.publish(*(f"e{number}" for number in range(9)))
    attempts = 0
    for minute in range(0, 1000, 5):
        outcome = Outcome.REJECTED if attempts % 10 == 9 else Outcome.FORBIDDEN
        engine.sender.outcomes = [outcome]
        engine.clock.time = NOW + timedelta(minutes=minute)
        attempts += await engine.worker.run_once()
        await engine.worker.idle()
    assert attempts > 30
    assert (await current(engine, "sub")).state is State.ACTIVE


async def test_what_answered_410_at_the_former_address_does_not_suspend(store: Store) -> None:
    engine, world = behaving(store, {GONE: 410})
    stored = await store.create(subscription("moved", endpoint_uri=GONE))
    await engine.publish("event")
    await engine.worker.run_once()
    await world.asked.wait()
    moved = replace(stored, endpoint_uri=WELL)
    await store.replace(moved, now=engine.clock.now())
    await live(engine, world, until=NOW + timedelta(days=1))
    assert [call.uri for call in world.calls] == [GONE, WELL]
    assert (await current(engine, "moved")).state is State.ACTIVE
    assert await announced(engine) == []


@pytest.mark.parametrize("paused", [False, True])
async def test_a_suspended_subscription_gets_its_own_news_from_nobody(
    store: Store, *, paused: bool
) -> None:
    engine, world = behaving(store, {GONE: 410})
    await store.create(subscription("gone", endpoint_uri=GONE))
    if paused:
        await store.create(subscription("paused", endpoint_uri=WELL, state=State.PAUSED))
    await engine.publish("event")
    await live(engine, world, until=NOW + timedelta(days=1))
    news = [one for one in await engine.deliveries() if one.event_type == "subscription.suspended"]
    assert [one.subscription_id for one in news] == ["paused"] * paused
