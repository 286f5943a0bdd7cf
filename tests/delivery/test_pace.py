"""Endpoints are sent as much as they can take, in virtual time on a real store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from signalpost.domain.delivery import DeliveryState
from signalpost.domain.handshake import Consent
from signalpost.domain.subscription import RetryPolicy, Subscription
from signalpost.store import Store
from tests.contract.material import NOW, subscription
from tests.delivery.engine import Engine
from tests.delivery.world import Answer, Endpoints, fill, live

HOUR = NOW + timedelta(hours=1)
Build = Callable[[Callable[[str, int], Answer]], tuple[Engine, Endpoints]]


@pytest.fixture
def build(store: Store) -> Build:
    def make(behave: Callable[[str, int], Answer]) -> tuple[Engine, Endpoints]:
        engine = Engine(store, slots=512)
        world = Endpoints(engine.clock, behave)
        engine.attempter._sender = world
        return engine, world

    return make


async def test_after_an_outage_an_endpoint_is_not_pushed_over_again(build: Build) -> None:
    """Down for an hour with 10,000 waiting, then 200 ms for an answer and 20 at once."""
    limit = 20

    def behave(_: str, width: int) -> Answer:
        if engine.clock.now() < HOUR:
            return Answer(0)
        return Answer(503 if width > limit else 200, seconds=0.2)

    engine, world = build(behave)
    await engine.store.create(subscription())
    await fill(engine, 10_000)
    await live(engine, world, until=HOUR)
    probes = len(world.calls) - 32
    assert probes < 40
    await live(engine, world, until=HOUR + timedelta(days=3))
    calls = [call for call in world.calls if call.at >= HOUR]
    assert [call.width for call in calls[:5]] == [1, 1, 2, 3, 4]
    first_wave = next(n for n, call in enumerate(calls) if call.status == 503)
    heard_of = calls[first_wave].at + timedelta(seconds=0.2)
    assert max(call.width for call in calls if call.at > heard_of) <= limit + 1
    assert Counter(call.status for call in calls)[200] == 10_000
    assert engine.lanes.next_look is None


async def test_a_failing_endpoint_is_only_probed(build: Build) -> None:
    engine, world = build(lambda _, __: Answer(500, seconds=0.01))
    await engine.store.create(subscription())
    await fill(engine, 1000)
    await live(engine, world, until=HOUR)
    burned, probes = world.calls[:32], world.calls[32:]
    assert {call.at for call in burned} == {NOW}
    gaps = [later.at - sooner.at for sooner, later in pairwise(probes)]
    assert all(gap >= timedelta(seconds=1.6) for gap in gaps)
    assert len(probes) < 25
    tries = Counter(delivery.attempt_count for delivery in await engine.deliveries())
    assert tries[0] >= 1000 - len(world.calls)


@pytest.mark.parametrize("status", [429, 503, 500, 301])
async def test_retry_after_of_one_delivery_holds_for_all_of_its_lane(
    build: Build, status: int
) -> None:
    answers = iter([Answer(status, retry_after="7")])
    engine, world = build(lambda _, __: next(answers, Answer()))
    await engine.store.create(subscription(max_concurrent_attempts=1))
    await engine.publish("e1", "e2", "e3")
    await live(engine, world, until=HOUR)
    assert [call.status for call in world.calls] == [status, 200, 200, 200]
    assert world.calls[1].at == NOW + timedelta(seconds=7)


async def test_a_restart_with_much_due_climbs_and_never_goes_faster_than_it_can_last(
    build: Build,
) -> None:
    """50,000 due, in 100 lanes of a tenant, which has half of the slots."""
    slots, second = 256, timedelta(seconds=1)
    engine, world = build(lambda _, __: Answer(seconds=1.0))
    for number in range(100):
        uri = f"https://receiver{number}.example/hook"
        await engine.store.create(subscription(f"sub-{number}", endpoint_uri=uri))
    await fill(engine, 500)
    engine, world = build(world.behave)
    engine.worker._slots = slots
    await engine.rescuer.start()
    begun, after = [0], Counter[int]()
    for number in range(14):
        await live(engine, world, until=NOW + second * (number + 1) - timedelta(microseconds=1))
        after[number] = len(world.calls) - begun[-1]
        begun.append(len(world.calls))
        assert len(engine.worker._under_way) <= slots
    steady = after[13]
    assert steady == slots / 2
    # At first none is known to be prompt, and then some are, and others not yet.
    for number in range(3):
        assert (32 << number) * 3 / 8 <= after[number] <= (32 << number) * 3 / 4
    assert max(after.values()) <= 2 * steady


async def test_a_rate_is_exact(build: Build) -> None:
    engine, world = build(lambda _, __: Answer(seconds=0.3))
    await engine.store.create(subscription(max_attempts_per_second=5.0))
    await engine.publish(*(f"e{number}" for number in range(50)))
    await live(engine, world, until=HOUR)
    assert [(call.at - NOW).total_seconds() for call in world.calls] == [n / 5 for n in range(50)]


def asked(*, allowed: int | None, chosen: float | None = None) -> Subscription:
    """One whose endpoint agreed to so many a minute."""
    consent = Consent("hooks.example.com", allowed)
    return subscription(max_attempts_per_second=chosen, require_handshake=True, consent=consent)


@pytest.mark.parametrize(
    ("chosen", "allowed", "gap"), [(None, 30, 2), (5.0, 30, 2), (0.25, 30, 4), (0.5, None, 2)]
)
async def test_no_more_is_sent_than_the_endpoint_allowed(
    build: Build, chosen: float | None, allowed: int | None, gap: int
) -> None:
    engine, world = build(lambda _, __: Answer(seconds=0.3))
    await engine.store.create(asked(allowed=allowed, chosen=chosen))
    await engine.publish(*(f"e{number}" for number in range(50)))
    await live(engine, world, until=HOUR)
    assert [(call.at - NOW).total_seconds() for call in world.calls] == [n * gap for n in range(50)]


async def test_a_restart_keeps_to_what_the_endpoint_allowed(build: Build) -> None:
    engine, world = build(lambda _, __: Answer())
    await engine.store.create(asked(allowed=6))
    await engine.publish("e1", "e2", "e3")
    await live(engine, world, until=NOW + timedelta(seconds=1))
    after, again = build(lambda _, __: Answer())
    after.clock.time = engine.clock.time
    await after.rescuer.start()
    await live(after, again, until=HOUR)
    first, second = (call.at for call in again.calls)
    assert second - first == timedelta(seconds=10)


async def test_a_restart_does_not_spend_a_rate_twice(build: Build) -> None:
    engine, world = build(lambda _, __: Answer())
    await engine.store.create(subscription(max_attempts_per_second=0.1))
    await engine.publish("e1", "e2")
    await live(engine, world, until=NOW + timedelta(seconds=1))
    engine.clock.advance(seconds=1)
    after, again = build(lambda _, __: Answer())
    after.clock.time = engine.clock.time
    await after.rescuer.start()
    await live(after, again, until=HOUR)
    assert [call.at - world.calls[0].at for call in again.calls] == [timedelta(seconds=11)]


async def test_a_restart_climbs_and_remembers_what_is_dead(build: Build) -> None:
    """50,000 due in one lane would be no other than these."""
    dead = "https://dead.example/hook"
    engine, world = build(lambda uri, _: Answer(500 if uri == dead else 200, seconds=0.2))
    await engine.store.create(subscription("well"))
    await engine.store.create(subscription("dead", endpoint_uri=dead))
    await fill(engine, 100)
    await live(engine, world, until=NOW + timedelta(seconds=2))
    await fill(engine, 500, first=100)
    restarted, again = build(world.behave)
    restarted.clock.time = engine.clock.time
    await restarted.rescuer.start()
    await live(restarted, again, until=restarted.clock.now() + timedelta(seconds=1.5))
    assert sum(call.uri == dead for call in again.calls) <= 1
    widths = [
        max(call.width for call in again.calls if call.at == at and call.uri != dead)
        for at in sorted({call.at for call in again.calls if call.uri != dead})
    ]
    # The ramp goes on, but so soon after a start there are 32 slots, and half for one tenant.
    assert widths[:4] == [4, 8, 16, 16]


async def test_a_dead_lane_costs_nothing_whatever_waits_in_it(build: Build) -> None:
    dead = "https://dead.example/hook"
    engine, world = build(lambda uri, _: Answer(500 if uri == dead else 200))
    await engine.store.create(subscription("dead", endpoint_uri=dead))
    await fill(engine, 100)
    await live(engine, world, until=NOW + timedelta(minutes=30))
    for batch in range(50):
        await fill(engine, 20, first=1000 + batch * 20)
        assert await engine.worker.run_once() == 0
    assert len(engine.lanes._alarms) < 5


async def test_a_success_after_failures_brings_the_lane_back_to_its_cap(build: Build) -> None:
    failing = True
    engine, world = build(lambda _, __: Answer(500 if failing else 200, seconds=0.1))
    policy = RetryPolicy(max_attempts=50, min_backoff=timedelta(seconds=1), backoff_multiplier=1)
    await engine.store.create(replace(subscription(), retry_policy=policy))
    await fill(engine, 400)
    await live(engine, world, until=NOW + timedelta(seconds=60))
    failing = False
    await live(engine, world, until=HOUR)
    assert {delivery.state for delivery in await engine.deliveries()} == {DeliveryState.SUCCEEDED}
    assert max(call.width for call in world.calls[-200:]) == 32
