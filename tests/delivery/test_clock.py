"""Clocks that are set while the service runs, and while it does not."""

from datetime import UTC, datetime, timedelta

import pytest

from signalpost.delivery.worker import LEASE
from signalpost.domain.delivery import DeliveryState
from signalpost.domain.outcome import Outcome
from signalpost.domain.pace import FIRST_GAP, OPEN_AFTER
from signalpost.domain.subscription import RetryPolicy
from signalpost.store import Store
from tests.contract.material import NOW, TENANT, subscription
from tests.delivery.engine import Engine

MINUTE = timedelta(minutes=1)
POLICY = RetryPolicy(max_attempts=5, min_backoff=MINUTE, max_backoff=MINUTE, backoff_multiplier=1.0)
JUMPS = {
    "two hours on": timedelta(hours=2),
    "two hours back": timedelta(hours=-2),
    "ten years on": timedelta(days=3653),
}
jumps = pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
BACK = JUMPS["two hours back"]


async def restarted(store: Store, *, at: datetime) -> Engine:
    engine = Engine(store)
    engine.clock.time = at
    await engine.rescuer.start()
    return engine


async def ends(engine: Engine) -> list[timedelta]:
    """Work until nothing waits; return after how long something was attempted.

    In whole seconds, for the sender tells of attempts that take longer than it does.
    """
    start, worked = engine.clock.now(), []
    while True:
        if await engine.work():
            passed = engine.clock.now() - start
            worked.append(timedelta(seconds=round(passed.total_seconds())))
        elif (next_look := engine.lanes.next_look) is None:
            return worked
        else:
            engine.clock.time = max(engine.clock.now(), next_look)


@jumps
async def test_the_timestamp_of_a_webhook_is_that_of_the_wall_clock(
    engine: Engine, jump: timedelta
) -> None:
    await engine.store.create(subscription())
    engine.clock.jump = jump
    await engine.publish("event")
    await engine.work()
    [request] = engine.sender.requests
    assert request.headers["webhook-timestamp"] == str(int((NOW + jump).timestamp()))
    [delivery] = await engine.deliveries()
    assert (delivery.state, delivery.attempts[0].start_time) == (DeliveryState.SUCCEEDED, NOW)


@jumps
async def test_no_lease_is_lost_and_no_delay_changed_by_a_jump_while_it_runs(
    engine: Engine, jump: timedelta
) -> None:
    await engine.store.create(subscription(retry_policy=POLICY))
    await engine.publish("event")
    engine.sender.outcomes = [Outcome.REJECTED] * 4
    engine.sender.gate.clear()
    assert await engine.worker.run_once() == 1
    await engine.sender.asked.wait()
    engine.clock.jump = jump
    engine.clock.advance(seconds=LEASE.total_seconds() - 1)
    await engine.rescuer.run_once()
    engine.sender.gate.set()
    await engine.worker.idle()
    assert await engine.outcomes() == ["REJECTED"]
    assert await ends(engine) == [MINUTE * number for number in range(1, 5)]


@jumps
@pytest.mark.parametrize("way", ["crash", "stop"])
async def test_a_jump_over_a_restart_burns_no_schedule_and_freezes_nothing(
    engine: Engine, jump: timedelta, way: str
) -> None:
    await engine.store.create(subscription(retry_policy=POLICY))
    await engine.publish("event")
    engine.sender.outcomes = [Outcome.REJECTED]
    await engine.work()
    if way == "crash":
        engine.clock.time += MINUTE
        engine.sender.gate.clear()
        assert await engine.worker.run_once() == 1
    again = await restarted(engine.store, at=engine.clock.now() + jump)
    again.sender.outcomes = [Outcome.REJECTED] * 4
    at_once = way == "crash" or jump > timedelta()
    first = timedelta() if at_once else MINUTE
    # One attempt at most comes early, and then each after its delay.
    assert await ends(again) == [first + MINUTE * number for number in range(4)]
    [delivery] = await again.deliveries()
    assert delivery.state is DeliveryState.FAILED
    engine.sender.gate.set()
    await engine.worker.idle()


@pytest.mark.parametrize("ordered", [False, True])
async def test_what_is_due_at_once_goes_at_once_after_the_clock_was_set_back(
    engine: Engine, *, ordered: bool
) -> None:
    stored = await engine.store.create(subscription(ordered=ordered))
    await engine.publish("e1", "e2")
    await engine.work()
    await engine.publish("e3", "e4")
    for delivery in await engine.deliveries():
        await engine.store.repairs.retry(delivery.key, now=NOW)
    again = await restarted(engine.store, at=NOW + BACK)
    assert await ends(again) == [timedelta()]
    assert len(again.sender.requests) == 4
    assert await again.store.get(TENANT, stored.subscription_id) == stored


async def test_the_circuit_of_a_dead_endpoint_is_probed_as_if_no_clock_was_set(
    engine: Engine,
) -> None:
    soon = RetryPolicy(min_backoff=timedelta(seconds=1))
    await engine.store.create(subscription(retry_policy=soon))
    await engine.publish(*(f"e{number}" for number in range(OPEN_AFTER)))
    engine.sender.outcomes = [Outcome.REJECTED] * OPEN_AFTER
    await engine.work()
    again = await restarted(engine.store, at=NOW + BACK)
    assert again.lanes.next_look is not None
    delay = again.lanes.next_look - again.clock.now()
    assert FIRST_GAP * 0.8 <= delay <= FIRST_GAP * 1.2
    await ends(again)
    assert len(again.sender.requests) == OPEN_AFTER


@pytest.mark.parametrize("year", [2038, 2106])
async def test_the_end_of_32_bits_is_a_moment_like_any_other(store: Store, year: int) -> None:
    seconds = 2**31 if year == 2038 else 2**32
    before = datetime.fromtimestamp(seconds - 30, UTC)
    engine = await restarted(store, at=before)
    await store.create(subscription(retry_policy=POLICY))
    await engine.publish("event")
    engine.sender.outcomes = [Outcome.REJECTED]
    await engine.work()
    again = await restarted(store, at=before + timedelta(seconds=1))
    assert await ends(again) == [timedelta(seconds=59)]
    [delivery] = await again.deliveries()
    assert delivery.state is DeliveryState.SUCCEEDED
    assert [attempt.start_time for attempt in delivery.attempts] == [before, before + MINUTE]
    [request] = again.sender.requests
    assert request.headers["webhook-timestamp"] == str(seconds + 30)
