"""Rows that are damaged in the database fail their own deliveries, and stop nothing else."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from signalpost.domain.delivery import DeliveryState, FailureReason
from signalpost.domain.ids import SubscriptionId
from signalpost.store import Store
from tests.contract.material import NOW, TENANT, subscription
from tests.contract.sqlite_file import change, look
from tests.delivery.engine import Engine

BAD, GOOD = SubscriptionId("bad"), SubscriptionId("good")

DAMAGES = {
    "secret": "UPDATE signing_keys SET secret = zeroblob(60) WHERE lane_id = 1",
    "headers": "UPDATE subscriptions SET headers = x'00' WHERE subscription_id = 'bad'",
    "policy": "UPDATE subscriptions SET retry_policy = '{' WHERE subscription_id = 'bad'",
    "algorithm": "UPDATE signing_keys SET algorithm = 99 WHERE lane_id = 1",
    "ranges": "UPDATE subscriptions SET allowed_ip_ranges = '[7.5]' WHERE subscription_id = 'bad'",
    "filter": "UPDATE subscriptions SET filter = 'all' WHERE subscription_id = 'bad'",
}
OF_ITS_LANE = {
    "endpoint": "UPDATE subscriptions SET endpoint_uri = x'00ff' WHERE lane_id = 1",
    "order": "UPDATE subscriptions SET ordering = 99 WHERE lane_id = 1",
    "width": "UPDATE subscriptions SET max_concurrent_attempts = 'many' WHERE lane_id = 1",
    "no width": "UPDATE subscriptions SET max_concurrent_attempts = 0 WHERE lane_id = 1",
    "rate": "UPDATE subscriptions SET max_attempts_per_second = 'many' WHERE lane_id = 1",
    "no rate": "UPDATE subscriptions SET max_attempts_per_second = 1e-300 WHERE lane_id = 1",
    "allowed": "UPDATE subscriptions SET allowed_attempts_per_minute = x'00' WHERE lane_id = 1",
    "none allowed": "UPDATE subscriptions SET allowed_attempts_per_minute = 0 WHERE lane_id = 1",
}
DAMAGES |= OF_ITS_LANE
NAMED = 'stored subscription "bad" of tenant'
CODES = {"secret": "SECRET_UNREADABLE", "headers": "SECRET_UNREADABLE"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def pair(engine: Engine) -> Engine:
    for name in (BAD, GOOD):
        await engine.store.create(subscription(name))
    return engine


async def polled(engine: Engine) -> None:
    """Look again, as a worker does when it is woken for nothing and as the rescuer does."""
    for _ in range(20):
        await engine.rescuer.run_once()
        await engine.rescuer.rescan()
        assert await engine.work() == 0


def told(caplog: pytest.LogCaptureFixture, level: int) -> Sequence[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= level]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_subscription_fails_what_goes_to_it(
    pair: Engine, path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    change(path, DAMAGES[damage])
    await pair.publish("event")
    caplog.set_level(logging.INFO, "signalpost")
    caplog.clear()
    assert await pair.work() == 2
    bad, good = await pair.deliveries()
    assert (bad.subscription_id, bad.state) == (BAD, DeliveryState.FAILED)
    assert bad.failure_reason is FailureReason.INTERNAL
    [attempt] = bad.attempts
    assert attempt.result.error_code == CODES.get(damage, "SUBSCRIPTION_UNREADABLE")
    assert NAMED in attempt.result.error_message
    assert (good.subscription_id, good.state) == (GOOD, DeliveryState.SUCCEEDED)
    assert len(pair.sender.requests) == 1
    assert told(caplog, logging.INFO) == ["attempt"]
    await polled(pair)
    assert told(caplog, logging.INFO) == ["attempt"]


async def test_a_header_that_cannot_be_sent_never_reaches_the_sender(pair: Engine) -> None:
    stored = await pair.store.get(TENANT, BAD)
    split = replace(stored, headers={"x-note": "a\r\nx-injected: b"})
    await pair.store.replace(split, now=NOW)
    await pair.publish("event")
    assert await pair.work() == 2
    bad, good = await pair.deliveries()
    [attempt] = bad.attempts
    assert (bad.state, attempt.result.error_code) == (
        DeliveryState.FAILED,
        "SUBSCRIPTION_UNREADABLE",
    )
    assert NAMED in attempt.result.error_message
    assert good.state is DeliveryState.SUCCEEDED
    assert len(pair.sender.requests) == 1


async def test_a_damaged_filter_is_told_once_and_publishing_goes_on(
    pair: Engine, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change(path, DAMAGES["filter"])
    for number in range(5):
        await pair.publish(f"e{number}")
    assert told(caplog, logging.ERROR) == [
        "the filter of a subscription is damaged: all that is published to it fails"
    ]


NO_URI = "UPDATE subscriptions SET endpoint_uri = 'x' WHERE subscription_id = 'bad'"


@pytest.mark.parametrize("damage", [NO_URI, *OF_ITS_LANE.values()], ids=["uri", *OF_ITS_LANE])
async def test_a_damaged_subscription_does_not_keep_the_service_from_starting(
    pair: Engine, path: Path, store: Store, damage: str
) -> None:
    await pair.publish("event")
    change(path, damage)
    restarted = Engine(store)
    await restarted.rescuer.start()
    assert await restarted.work() == 2


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_delivery_whose_event_is_gone_ends_and_is_told_once(
    engine: Engine, path: Path, caplog: pytest.LogCaptureFixture, *, ordered: bool
) -> None:
    await engine.store.create(subscription(ordered=ordered))
    await engine.publish("gone", "there")
    change(path, "DELETE FROM events WHERE event_id = 'gone'")
    while any(found.state is DeliveryState.PENDING for found in await engine.deliveries()):
        await asyncio.wait_for(engine.work(), timeout=30)
    await polled(engine)
    assert [request.headers["webhook-id"] for request in engine.sender.requests] == ["there"]
    ended = "SELECT state, failure_reason, attempts FROM deliveries ORDER BY id"
    assert look(path, ended) == [
        (DeliveryState.FAILED, FailureReason.INTERNAL, 1),
        (DeliveryState.SUCCEEDED, FailureReason.NONE, 1),
    ]
    assert ("EVENT_GONE",) in look(path, "SELECT error_code FROM attempts")
    assert look(path, "SELECT count(*) FROM queue") == [(0,)]
    assert told(caplog, logging.ERROR) == [
        "gave up a delivery: its event is gone from the database"
    ]
