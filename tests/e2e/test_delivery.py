"""The main path, from a gRPC call to a webhook, through the real service."""

import asyncio
from datetime import UTC, datetime

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration

from signalpost.api.examples import examples
from signalpost.v1.delivery_pb2 import Delivery, DeliveryAttempt
from signalpost.v1.delivery_service_pb2 import GetDeliveryRequest
from signalpost.v1.event_pb2 import Event
from signalpost.v1.event_service_pb2 import GetEventRequest, PublishResult
from signalpost.v1.subscription_service_pb2 import (
    DeleteSubscriptionRequest,
    RotateSubscriptionSecretRequest,
)
from tests.e2e.receiver import Receiver, Request
from tests.e2e.service import Service, connected


async def _attempts(service: Service, delivery: Delivery) -> list[DeliveryAttempt]:
    request = GetDeliveryRequest(delivery_id=delivery.delivery_id)
    return list((await service.deliveries.GetDelivery(request)).delivery.attempts)


async def test_every_type_arrives_signed_and_reads_back(
    service: Service, receiver: Receiver
) -> None:
    await service.start()
    secret = await service.subscribe(receiver.url("/hook"))
    sent = examples(datetime.now(UTC))
    results = await service.publish(*sent)
    deliveries = await service.drained()
    assert [d.state for d in deliveries] == [Delivery.SUCCEEDED] * 12
    arrived = {request.event_id: request for request in receiver.requests}
    assert len(arrived) == len(receiver.requests) == 12
    for event, result in zip(sent, results, strict=True):
        request = arrived[result.event_id]
        request.verify(secret)
        _assert_complete(request)
        assert _parsed_as_receivers_do(request) == _payload(event)
        stored = await service.events.GetEvent(GetEventRequest(event_id=result.event_id))
        assert _payload(stored.event) == _payload(event)


def _assert_complete(request: Request) -> None:
    assert list(request.json) == ["event_id", "event_type", "timestamp", "resource", "payload"]
    assert request.json["event_id"] == request.event_id
    assert request.headers["content-length"] == str(len(request.body))
    assert request.headers["content-type"] == "application/json"
    assert "transfer-encoding" not in request.headers


def _parsed_as_receivers_do(request: Request) -> object:
    field = request.json["event_type"].replace(".", "_", 1)
    event = json_format.ParseDict({field: request.json["payload"]}, Event())
    return _payload(event)


def _payload(event: Event) -> object:
    return getattr(event, event.WhichOneof("payload") or "")


async def test_a_failure_is_retried_with_the_same_id_and_a_fresh_signature(
    service: Service, receiver: Receiver
) -> None:
    async def fail_twice(request: Request) -> int:
        return 503 if request.number < 2 else 200

    receiver.answer = fail_twice
    await service.start()
    secret = await service.subscribe(receiver.url())
    await service.publish(connected("event"))
    [delivery] = await service.drained()
    first, second, third = receiver.requests
    assert first.body == second.body == third.body
    assert [r.event_id for r in receiver.requests] == ["event"] * 3
    times = [int(r.headers["webhook-timestamp"]) for r in receiver.requests]
    assert times == sorted(times)
    # Two delays of 0.8 seconds at least lie between the first and the last.
    assert times[0] < times[2]
    for request in receiver.requests:
        request.verify(secret)
    attempts = await _attempts(service, delivery)
    assert [(a.number, a.outcome, a.status_code) for a in attempts] == [
        (1, DeliveryAttempt.REJECTED, 503),
        (2, DeliveryAttempt.REJECTED, 503),
        (3, DeliveryAttempt.SUCCEEDED, 200),
    ]
    assert [a.response_body for a in attempts] == ["ok"] * 3


async def test_attempts_used_up_make_a_dead_letter(service: Service, receiver: Receiver) -> None:
    async def fail(_: Request) -> int:
        return 500

    receiver.answer = fail
    await service.start()
    await service.subscribe(receiver.url(), max_attempts=2)
    await service.publish(connected("event"))
    [delivery] = await service.drained()
    assert (delivery.state, delivery.failure_reason) == (Delivery.FAILED, Delivery.EXHAUSTED)
    assert delivery.attempt_count == len(receiver.requests) == 2


async def test_after_a_rotation_both_keys_sign_until_the_former_is_dropped(
    service: Service, receiver: Receiver
) -> None:
    await service.start()
    old = await service.subscribe(receiver.url(), subscription_id="s")
    rotate = RotateSubscriptionSecretRequest(subscription_id="s")
    new = (await service.subscriptions.RotateSubscriptionSecret(rotate)).secret
    await service.publish(connected("both"))
    await receiver.until(lambda: receiver.requests)
    receiver.requests[0].verify(old, new)
    drop = RotateSubscriptionSecretRequest(subscription_id="s", overlap=Duration())
    newest = (await service.subscriptions.RotateSubscriptionSecret(drop)).secret
    await service.publish(connected("one"))
    await receiver.until(lambda: len(receiver.requests) == 2)
    receiver.requests[1].verify(newest)
    assert len(receiver.requests[1].headers["webhook-signature"].split(" ")) == 1


async def test_only_matching_subscriptions_of_the_tenant_receive(
    service: Service, receiver: Receiver
) -> None:
    await service.start()
    await service.subscribe(receiver.url("/mine"), tenant_id="t1", event_types=["account.*"])
    await service.subscribe(receiver.url("/other-type"), tenant_id="t1", event_types=["tool.*"])
    await service.subscribe(receiver.url("/other-tenant"), tenant_id="t2")
    event = connected("event")
    event.tenant_id = "t1"
    [result] = await service.publish(event)
    assert result.delivery_count == 1
    await service.drained()
    assert [r.path for r in receiver.requests] == ["/mine"]


async def test_a_deleted_subscription_gets_nothing_more(
    service: Service, receiver: Receiver
) -> None:
    async def fail(_: Request) -> int:
        return 500

    receiver.answer = fail
    await service.start()
    await service.subscribe(receiver.url(), subscription_id="s")
    await service.publish(connected("event"))
    await receiver.until(lambda: receiver.requests)
    await service.subscriptions.DeleteSubscription(DeleteSubscriptionRequest(subscription_id="s"))
    [delivery] = await service.drained()
    assert delivery.state == Delivery.CANCELED
    [result] = await service.publish(connected("later"))
    assert result.delivery_count == 0


async def test_a_burst_is_delivered_exactly_once(service: Service, receiver: Receiver) -> None:
    await service.start()
    for number in range(10):
        await service.subscribe(receiver.url(f"/{number}"))
    batches = [[connected(f"e{batch}-{n}") for n in range(20)] for batch in range(20)]
    await asyncio.gather(*(service.publish(*batch) for batch in batches))
    deliveries = await service.drained()
    assert len(deliveries) == len(receiver.requests) == 4_000
    assert len({(r.event_id, r.path) for r in receiver.requests}) == 4_000


async def test_fifty_publishers_of_one_event_store_it_once(
    service: Service, receiver: Receiver
) -> None:
    await service.start()
    await service.subscribe(receiver.url())
    answers = await asyncio.gather(*(service.publish(connected("one")) for _ in range(50)))
    outcomes = [result.outcome for [result] in answers]
    assert outcomes.count(PublishResult.ACCEPTED) == 1
    assert {(r.event_id, r.delivery_count) for [r] in answers} == {("one", 1)}
    await service.drained()
    assert len(receiver.requests) == 1


async def test_sigterm_lets_attempts_end_and_exits_cleanly(
    service: Service, receiver: Receiver
) -> None:
    release = asyncio.Event()

    async def hold(_: Request) -> int:
        await release.wait()
        return 200

    receiver.answer = hold
    await service.start()
    await service.subscribe(receiver.url())
    await service.publish(connected("event"))
    await receiver.until(lambda: receiver.requests)
    stopping = asyncio.create_task(service.stop())
    await service.logged("draining")
    release.set()
    assert await stopping == 0
    await service.start()
    [delivery] = await service.drained()
    assert (delivery.state, delivery.attempt_count) == (Delivery.SUCCEEDED, 1)


async def test_a_second_service_on_the_same_database_or_port_is_refused(
    service: Service,
) -> None:
    await service.start()
    second = Service(service.folder, service.ca)
    with pytest.raises(AssertionError, match="another"):
        await second.start()
    elsewhere = service.folder / "elsewhere"
    elsewhere.mkdir()
    third = Service(elsewhere, service.ca, listen=service.address)
    with pytest.raises(AssertionError, match="in use"):
        await third.start()


async def test_without_dev_this_machine_is_out_of_reach(
    service: Service, receiver: Receiver
) -> None:
    service.options = ()
    await service.start()
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await service.subscribe(receiver.url())
    assert refusal.value.code() == grpc.StatusCode.INVALID_ARGUMENT
