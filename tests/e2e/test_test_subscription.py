"""TestSubscription: what it sends, and what it shows."""

import base64
import json

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from signalpost.v1 import subscription_service_pb2 as rpc
from signalpost.v1.delivery_pb2 import Delivery, DeliveryAttempt
from signalpost.v1.event_pb2 import Event, Resource
from signalpost.v1.payloads_pb2 import Custom
from signalpost.v1.subscription_pb2 import SigningKey, Subscription
from tests.e2e.receiver import Receiver, Request
from tests.e2e.service import Service, connected


async def run_test(service: Service, **fields: object) -> rpc.TestSubscriptionResponse:
    request = rpc.TestSubscriptionRequest(subscription_id="s", **fields)  # type: ignore[arg-type]
    return await service.subscriptions.TestSubscription(request, timeout=35)


async def test_without_a_choice_a_greeting_is_sent_and_nothing_stored(
    service: Service, receiver: Receiver
) -> None:
    await service.start()
    secret = await service.subscribe(
        receiver.url("/x"), subscription_id="s", event_types=["tool.*"]
    )
    await service.subscriptions.PauseSubscription(rpc.PauseSubscriptionRequest(subscription_id="s"))
    response = await run_test(service)
    [request] = receiver.requests
    request.verify(secret)
    assert request.json["event_type"] == "webhook.test"
    assert response.request_body.encode() == request.body
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        assert response.request_headers[name] == request.headers[name]
    attempt = response.attempt
    assert (attempt.outcome, attempt.trigger, attempt.status_code, attempt.response_body) == (
        DeliveryAttempt.SUCCEEDED,
        DeliveryAttempt.MANUAL,
        200,
        "ok",
    )
    assert attempt.timings.HasField("tls")
    assert await service.list_deliveries() == []


async def test_header_values_of_the_customer_are_left_out(
    service: Service, receiver: Receiver
) -> None:
    await service.start()
    subscription = Subscription(
        subscription_id="s",
        endpoint_uri=receiver.url(),
        headers={"Authorization": "Bearer canary"},
    )
    await service.subscriptions.CreateSubscription(
        rpc.CreateSubscriptionRequest(subscription=subscription)
    )
    response = await run_test(service)
    assert receiver.requests[0].headers["authorization"] == "Bearer canary"
    assert response.request_headers["Authorization"] == ""
    assert b"canary" not in response.SerializeToString()


async def test_every_built_in_type_has_an_example(service: Service, receiver: Receiver) -> None:
    await service.start()
    await service.subscribe(receiver.url(), subscription_id="s")
    members = Event.DESCRIPTOR.oneofs_by_name["payload"].fields
    names = [field.name.replace("_", ".", 1) for field in members if field.name != "custom"]
    for name in names:
        response = await run_test(service, event_type_name=name)
        assert json.loads(response.request_body)["payload"] != {}
    assert [request.json["event_type"] for request in receiver.requests] == names


async def test_an_event_is_sent_as_it_would_be_published(
    service: Service, receiver: Receiver
) -> None:
    await service.start()
    await service.subscribe(receiver.url(), subscription_id="s")
    await run_test(service, event=connected("mine", resource="acc_7"))
    [request] = receiver.requests
    assert (request.event_id, request.json["resource"]["id"]) == ("mine", "acc_7")


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"event": Event(resource=Resource())}, "event.resource.id"),
        (
            {"event": Event(resource=Resource(id="x"), custom=Custom(name="no.such"))},
            "event.custom.name",
        ),
        ({"event_type_name": "no.such"}, "event_type_name"),
    ],
)
async def test_what_could_not_be_published_is_refused(
    service: Service, receiver: Receiver, fields: dict[str, object], path: str
) -> None:
    await service.start()
    await service.subscribe(receiver.url(), subscription_id="s")
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await run_test(service, **fields)
    assert refusal.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert path in (refusal.value.details() or "")
    assert receiver.requests == []


async def test_a_failure_is_shown_and_not_repeated(service: Service, receiver: Receiver) -> None:
    async def fail(_: Request) -> int:
        return 503

    receiver.answer = fail
    await service.start()
    await service.subscribe(receiver.url(), subscription_id="s")
    attempt = (await run_test(service)).attempt
    assert (attempt.outcome, attempt.status_code) == (DeliveryAttempt.REJECTED, 503)
    assert len(receiver.requests) == 1


async def test_ed25519_deliveries_verify_by_the_public_key_that_is_shown(
    service: Service, receiver: Receiver
) -> None:
    await service.start()
    request = rpc.CreateSubscriptionRequest(
        subscription=Subscription(subscription_id="s", endpoint_uri=receiver.url()),
        algorithm=SigningKey.ED25519,
    )
    created = (await service.subscriptions.CreateSubscription(request)).subscription
    await service.publish(connected("event"))
    [delivery] = await service.drained()
    assert delivery.state == Delivery.SUCCEEDED
    encoded = created.signing_keys[0].public_key.removeprefix("whpk_")
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(encoded))
    [arrived] = receiver.requests
    version, _, signature = arrived.headers["webhook-signature"].partition(",")
    signed = f"{arrived.event_id}.{arrived.headers['webhook-timestamp']}.".encode() + arrived.body
    assert version == "v1a"
    key.verify(base64.b64decode(signature), signed)
