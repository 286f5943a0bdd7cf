"""Rows that are damaged in the database fail their own deliveries, and stop nothing else."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from signalpost.delivery.worker import LEASE
from signalpost.domain.delivery import DeliveryState, FailureReason
from signalpost.domain.ids import SubscriptionId
from signalpost.ports import Pick
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
    "timeout": "UPDATE subscriptions SET timeout = timeout + (1 << 30) WHERE lane_id = 1",
    "labels": "UPDATE subscriptions SET labels = CAST(x'7bff' AS TEXT) WHERE lane_id = 1",
}
OF_ITS_LANE = {
    "endpoint": "UPDATE subscriptions SET endpoint_uri = x'00ff' WHERE lane_id = 1",
    "uri": "UPDATE subscriptions SET endpoint_uri = CAST(x'68ff' AS TEXT) WHERE lane_id = 1",
    "order": "UPDATE subscriptions SET ordering = 99 WHERE lane_id = 1",
    "width": "UPDATE subscriptions SET max_concurrent_attempts = 'many' WHERE lane_id = 1",
    "no width": "UPDATE subscriptions SET max_concurrent_attempts = 0 WHERE lane_id = 1",
    "rate": "UPDATE subscriptions SET max_attempts_per_second = 'many' WHERE lane_id = 1",
    "no rate": "UPDATE subscriptions SET max_attempts_per_second = 1e-300 WHERE lane_id = 1",
    "allowed": "UPDATE subscriptions SET allowed_attempts_per_minute = x'00' WHERE lane_id = 1",
    "none allowed": "UPDATE subscriptions SET allowed_attempts_per_minute = 0 WHERE lane_id = 1",
}
DAMAGES |= OF_ITS_LANE
SOUND = '{"event_types":[],"resource_types":[],"resource_ids":[]}'
FILTERS = {
    "nothing": "",
    "cut off": '{"event_types":["account.conn',
    "null": "null",
    "list": "[]",
    "number for a list": SOUND.replace("[]", "7", 1),
    "number in a list": SOUND.replace("[]", "[7]", 1),
    "text for a list": SOUND.replace("[]", '"account.connected"', 1),
    "a part": '{"event_types":["account.connected"]}',
    "deep": "[" * 100_000,
}
"""Texts that are no filter."""

UNSENDABLE = {
    "line in a value": {"x-note": "a\r\nx-injected: b"},
    "new line at the end": {"x-note": "a\n"},
    "nothing of a character": {"x-note": "a\0"},
    "no name": {"": "a"},
    "space in a name": {"x note": "a"},
    "colon in a name": {"x-note:": "a"},
    "line in a name": {"x-note: a\r\nx-injected": "b"},
    "name beyond ASCII": {"x-n\u00f6te": "a"},
}
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


@pytest.mark.parametrize("headers", UNSENDABLE.values(), ids=UNSENDABLE)
async def test_a_header_that_cannot_be_sent_never_reaches_the_sender(
    pair: Engine, headers: dict[str, str]
) -> None:
    stored = await pair.store.get(TENANT, BAD)
    await pair.store.replace(replace(stored, headers=headers), now=NOW)
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


@pytest.mark.parametrize("damage", FILTERS)
async def test_a_damaged_filter_is_told_once_and_publishing_goes_on(
    pair: Engine, path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    change(path, "UPDATE subscriptions SET filter = ? WHERE lane_id = 1", FILTERS[damage])
    for number in range(5):
        await pair.publish(f"e{number}")
    assert told(caplog, logging.ERROR) == [
        "the filter of a subscription is damaged: all that is published to it fails"
    ]


NO_URI = "UPDATE subscriptions SET endpoint_uri = 'x' WHERE subscription_id = 'bad'"


@pytest.mark.parametrize("damage", [NO_URI, *OF_ITS_LANE.values()], ids=["no uri", *OF_ITS_LANE])
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


OF_A_DELIVERY = {
    "token": "UPDATE queue SET token = 'x'",
    "attempts": "UPDATE queue SET attempts = x'00'",
    "tries": "UPDATE queue SET tries = 'x'",
    "start": "UPDATE queue SET set_start = 1 << 62",
    "early": "UPDATE queue SET due = -(1 << 62)",
    "cause": "UPDATE queue SET cause = 99",
}
# Of one that is under way nobody asks when it was due.
UNDER_WAY = {name: damage for name, damage in OF_A_DELIVERY.items() if name != "early"} | {
    "claim": "UPDATE queue SET claim_time = 'x'"
}
OF_AN_EVENT = {
    "time": "UPDATE events SET publish_time = 1 << 62",
    "no time": "UPDATE events SET publish_time = 'x'",
    "id": "UPDATE events SET event_id = CAST(x'62ff64' AS TEXT)",
    "trace": "UPDATE events SET traceparent = CAST(x'ff' AS TEXT)",
}
FIRST_OF = {"queue": "id = (SELECT min(id) FROM queue)", "events": "event_id = 'bad'"}


def damaged(path: Path, damage: str) -> None:
    """Damage a row of the first delivery, or its event."""
    change(path, f"{damage} WHERE {FIRST_OF[damage.split()[1]]}")


def ended(path: Path) -> Sequence[tuple[int, ...]]:
    return look(path, "SELECT state, failure_reason, attempts FROM deliveries ORDER BY id")


GIVEN_UP = [
    (DeliveryState.FAILED, FailureReason.INTERNAL, 1),
    (DeliveryState.SUCCEEDED, FailureReason.NONE, 1),
]


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("damage", OF_A_DELIVERY)
async def test_a_damaged_delivery_ends_and_is_told_once(
    engine: Engine, path: Path, damage: str, caplog: pytest.LogCaptureFixture, *, ordered: bool
) -> None:
    await engine.store.create(subscription(ordered=ordered))
    await engine.publish("bad", "good")
    damaged(path, OF_A_DELIVERY[damage])
    while look(path, "SELECT * FROM queue"):
        await asyncio.wait_for(engine.work(), timeout=30)
    assert [request.headers["webhook-id"] for request in engine.sender.requests] == ["good"]
    assert ended(path) == GIVEN_UP
    assert ("DELIVERY_UNREADABLE",) in look(path, "SELECT error_code FROM attempts")
    await polled(engine)
    assert told(caplog, logging.ERROR) == [
        "gave up a delivery: what the database holds of it is damaged"
    ]


@pytest.mark.parametrize("damage", OF_AN_EVENT)
async def test_a_damaged_event_fails_what_it_owes_and_stops_nothing(
    pair: Engine, path: Path, damage: str
) -> None:
    await pair.publish("bad", "good")
    damaged(path, OF_AN_EVENT[damage])
    assert await pair.work() == 2
    assert [request.headers["webhook-id"] for request in pair.sender.requests] == ["good"] * 2
    assert sorted(ended(path)) == sorted(GIVEN_UP * 2)
    await polled(pair)


@pytest.mark.parametrize("damage", UNDER_WAY)
@pytest.mark.parametrize("way", ["restart", "rescue"])
async def test_a_delivery_that_was_damaged_under_way_ends(
    engine: Engine, path: Path, store: Store, damage: str, way: str
) -> None:
    lane_id = (await store.create(subscription())).lane_id
    await engine.publish("bad", "good")
    now = engine.clock.now()
    await store.claim([Pick(lane_id, 2)], now=now, lease_until=now + LEASE)
    damaged(path, UNDER_WAY[damage])
    if way == "restart":
        engine = Engine(store, clock=engine.clock, sender=engine.sender)
        await engine.rescuer.start()
    else:
        engine.clock.advance(minutes=5)
        await engine.rescuer.run_once()
    assert await engine.work() == 1
    assert [request.headers["webhook-id"] for request in engine.sender.requests] == ["good"]
    assert [row[:2] for row in ended(path)] == [row[:2] for row in GIVEN_UP]


OF_ITS_TIME = {
    "no time": "UPDATE queue SET due = 'x'",
    "late": "UPDATE queue SET due = 1 << 62",
    "early": "UPDATE queue SET due = -(1 << 62)",
}


@pytest.mark.parametrize("damage", OF_ITS_TIME)
async def test_whatever_is_stored_of_its_time_a_delivery_ends_after_a_restart(
    engine: Engine, path: Path, store: Store, damage: str
) -> None:
    await store.create(subscription())
    await engine.publish("bad", "good")
    damaged(path, OF_ITS_TIME[damage])
    await engine.rescuer.rescan()
    await engine.work()
    assert ended(path)[1] == GIVEN_UP[1]
    restarted = Engine(store)
    await restarted.rescuer.start()
    await restarted.work()
    assert look(path, "SELECT count(*) FROM queue") == [(0,)]


async def test_a_damaged_delivery_can_be_retried(engine: Engine, path: Path, store: Store) -> None:
    await store.create(subscription())
    await engine.publish("bad")
    damaged(path, OF_A_DELIVERY["tries"])
    assert await engine.work() == 0
    [failed] = await engine.deliveries()
    assert failed.state is DeliveryState.FAILED
    lane = await store.repairs.retry(failed.key, now=NOW)
    assert lane is not None
    engine.lanes.notice([lane], due=NOW)
    assert await engine.work() == 1
    [retried] = await engine.deliveries()
    assert (retried.state, retried.attempt_count) == (DeliveryState.SUCCEEDED, 2)
