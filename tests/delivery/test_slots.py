"""Tenants with more endpoints that never answer than there are slots, beside others."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import pytest

from signalpost.delivery import lanes
from signalpost.delivery.worker import SLOTS
from signalpost.domain.ids import LaneId
from signalpost.domain.lane import LaneDecision, LaneFacts, decide
from signalpost.domain.subscription import RetryPolicy
from signalpost.store import Store
from tests.contract.material import NOW, event, subscription
from tests.delivery.engine import Engine
from tests.delivery.world import Answer, Endpoints, live

SECOND = timedelta(seconds=1)
MUTE = Answer(0, seconds=15)
"""It accepts the connection and says nothing, until the time of the attempt is over."""

ONCE = RetryPolicy(max_attempts=1)


def town(store: Store, *, slots: int) -> tuple[Engine, Endpoints]:
    engine = Engine(store, slots=slots)
    world = Endpoints(engine.clock, lambda uri, _: MUTE if ".mute." in uri else Answer(seconds=0.1))
    engine.attempter._sender = world
    return engine, world


def mute(tenant: str, number: int) -> str:
    return f"https://{tenant}{number}.mute.example/hook"


def well(tenant: str) -> str:
    return f"https://{tenant}.example/hook"


async def subscribe(store: Store, tenant: str, *uris: str) -> None:
    for uri in uris:
        name = f"{tenant}-{uri.removeprefix('https://').partition('.')[0]}"
        await store.create(subscription(name, tenant=tenant, endpoint_uri=uri, retry_policy=ONCE))


async def publish(engine: Engine, tenant: str, *event_ids: str) -> None:
    now = engine.clock.now()
    events = [event(name, tenant=tenant, content=name, publish_time=now) for name in event_ids]
    for accepted in await engine.store.accept(events, now=now):
        engine.lanes.notice(accepted.lanes, due=now)


def asked(world: Endpoints) -> Counter[str]:
    return Counter(call.uri for call in world.calls)


async def test_who_has_more_mute_endpoints_than_there_are_slots_delays_no_other_tenant(
    store: Store,
) -> None:
    engine, world = town(store, slots=SLOTS)
    await subscribe(store, "loud", *(mute("loud", number) for number in range(600)))
    await subscribe(store, "quiet", well("quiet"))
    await publish(engine, "loud", "e1")
    await live(engine, world, until=NOW)
    assert world.under_way == SLOTS * 3 / 8
    await publish(engine, "quiet", "e2")
    await live(engine, world, until=NOW)
    assert asked(world)[well("quiet")] == 1
    assert world.under_way == SLOTS * 3 / 8 + 1


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("count", [1, 2, 4])
async def test_nor_do_several_of_them(store: Store, count: int, *, together: bool) -> None:
    """Whether they publish at the same time or one after the other, and round after round."""
    engine, world = town(store, slots=64)
    loud = [f"loud{number}" for number in range(count)]
    for tenant in loud:
        await subscribe(store, tenant, *(mute(tenant, number) for number in range(80)))
    for turn in range(3):
        for tenant in loud:
            await publish(engine, tenant, f"{tenant}-{turn}")
            if not together:
                await live(engine, world, until=engine.clock.now())
        # In the middle of an attempt, and when the next ones have begun.
        for half in range(2):
            engine.clock.time = NOW + (20 * turn + 10 * half) * SECOND
            await live(engine, world, until=engine.clock.now())
            assert world.under_way > 64 * 3 / 8 - 1
            fresh = f"quiet-{turn}-{half}"
            await subscribe(store, fresh, well(fresh))
            before = len(world.calls)
            await publish(engine, fresh, f"{fresh}-e1", f"{fresh}-e2")
            await live(engine, world, until=engine.clock.now() + SECOND)
            assert asked(world)[well(fresh)] == 2
            assert world.calls[before].uri == well(fresh)


async def test_what_stood_aside_goes_as_slots_are_freed_and_is_looked_at_no_more_than_that(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Counter[LaneId]()

    def watched(facts: LaneFacts, *, now: datetime) -> LaneDecision:
        looks[facts.lane.lane_id] += 1
        return decide(facts, now=now)

    monkeypatch.setattr(lanes, "decide", watched)
    engine, world = town(store, slots=32)
    every = [mute(tenant, number) for tenant in ("one", "two") for number in range(100)]
    await subscribe(store, "one", *every[:100])
    await subscribe(store, "two", *every[100:])
    await publish(engine, "one", "e1")
    await publish(engine, "two", "e2")
    await live(engine, world, until=NOW + timedelta(hours=1))
    assert asked(world) == Counter(every)
    # Nobody else wanted anything, so the two had two thirds of those slots that are not kept for
    # prompt endpoints, and one had a half of them in the end.
    assert len({call.at for call in world.calls}) <= 200 / (24 * 2 / 3) + 2
    # When it is due, when its turn comes, and twice as it turns out to be empty.
    assert looks.total() <= 4 * len(every)
    ring = engine.lanes._ring
    assert not ring._lanes
    assert not ring._slow_held
    assert ring._aside == {True: {}, False: {}}


async def test_of_a_tenant_alone_half_of_the_slots_are_used_without_pause(store: Store) -> None:
    engine, world = town(store, slots=32)
    await subscribe(store, "only", well("a"), well("b"))
    await publish(engine, "only", "first")
    await live(engine, world, until=NOW + SECOND)
    begun = len(world.calls)
    assert begun == 2
    start = engine.clock.time
    await publish(engine, "only", *(f"e{number}" for number in range(160)))
    await live(engine, world, until=NOW + timedelta(hours=1))
    assert len(world.calls) == begun + 320
    at_once = Counter(call.at for call in world.calls[begun:])
    assert set(at_once.values()) == {16}
    assert max(at_once) == start + 19 * timedelta(seconds=0.1)
