"""What becomes of deliveries that wait for a retry while their subscription changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from signalpost.domain.delivery import DeliveryState
from signalpost.domain.filter import EventFilter
from signalpost.domain.ids import SubscriptionId
from signalpost.domain.outcome import Outcome
from signalpost.domain.subscription import Subscription
from tests.contract.material import TENANT, subscription
from tests.delivery.engine import Engine


@pytest.fixture
async def waiting(engine: Engine) -> Subscription:
    """Return a subscription with a delivery that waits for its second attempt."""
    stored = await engine.store.create(subscription())
    engine.sender.outcomes = [Outcome.REJECTED]
    await engine.publish("event")
    assert await engine.work() == 1
    return stored


async def second_attempt(engine: Engine) -> int:
    engine.clock.advance(hours=1)
    return await engine.work()


async def test_the_next_attempt_goes_to_the_new_endpoint(
    engine: Engine, waiting: Subscription
) -> None:
    moved = replace(waiting, endpoint_uri="https://elsewhere.example/")
    await engine.store.replace(moved, now=engine.clock.now())
    assert await second_attempt(engine) == 1
    assert [request.endpoint_uri for request in engine.sender.requests] == [
        waiting.endpoint_uri,
        moved.endpoint_uri,
    ]


async def test_what_was_accepted_stays_when_the_filter_chooses_it_no_longer(
    engine: Engine, waiting: Subscription
) -> None:
    elsewhere = EventFilter(event_types=frozenset({"usage.*"}))
    await engine.store.replace(replace(waiting, filter=elsewhere), now=engine.clock.now())
    assert await second_attempt(engine) == 1
    assert await engine.outcomes() == ["REJECTED", "SUCCEEDED"]


async def test_with_its_subscription_deleted_a_delivery_is_canceled_and_says_so(
    engine: Engine, waiting: Subscription
) -> None:
    await engine.store.delete(TENANT, waiting.subscription_id, etag=None, now=engine.clock.now())
    await engine.rescuer.run_once()
    assert await second_attempt(engine) == 0
    [delivery] = await engine.deliveries()
    assert delivery.state is DeliveryState.CANCELED
    assert delivery.end_time is not None


async def test_a_deletion_that_was_cut_short_is_soon_through(engine: Engine) -> None:
    await engine.store.create(subscription())
    for start in range(0, 1200, 400):
        await engine.publish(*(f"e{number}" for number in range(start, start + 400)))
    await engine.store.delete(TENANT, SubscriptionId("sub"), etag=None, now=engine.clock.now())
    await engine.rescuer.run_once()
    assert await engine.store.deleted_lanes() == []
