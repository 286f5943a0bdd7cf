"""Much for one tenant, or for one endpoint, beside little for others, in virtual time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import pytest

from signalpost.store import Store
from tests.contract.material import NOW, event, subscription
from tests.delivery.engine import Engine
from tests.delivery.world import Answer, Endpoints, live

SLOTS = 32
ANSWER = timedelta(seconds=0.2)
"""So 160 deliveries a second are possible."""

SECOND = timedelta(seconds=1)
QUIET = tuple(f"quiet{number}" for number in range(5))
LOUD_LANES = 300
SECONDS = 3
LOUD = "loud"


def uri(name: str) -> str:
    return f"https://{name}.example/hook"


def town(store: Store, *, slots: int = SLOTS) -> tuple[Engine, Endpoints]:
    engine = Engine(store, slots=slots)
    world = Endpoints(engine.clock, lambda _, __: Answer(seconds=ANSWER.total_seconds()))
    engine.attempter._sender = world
    return engine, world


async def subscribe(store: Store, tenant: str, *names: str) -> None:
    for name in names:
        await store.create(subscription(name, tenant=tenant, endpoint_uri=uri(name)))


async def publish(engine: Engine, event_ids: Mapping[str, Sequence[str]]) -> None:
    """Publish events to tenants, all in one call."""
    now = engine.clock.now()
    events = [
        event(event_id, tenant=tenant, publish_time=now)
        for tenant, names in event_ids.items()
        for event_id in names
    ]
    for accepted in await engine.store.accept(events, now=now):
        engine.lanes.notice(accepted.lanes, due=now)


def waits(world: Endpoints, name: str, published: Sequence[datetime]) -> list[timedelta]:
    """Return how long each event waited for its request; an endpoint gets them in order."""
    came = [call.at for call in world.calls if call.uri == uri(name)]
    return [at - since for at, since in zip(came, published, strict=True)]


async def test_who_publishes_a_hundred_times_as_much_delays_nobody_else(store: Store) -> None:
    """It has a hundred times as many endpoints, too, so a turn for each of them is not enough."""
    engine, world = town(store)
    await subscribe(store, LOUD, *(f"loud{number}" for number in range(LOUD_LANES)))
    for name in QUIET:
        await subscribe(store, name, name)
    published: dict[str, list[datetime]] = defaultdict(list)
    for second in range(SECONDS):
        await publish(engine, {LOUD: [f"loud{second}"]})
        for place, name in enumerate(QUIET):
            at = NOW + second * SECOND + (place + 1) * SECOND / (len(QUIET) + 1)
            await live(engine, world, until=at)
            engine.clock.time = at
            await publish(engine, {name: [f"{name}-{second}"]})
            published[name].append(at)
        await live(engine, world, until=NOW + (second + 1) * SECOND)
    await live(engine, world, until=NOW + SECONDS * SECOND + ANSWER)
    assert len(await store.backlogs()) > LOUD_LANES / 2
    waited = [wait for name in QUIET for wait in waits(world, name, published[name])]
    assert len(waited) == len(QUIET) * SECONDS
    # All slots are taken, and the first ones that are free again are theirs.
    assert max(waited) <= ANSWER


async def test_within_a_tenant_the_full_queue_of_an_endpoint_delays_no_other(store: Store) -> None:
    engine, world = town(store, slots=1)
    await subscribe(store, LOUD, "full")
    await publish(engine, {LOUD: [f"e{number}" for number in range(50)]})
    await subscribe(store, LOUD, "other")
    published = []
    for number in range(5):
        await live(engine, world, until=NOW + number * SECOND)
        engine.clock.time = NOW + number * SECOND
        published.append(engine.clock.now())
        await publish(engine, {LOUD: [f"more{number}"]})
    await live(engine, world, until=NOW + 5 * SECOND)
    assert await store.backlogs()
    # One of the full queue is under way, and maybe one more has its turn before.
    assert max(waits(world, "other", published)) <= 2 * ANSWER


DOWN = Answer(0, seconds=15.0)
"""A black hole: nobody answers, until the time of an attempt is over."""


@pytest.mark.parametrize("answer", [DOWN, Answer(seconds=5.0)], ids=["dead", "slow"])
async def test_a_tenth_that_is_dead_or_slow_delays_no_other(store: Store, answer: Answer) -> None:
    """Each gets an event every two seconds, and there are slots for what is not yet given up."""
    engine, world = town(store, slots=42)
    names = [f"e{number}" for number in range(20)]
    bad = {uri(name) for name in names[:2]}
    world.behave = lambda asked, _: answer if asked in bad else Answer(seconds=0.2)
    for name in names:
        await subscribe(store, name, name)
    published: dict[str, list[datetime]] = defaultdict(list)
    for turn in range(60):
        engine.clock.time = NOW + turn * SECOND
        now = names[turn % 2 :: 2]
        await publish(engine, {name: [f"event-{turn}"] for name in now})
        for name in now:
            published[name].append(engine.clock.time)
        await live(engine, world, until=NOW + (turn + 1) * SECOND)
    waited = [wait for name in names[2:] for wait in waits(world, name, published[name])]
    assert max(waited) == timedelta()
    assert bad <= {call.uri for call in world.calls}
