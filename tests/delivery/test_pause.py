from dataclasses import replace
from datetime import UTC, datetime, timedelta

from standardwebhooks import Webhook

from signalpost.delivery.worker import LEASE
from signalpost.domain.delivery import DeliveryState
from signalpost.domain.outcome import Outcome
from signalpost.domain.signature import format_secret
from signalpost.domain.subscription import RetryPolicy, Subscription, paused, resumed
from signalpost.ports import WebhookRequest
from signalpost.subscriptions.keys import rotated
from tests.contract.material import signing_key, subscription
from tests.delivery.engine import Engine


def signatures(request: WebhookRequest) -> list[str]:
    return request.headers["webhook-signature"].split(" ")


def expected(request: WebhookRequest, secret: bytes) -> str:
    signed_at = datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), UTC)
    webhook = Webhook(format_secret(secret))
    return webhook.sign(request.headers["webhook-id"], signed_at, request.body.decode())


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


async def test_what_waits_in_a_lane_that_was_paused_when_its_lease_expired_stays(
    engine: Engine,
) -> None:
    stored = await engine.store.create(subscription())
    await engine.publish("event")
    engine.sender.gate.clear()
    await engine.worker.run_once()
    stored = await pause(engine, stored)
    engine.clock.advance(seconds=LEASE.total_seconds() + 1)
    await engine.rescuer.run_once()
    assert await engine.outcomes() == ["INTERRUPTED"]
    engine.sender.gate.set()
    await engine.worker.idle()
    assert await engine.work() == 0
    await resume(engine, stored)
    assert await engine.work() == 1


async def test_a_lane_lets_more_go_once_its_subscription_allows_it(engine: Engine) -> None:
    stored = await engine.store.create(subscription(max_concurrent_attempts=1))
    await engine.publish(*(f"e{number}" for number in range(10)))
    engine.sender.gate.clear()
    assert await engine.worker.run_once() == 1
    assert await engine.worker.run_once() == 0
    wider = replace(stored, max_concurrent_attempts=4)
    changed = await engine.store.replace(wider, now=engine.clock.now())
    engine.lanes.notice([changed.lane], due=engine.clock.now())
    assert await engine.worker.run_once() == 3
    assert await engine.worker.run_once() == 0
    engine.sender.gate.set()
    await engine.worker.idle()


async def test_a_former_key_signs_to_its_end_and_not_beyond(engine: Engine) -> None:
    new = signing_key(b"n" * 32, key_id="key-2")
    overlap = timedelta(minutes=1)
    stored = await engine.store.create(subscription())
    keys = rotated(stored, new, overlap=overlap, now=engine.clock.now())
    await engine.store.replace(replace(stored, signing_keys=keys), now=engine.clock.now())
    engine.clock.advance(seconds=overlap.total_seconds(), microseconds=-1)
    await engine.publish("within")
    await engine.work()
    engine.clock.advance(microseconds=1)
    await engine.publish("beyond")
    await engine.work()
    within, beyond = engine.sender.requests
    assert signatures(within) == [expected(within, b"n" * 32), expected(within, b"s" * 32)]
    assert signatures(beyond) == [expected(beyond, b"n" * 32)]
