"""Kills the real service at every point that matters, and judges from outside what is left."""

import asyncio
import os
import signal
import uuid
from contextlib import suppress

import grpc.aio
import pytest

from signalpost.v1.delivery_pb2 import Delivery, DeliveryAttempt
from signalpost.v1.delivery_service_pb2 import GetDeliveryRequest
from signalpost.v1.event_service_pb2 import PublishResult
from tests.e2e.checker import History, judge
from tests.e2e.crashes import leased, outlive
from tests.e2e.receiver import Receiver, Request
from tests.e2e.service import Service, connected

ROUNDS = int(os.environ.get("SIGNALPOST_TEST_CRASH_ROUNDS", "1"))
"""How often each crash is tried. Raise it before a release."""

PUBLISHERS = 8
ENDPOINTS = 50

POINTS_OF_PUBLISHING = ["publish.before_commit", "publish.after_commit", "fanout.mid"]
POINTS_OF_DELIVERY = [
    "claim.after_commit",
    "http.mid_body",
    "outcome.before_commit",
    "outcome.after_commit",
]

every_round = pytest.mark.parametrize("round_", range(ROUNDS))


async def _subscribe_all(service: Service, receiver: Receiver, count: int) -> dict[str, str]:
    """Make subscriptions and return the path of each by its ID."""
    paths = {f"s{number}": f"/{number}" for number in range(count)}
    await asyncio.gather(
        *(
            service.subscribe(receiver.url(path), subscription_id=name)
            for name, path in paths.items()
        )
    )
    return paths


async def _publish_until_dead(service: Service, history: History) -> None:
    """Publish as fast as the service answers, until it no longer does."""
    while True:
        events = [connected(uuid.uuid4().hex) for _ in range(3)]
        ids = {event.event_id for event in events}
        history.attempted |= ids
        try:
            await service.publish(*events)
        except grpc.aio.AioRpcError:
            return
        history.acknowledged |= ids


async def _load(service: Service, history: History) -> None:
    async with asyncio.TaskGroup() as publishers:
        for _ in range(PUBLISHERS):
            publishers.create_task(_publish_until_dead(service, history))


@every_round
async def test_kill_under_load_loses_nothing_acknowledged(
    service: Service, receiver: Receiver, round_: int
) -> None:
    await service.start()
    paths = await _subscribe_all(service, receiver, ENDPOINTS)
    history = History(frozenset(paths.values()))
    load = asyncio.create_task(_load(service, history))
    await receiver.until(lambda: len(receiver.requests) > 1_000 + 100 * round_)
    await service.kill()
    await load
    in_flight = leased(service)
    await service.start()
    deliveries = await service.drained()
    findings = judge(history, receiver.requests, deliveries, paths)
    assert len(history.acknowledged) > 0
    assert findings.lost == set()
    assert findings.unexpected == set()
    assert findings.disagreeing == set()
    assert findings.repeats <= in_flight
    assert await service.stop() == 0


@every_round
@pytest.mark.parametrize("point", POINTS_OF_PUBLISHING)
async def test_killed_in_publish_a_repeat_makes_it_whole(
    service: Service, receiver: Receiver, point: str, round_: int
) -> None:
    await service.start()
    paths = await _subscribe_all(service, receiver, ENDPOINTS)
    await service.stop()
    await service.start(failpoint=f"{point}:kill")
    event = connected(f"event-{round_}")
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await service.publish(event)
    assert failure.value.code() == grpc.StatusCode.UNAVAILABLE
    assert await service.ended() == -signal.SIGKILL
    await service.start()
    [result] = await service.publish(event)
    stored = point == "publish.after_commit"
    assert result.outcome == (PublishResult.DUPLICATE if stored else PublishResult.ACCEPTED)
    assert result.delivery_count == ENDPOINTS
    deliveries = await service.drained()
    assert {paths[d.subscription_id] for d in deliveries} == set(paths.values())
    assert sorted(r.path for r in receiver.requests) == sorted(paths.values())
    assert await service.stop() == 0


@every_round
@pytest.mark.parametrize("point", POINTS_OF_DELIVERY)
async def test_killed_in_delivery_it_is_taken_up_again(
    service: Service, receiver: Receiver, point: str, round_: int
) -> None:
    await service.start()
    secret = await service.subscribe(receiver.url(f"/{round_}"))
    await service.stop()
    await service.start(failpoint=f"{point}:kill")
    await service.publish(connected("event"))
    assert await service.ended() == -signal.SIGKILL
    before = len(receiver.requests)
    await service.start()
    [delivery] = await service.drained()
    assert delivery.state == Delivery.SUCCEEDED
    posted = {"outcome.before_commit": 2, "outcome.after_commit": 1}.get(point, 1)
    assert len(receiver.requests) == posted
    assert before == posted - (point != "outcome.after_commit")
    for request in receiver.requests:
        assert request.event_id == "event"
        request.verify(secret)
    assert await _outcomes(service, delivery) == (
        ["SUCCEEDED"] if point == "outcome.after_commit" else ["INTERRUPTED", "SUCCEEDED"]
    )
    assert await service.stop() == 0


@every_round
async def test_an_event_that_kills_the_process_is_quarantined_and_the_rest_flows(
    service: Service, receiver: Receiver, round_: int
) -> None:
    await service.start()
    paths = await _subscribe_all(service, receiver, 3)
    await service.stop()
    before, after = ([f"{side}-{n}" for n in range(15)] for side in ("before", "after"))
    failpoint = "worker.on_event=deadly:kill"
    await service.start(failpoint=failpoint)
    with suppress(grpc.aio.AioRpcError):  # it may be dead before it answers
        await service.publish(*map(connected, (*before, "deadly", *after)))
    assert await service.ended() == -signal.SIGKILL
    deaths = 1 + await outlive(service, failpoint=failpoint)
    # More than three for each of its deliveries only if they go again together by chance.
    assert 3 <= deaths <= 7 * len(paths)
    deliveries = await service.drained()
    assert len(deliveries) == 31 * len(paths)
    failed = [found for found in deliveries if found.state != Delivery.SUCCEEDED]
    assert [found.event_id for found in failed] == ["deadly"] * len(paths)
    assert {found.failure_reason for found in failed} == {Delivery.INTERNAL}
    for delivery in failed:
        # A crash ends one at most: of two that come to their third together, one has a fourth.
        history = await _outcomes(service, delivery)
        assert set(history) == {"INTERRUPTED"}
        assert len(history) >= 3
    assert "deadly" not in {request.event_id for request in receiver.requests}
    assert sum("quarantined a delivery" in line for line in service.log) == len(failed)
    assert await service.stop() == 0


async def _outcomes(service: Service, delivery: Delivery) -> list[str]:
    request = GetDeliveryRequest(delivery_id=delivery.delivery_id)
    found = (await service.deliveries.GetDelivery(request)).delivery
    return [DeliveryAttempt.Outcome.Name(attempt.outcome) for attempt in found.attempts]


@every_round
async def test_killed_while_the_receiver_holds_its_answer(
    service: Service, receiver: Receiver, round_: int
) -> None:
    held = asyncio.Event()

    async def hold_the_first(request: Request) -> int:
        if request.number == 0:
            await held.wait()
        return 200

    receiver.answer = hold_the_first
    await service.start()
    await service.subscribe(receiver.url(f"/{round_}"))
    await service.publish(connected("event"))
    await receiver.until(lambda: receiver.requests)
    await service.kill()
    held.set()
    await service.start()
    [delivery] = await service.drained()
    assert delivery.state == Delivery.SUCCEEDED
    assert [r.event_id for r in receiver.requests] == ["event", "event"]
    assert await _outcomes(service, delivery) == ["INTERRUPTED", "SUCCEEDED"]
