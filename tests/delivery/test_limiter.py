"""The limit of lanes, driven by hand."""

import pytest

from signalpost.delivery.limiter import Limiter
from signalpost.domain.ids import SubscriptionId
from signalpost.domain.subscription import paused, resumed
from signalpost.store import backlog
from tests.contract.material import TENANT, subscription
from tests.delivery.engine import Engine


async def round_of(engine: Engine, *, limit: int) -> int:
    """Go once through the lanes; return in how many stretches."""
    limiter = Limiter(engine.store.upkeep, lanes=engine.lanes, clock=engine.clock, limit=limit)
    stretches = 1
    while await limiter.run_once():
        stretches += 1
    return stretches


async def pause(engine: Engine) -> None:
    stored = await engine.store.get(TENANT, SubscriptionId("sub"))
    now = engine.clock.now()
    await engine.store.replace(paused(stored, now=now), now=now)


async def resume(engine: Engine) -> None:
    stored = await engine.store.get(TENANT, SubscriptionId("sub"))
    now = engine.clock.now()
    resumed_ = await engine.store.replace(resumed(stored, now=now), now=now)
    engine.lanes.notice([resumed_.lane], due=now)


async def ends(engine: Engine) -> list[str]:
    """Return what became of each delivery, the oldest first."""
    return [
        d.failure_reason.name if d.failure_reason else d.state.name
        for d in (await engine.deliveries())
    ]


async def test_a_lane_keeps_its_newest_up_to_the_limit(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MOST_ENDED", 3)
    await engine.store.create(subscription("sub"))
    await pause(engine)
    await engine.publish(*(f"e{number}" for number in range(12)))
    assert await round_of(engine, limit=5) == 3
    assert await ends(engine) == ["BACKLOG"] * 7 + ["PENDING"] * 5
    assert await round_of(engine, limit=5) == 1
    await resume(engine)
    assert await engine.work() == 5
    assert [request.headers["webhook-id"] for request in engine.sender.requests] == [
        f"e{number}" for number in range(7, 12)
    ]


async def test_a_lane_that_stands_for_30_days_keeps_those_of_the_last_30(engine: Engine) -> None:
    await engine.store.create(subscription("sub"))
    await pause(engine)
    for day in range(40):
        await engine.publish(f"day-{day}")
        engine.clock.advance(days=1)
        await round_of(engine, limit=1000)
    # Day 40: what came in on day 10 and later is not older than 30 days.
    assert await ends(engine) == ["BACKLOG"] * 10 + ["PENDING"] * 30


async def test_what_an_ordered_lane_holds_goes_on_with_the_oldest_that_is_left(
    engine: Engine,
) -> None:
    await engine.store.create(subscription("sub", ordered=True))
    engine.sender.gate.clear()
    await engine.publish(*(f"e{number}" for number in range(6)))
    await engine.worker.run_once()
    await round_of(engine, limit=3)
    engine.sender.gate.set()
    await engine.worker.idle()
    await engine.work()
    sent = [request.headers["webhook-id"] for request in engine.sender.requests]
    assert sent == ["e0", "e4", "e5"]
    assert await ends(engine) == ["SUCCEEDED"] + ["BACKLOG"] * 3 + ["SUCCEEDED"] * 2


async def test_waiting_heads_that_give_way_wake_their_lane(engine: Engine) -> None:
    await engine.store.create(subscription("sub", ordered=True))
    await engine.publish("e0", "e1")
    fresh = Engine(engine.store, clock=engine.clock)  # its lanes have heard of nothing
    await round_of(fresh, limit=1)
    assert await fresh.work() == 1
    assert await ends(fresh) == ["BACKLOG", "SUCCEEDED"]
