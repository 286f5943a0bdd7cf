"""Working off replays: in turns, to the end, and whoever waits for them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest

from signalpost.domain.errors import StateInvalid
from signalpost.domain.filter import EventFilter
from signalpost.domain.ids import SubscriptionId
from signalpost.domain.replay import ReplayOrder, ReplayScope
from signalpost.publishing.repair import Repairer
from signalpost.publishing.replay import PAGE, Replayer
from tests.contract.material import NOW, TENANT, subscription
from tests.contract.sqlite_file import in_writer
from tests.delivery.engine import Engine

EVENTS = 2 * PAGE + 50


def replayer(engine: Engine) -> Replayer:
    return Replayer(engine.store.repairs, lanes=engine.lanes, clock=engine.clock)


def missing(name: str = "sub") -> ReplayOrder:
    return ReplayOrder(
        tenant_id=TENANT,
        subscription_id=SubscriptionId(name),
        scope=ReplayScope.MISSING,
        start=NOW - timedelta(days=1),
    )


async def published(engine: Engine, *subscriptions: str) -> None:
    """Publish events before anybody subscribes to them."""
    await engine.publish(*(f"e{number}" for number in range(EVENTS)))
    engine.clock.advance(seconds=1)
    for name in subscriptions:
        await engine.store.create(subscription(name))


async def begun(engine: Engine, work: Replayer, ordered: ReplayOrder) -> asyncio.Task[int]:
    """Order a replay; return once it is stored."""
    before = len(await engine.store.repairs.running_replays())
    call = asyncio.create_task(work.replay(ordered, request_id=None))
    while len(await engine.store.repairs.running_replays()) == before:
        pass
    return call


async def test_replays_take_turns_and_each_call_gets_its_count(engine: Engine) -> None:
    await published(engine, "sub", "other")
    work = replayer(engine)
    long = await begun(engine, work, missing())
    short = await begun(engine, work, missing("other"))
    assert [await work.run_once() for _ in range(3)] == [2, 2, 0]
    assert (await long, await short) == (EVENTS, EVENTS)
    assert await engine.work() == 2 * EVENTS


async def test_a_caller_that_goes_away_leaves_a_replay_that_goes_on(engine: Engine) -> None:
    await published(engine, "sub")
    work = replayer(engine)
    call = await begun(engine, work, missing())
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    while await work.run_once():
        pass
    assert await engine.work() == EVENTS


async def test_a_process_that_starts_goes_on_with_what_another_left(engine: Engine) -> None:
    await published(engine, "sub")
    former = replayer(engine)
    call = await begun(engine, former, missing())
    assert await former.run_once() == 1
    call.cancel()
    later = replayer(engine)
    while await later.run_once():
        pass
    assert await engine.work() == EVENTS


async def test_callers_of_one_request_wait_for_one_replay(engine: Engine) -> None:
    await published(engine, "sub")
    work = replayer(engine)
    name = str(uuid4())
    running = asyncio.create_task(work.run())
    calls = (work.replay(missing(), request_id=name) for _ in range(5))
    assert await asyncio.gather(*calls) == [EVENTS] * 5
    assert await work.replay(missing(), request_id=name) == EVENTS
    running.cancel()
    assert await engine.work() == EVENTS


async def test_a_cancellation_ends_a_replay_that_is_still_queueing(engine: Engine) -> None:
    await published(engine, "sub")
    work = replayer(engine)
    call = await begun(engine, work, missing())
    assert await work.run_once() == 1
    engine.clock.advance(seconds=1)
    repairer = Repairer(
        engine.store.repairs, deliveries=engine.store, lanes=engine.lanes, clock=engine.clock
    )
    canceled = await repairer.cancel(
        TENANT, SubscriptionId("sub"), chosen=EventFilter(), end=None, validate_only=False
    )
    assert canceled.waiting == PAGE
    assert await work.run_once() == 0
    assert await call == PAGE
    assert await engine.work() == 0


async def test_a_deleted_subscription_ends_its_replay_and_no_other(engine: Engine) -> None:
    await published(engine, "sub", "other")
    work = replayer(engine)
    gone = await begun(engine, work, missing())
    await engine.store.delete(TENANT, SubscriptionId("sub"), etag=None, now=engine.clock.now())
    other = await begun(engine, work, missing("other"))
    while await work.run_once():
        pass
    assert (await gone, await other) == (0, EVENTS)


async def test_a_replay_that_fails_inside_ends_alone(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    await published(engine, "sub", "other")
    work = replayer(engine)
    bad = await begun(engine, work, missing())
    good = await begun(engine, work, missing("other"))
    broken = "UPDATE subscriptions SET filter = '{' WHERE subscription_id = 'sub' RETURNING 1"
    await in_writer(engine.store, broken)
    while await work.run_once():
        pass
    assert (await bad, await good) == (0, EVENTS)
    [record] = [one for one in caplog.records if one.exc_info]
    assert record.message == "a replay failed inside the service"


async def test_while_a_replay_is_queueing_another_one_is_refused(engine: Engine) -> None:
    await published(engine, "sub")
    work = replayer(engine)
    first = await begun(engine, work, missing())
    with pytest.raises(StateInvalid):
        await work.replay(missing(), request_id=None)
    while await work.run_once():
        pass
    assert await first == EVENTS
    assert await work.count(missing()) == 0
