"""Pruning, driven by hand."""

from datetime import timedelta

import pytest

from signalpost.delivery import pruner as pruner_module
from signalpost.delivery.pruner import Pruner
from signalpost.domain.outcome import Outcome
from signalpost.domain.retention import Retention
from signalpost.ports import EventQuery, PageRequest
from signalpost.ports.statistics import StatisticsQuery
from signalpost.store import retention
from tests.contract.material import subscription
from tests.delivery.engine import Engine

RETENTION = Retention(delivered=timedelta(days=7), failed=timedelta(days=30))


@pytest.fixture
def pruner(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Pruner:
    monkeypatch.setattr(retention, "MOST_LOOKED_AT", 10)
    return Pruner(
        engine.store.upkeep, counts=engine.store.counts, clock=engine.clock, retention=RETENTION
    )


async def round_of(pruner: Pruner) -> int:
    """Prune until the round is over; return in how many stretches."""
    stretches = 1
    while await pruner.run_once():
        stretches += 1
    return stretches


async def events_left(engine: Engine) -> set[str]:
    page = await engine.store.list_events(EventQuery(tenant_id=None), PageRequest(size=1000))
    return {found.event_id for found in page.items}


async def test_a_round_prunes_all_that_is_over(engine: Engine, pruner: Pruner) -> None:
    await engine.publish(*(f"nobody-{number}" for number in range(15)))
    await engine.store.create(subscription())
    await engine.publish(*(f"e{number}" for number in range(25)))
    await engine.work()
    engine.clock.advance(days=7, seconds=1)
    await engine.publish("young")
    assert await round_of(pruner) == 3 + 2
    assert await events_left(engine) == {"young"}
    [delivery] = await engine.deliveries()
    assert delivery.event_id == "young"


async def test_the_next_round_goes_on_where_the_last_one_ended(
    engine: Engine, pruner: Pruner
) -> None:
    await engine.store.create(subscription())
    await engine.publish(*(f"e{number:02}" for number in range(25)))
    engine.clock.advance(days=7, seconds=1)
    assert await round_of(pruner) == 3 + 3  # all wait: looked at, and kept
    assert await round_of(pruner) == 2
    await engine.publish("later")
    await engine.work()
    engine.clock.advance(days=7, seconds=1)
    assert await round_of(pruner) == 2
    assert "later" not in await events_left(engine)
    assert "e00" in await events_left(engine)


async def test_once_an_hour_what_was_passed_by_is_looked_at_again(
    engine: Engine, pruner: Pruner
) -> None:
    await engine.store.create(subscription())
    await engine.publish("late")
    engine.clock.advance(days=8)
    await round_of(pruner)
    await engine.work()
    engine.clock.advance(days=8)
    for _ in range(59):
        await round_of(pruner)
    assert await events_left(engine) == {"late"}
    await round_of(pruner)
    assert not await events_left(engine)


async def test_dead_letters_stay_until_their_own_retention(engine: Engine, pruner: Pruner) -> None:
    await engine.store.create(subscription())
    await engine.publish("e1")
    engine.sender.outcomes = [Outcome.REJECTED] * 20
    while (await engine.deliveries())[0].end_time is None:
        await engine.work()
        engine.clock.advance(hours=6)  # all of it within the five days before a suspension
    engine.clock.advance(days=20)
    await round_of(pruner)
    assert len(await engine.deliveries()) == 1
    engine.clock.advance(days=11)
    fresh = Pruner(
        engine.store.upkeep, counts=engine.store.counts, clock=engine.clock, retention=RETENTION
    )
    await round_of(fresh)
    assert not await engine.deliveries()
    assert not await events_left(engine)


async def test_counts_go_after_thirty_days(engine: Engine, pruner: Pruner) -> None:
    await engine.store.create(subscription())
    begun = engine.clock.now()
    for days in range(3):
        await engine.publish(f"e{days}")
        await engine.work()
        engine.clock.advance(days=1)
    engine.clock.advance(days=27, minutes=5)
    await round_of(pruner)
    query = StatisticsQuery(tenant_id=None)
    left = await engine.store.counts.count_ended(query, start=begun, end=engine.clock.now())
    assert left.succeeded == 2


async def test_a_round_goes_on_while_there_are_old_counts(
    engine: Engine, pruner: Pruner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruner_module, "_MOST_COUNTS", 1)
    await engine.store.create(subscription())
    begun = engine.clock.now()
    for number in range(3):
        await engine.publish(f"e{number}")
        await engine.work()
        engine.clock.advance(minutes=5)
    engine.clock.advance(days=31)
    await round_of(pruner)
    query = StatisticsQuery(tenant_id=None)
    left = await engine.store.counts.count_ended(query, start=begun, end=engine.clock.now())
    assert left.succeeded == 0
