"""One accepted batch for many subscriptions: far more deliveries than may be under way."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from signalpost.delivery.worker import LEASE
from signalpost.domain.delivery import DeliveryState
from signalpost.store import Store
from tests.contract.material import NOW, subscription
from tests.contract.sqlite_file import look
from tests.delivery.engine import Engine
from tests.delivery.world import Answer, Endpoints, live

SLOTS, SUBSCRIPTIONS, EVENTS = 50, 40, 40
ANSWER = LEASE / 4
"""So the whole takes eight leases: one that was given long before it is used would expire."""


async def test_of_a_batch_for_many_no_more_is_leased_than_is_under_way(
    store: Store, tmp_path: Path
) -> None:
    engine = Engine(store, slots=SLOTS)
    world = Endpoints(engine.clock, lambda _, __: Answer(seconds=ANSWER.total_seconds()))
    engine.attempter._sender = world
    for number in range(SUBSCRIPTIONS):
        uri = f"https://receiver{number}.example/hook"
        await store.create(subscription(f"sub-{number}", endpoint_uri=uri))
    await engine.publish(*(f"e{number}" for number in range(EVENTS)))
    rounds = 0
    while engine.lanes.next_look is not None or world.next_answer is not None:
        await live(engine, world, until=engine.clock.now() + ANSWER / 2)
        engine.clock.time += ANSWER / 2
        assert world.under_way <= SLOTS
        leased = "SELECT count(*) FROM queue WHERE lease_until IS NOT NULL"
        assert look(tmp_path / "store.db", leased) == [(world.under_way,)]
        assert await store.rescue(now=engine.clock.now(), limit=1000) == []
        world.answer()
        rounds += 1
    assert engine.clock.now() - NOW > 7 * LEASE
    assert len(world.calls) == SUBSCRIPTIONS * EVENTS
    assert set(Counter(call.uri for call in world.calls).values()) == {EVENTS}
    assert {(d.state, d.attempt_count) for d in await engine.deliveries()} == {
        (DeliveryState.SUCCEEDED, 1)
    }
