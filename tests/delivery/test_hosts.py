"""What all subscriptions together send to a host, in virtual time on a real store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from urllib.parse import urlsplit

import pytest

from signalpost.delivery import lanes
from signalpost.domain.delivery import DeliveryState
from signalpost.domain.ids import LaneId, SubscriptionId, TenantId
from signalpost.domain.lane import LaneDecision, LaneFacts, decide
from signalpost.domain.pace import OPEN_AFTER
from signalpost.domain.subscription import RetryPolicy
from signalpost.store import Store
from tests.contract.material import NOW, TENANT, event, subscription
from tests.delivery.engine import Engine
from tests.delivery.world import Answer, Call, Endpoints, fill, live

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
LIMIT, RATE = 10, 5
OTHER, WELL = "https://other.example/hook", "https://victim.example/well"
EAGER = RetryPolicy(max_attempts=100, min_backoff=SECOND, backoff_multiplier=1)


async def test_no_host_gets_more_at_once_than_its_share(store: Store) -> None:
    engine = Engine(store, slots=512, host_limit=10)
    other = "https://other.example/hook"
    world = Endpoints(
        engine.clock, lambda uri, _: Answer(200 if uri == other else 404, seconds=0.1)
    )
    engine.attempter._sender = world
    for number in range(50):
        uri = f"https://victim.example/{number}"
        await store.create(subscription(f"sub-{number}", endpoint_uri=uri))
    await store.create(subscription("other", endpoint_uri=other))
    await fill(engine, 30)
    at_once: list[int] = []
    behave = world.behave

    def watch(uri: str, width: int) -> Answer:
        at_once.append(sum(n for name, n in world.in_flight.items() if "victim" in name))
        return behave(uri, width)

    world.behave = watch
    await live(engine, world, until=NOW + timedelta(seconds=20))
    assert max(at_once) == 10
    assert max(call.width for call in world.calls if call.uri == other) == 10
    asked = Counter(call.uri for call in world.calls)
    assert all(asked[f"https://victim.example/{n}"] >= OPEN_AFTER for n in range(50))


def on(host: str) -> Callable[[Call], bool]:
    return lambda call: urlsplit(call.uri).hostname == host


def bounded(
    store: Store, behave: Callable[[str, int], Answer], *, limit: int = LIMIT
) -> tuple[Engine, Endpoints]:
    engine = Engine(store, slots=512, host_limit=limit, host_failures=RATE)
    world = Endpoints(engine.clock, behave)
    engine.attempter._sender = world
    return engine, world


async def subscribe(store: Store, count: int, *, tenant: str = TENANT) -> None:
    """Name a host that never asked for it, in many endpoints."""
    for number in range(count):
        uri = f"https://victim.example/{tenant}/{number}"
        name = f"{tenant}-{number}"
        await store.create(subscription(name, tenant=tenant, endpoint_uri=uri, retry_policy=EAGER))


async def publish(engine: Engine, tenant: str, *event_ids: str) -> None:
    events = [event(event_id, tenant=tenant, content=event_id) for event_id in event_ids]
    now = engine.clock.now()
    for accepted in await engine.store.accept(events, now=now):
        engine.lanes.notice(accepted.lanes, due=now)


async def test_a_host_that_takes_nothing_gets_its_share_of_failures_and_no_more(
    store: Store,
) -> None:
    """Fifty endpoints on it, with much waiting for each; and nobody else waits for that."""
    engine, world = bounded(store, lambda uri, _: Answer(200 if uri == OTHER else 404, seconds=0.1))
    await subscribe(store, 50)
    await store.create(subscription("other", endpoint_uri=OTHER))
    await fill(engine, 30)
    await live(engine, world, until=NOW + MINUTE)
    starts = [(call.at - NOW).total_seconds() for call in filter(on("victim.example"), world.calls)]
    assert starts[:LIMIT] == [0] * LIMIT
    # The first slot is back a gap after the first failures; from then on, one each gap.
    assert starts[LIMIT:] == [pytest.approx(0.3 + n / RATE) for n in range(299)]
    others = [(call.at - NOW).total_seconds() for call in filter(on("other.example"), world.calls)]
    assert others == [pytest.approx(n // LIMIT / 10) for n in range(30)]


async def test_lanes_that_spare_their_host_are_looked_at_in_turn_and_not_each_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, world = bounded(store, lambda _, __: Answer(404))
    await subscribe(store, 200)
    await fill(engine, 2)
    await live(engine, world, until=NOW + MINUTE / 6)
    looks, before = Counter[LaneId](), len(world.calls)

    def watched(facts: LaneFacts, *, now: datetime) -> LaneDecision:
        looks[facts.lane.lane_id] += 1
        return decide(facts, now=now)

    monkeypatch.setattr(lanes, "decide", watched)
    await live(engine, world, until=NOW + MINUTE)
    made = len(world.calls) - before
    assert made == 50 * RATE
    assert looks.total() <= 8 * made
    assert not engine.lanes._ring


async def test_a_host_that_works_again_is_sent_twice_as_much_after_each_turn(
    store: Store,
) -> None:
    up = NOW + MINUTE / 2
    limit = 64

    def behave(_: str, __: int) -> Answer:
        return Answer(200 if engine.clock.now() >= up else 503, seconds=0.1)

    engine, world = bounded(store, behave, limit=limit)
    await subscribe(store, 200)
    await fill(engine, 1)
    await live(engine, world, until=NOW + 5 * MINUTE)
    starts = Counter(call.at for call in world.calls if call.at >= up)
    turns = [starts[at] for at in sorted(starts)]
    for before, after in pairwise(turns[:5]):
        assert 2 * before <= after <= 2 * before + 1  # that one is due to the time that passed
    assert max(starts) < up + 3 * SECOND
    assert {delivery.state for delivery in await engine.deliveries()} == {DeliveryState.SUCCEEDED}


async def test_who_takes_what_it_gets_does_not_wait_for_others_on_its_host(store: Store) -> None:
    engine, world = bounded(store, lambda uri, _: Answer(200 if uri == WELL else 404, seconds=0.1))
    await store.create(subscription("well", tenant="well", endpoint_uri=WELL))
    await publish(engine, "well", "first")
    await live(engine, world, until=NOW)
    await subscribe(store, 50)
    await fill(engine, 30)
    # Between two gaps, so that nobody could go who must spare the host.
    times = [NOW + number * 1.5 * SECOND + SECOND / 20 for number in range(1, 20)]
    for number, at in enumerate(times):
        await live(engine, world, until=at)
        engine.clock.time = at
        await publish(engine, "well", f"w{number}")
    await live(engine, world, until=NOW + MINUTE / 2)
    assert [call.at for call in world.calls if call.uri == WELL][1:] == times
    assert len(world.calls) >= 20 * RATE


async def test_tenants_take_turns_behind_a_host_whatever_they_subscribe(store: Store) -> None:
    engine, world = bounded(store, lambda uri, _: Answer(200 if uri == WELL else 404))
    await subscribe(store, 100, tenant="loud")
    await publish(engine, "loud", "a", "b", "c")
    await live(engine, world, until=NOW + MINUTE / 6)
    await store.create(subscription("well", tenant="quiet", endpoint_uri=WELL))
    await publish(engine, "quiet", "q")
    asked = len(world.calls)
    await live(engine, world, until=NOW + MINUTE / 4)
    assert WELL in [call.uri for call in world.calls[asked : asked + 3]]


async def test_a_host_that_takes_what_it_gets_is_sent_all_at_once(store: Store) -> None:
    """One in ten of its endpoints fails, and that makes no difference."""
    engine, world = bounded(
        store, lambda uri, _: Answer(404 if uri.endswith("0") else 200), limit=500
    )
    await subscribe(store, 100)
    await fill(engine, 20)
    await live(engine, world, until=NOW)
    assert len(world.calls) >= 90 * 20 + 10 * OPEN_AFTER


async def test_an_endpoint_that_moves_to_another_host_does_not_wait_for_the_former(
    store: Store,
) -> None:
    engine, world = bounded(store, lambda uri, _: Answer(200 if uri == OTHER else 404))
    await subscribe(store, 50)
    await fill(engine, 1)
    await live(engine, world, until=NOW)
    waits = f"https://victim.example/{TENANT}/40"
    assert waits not in [call.uri for call in world.calls]
    name = SubscriptionId(f"{TENANT}-40")
    moved = replace(await store.get(TENANT, name), endpoint_uri=OTHER)
    changed = await store.replace(moved, now=NOW)
    engine.lanes.notice([changed.lane], due=NOW)
    await live(engine, world, until=NOW)
    assert [call.uri for call in world.calls][LIMIT:] == [OTHER]


async def test_new_subscriptions_find_a_host_as_the_deleted_ones_left_it(store: Store) -> None:
    engine, world = bounded(store, lambda _, __: Answer(404))
    await subscribe(store, 20, tenant="one")
    await publish(engine, "one", "a")
    await live(engine, world, until=NOW)
    for number in range(20):
        deleted = await store.delete(
            TenantId("one"), SubscriptionId(f"one-{number}"), etag=None, now=NOW
        )
        engine.lanes.forget(deleted)
    assert len(world.calls) == LIMIT
    await subscribe(store, 20, tenant="two")
    await publish(engine, "two", "b")
    await live(engine, world, until=NOW + SECOND)
    assert len(world.calls) <= LIMIT + RATE
