"""TestSubscription: what it sends, and what it shows."""

import asyncio
import base64
import json

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from signalpost.v1 import subscription_service_pb2 as rpc
from signalpost.v1.delivery_pb2 import Delivery, DeliveryAttempt
from signalpost.v1.event_pb2 import Event, Resource
from signalpost.v1.event_type_service_pb2 import CreateEventTypeRequest, EventType
from signalpost.v1.event_type_service_pb2_grpc import EventTypeServiceStub
from signalpost.v1.payloads_pb2 import AccountConnected, Custom, WebhookTest
from signalpost.v1.subscription_pb2 import SigningKey, Subscription
from tests.api.service import failure_of
from tests.e2e.conftest import Authority
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
    [request] = receiver.requests
    shown = {name.lower(): value for name, value in response.request_headers.items()}
    assert shown == request.headers | {"authorization": ""}
    assert request.headers["authorization"] == "Bearer canary"
    assert b"canary" not in response.SerializeToString()
    await service.logged("subscription tested")
    assert "canary" not in "".join(service.log)


async def test_every_built_in_type_has_an_example(service: Service, receiver: Receiver) -> None:
    await service.start()
    await service.subscribe(receiver.url(), subscription_id="s")
    members = Event.DESCRIPTOR.oneofs_by_name["payload"].fields
    names = [field.name.replace("_", ".", 1) for field in members if field.name != "custom"]
    for name in names:
        response = await run_test(service, event_type_name=name)
        assert json.loads(response.request_body)["payload"] != {}
    assert [request.json["event_type"] for request in receiver.requests] == names


async def test_the_example_of_a_registered_type_is_sent_if_there_is_one_that_fits(
    service: Service, receiver: Receiver
) -> None:
    await service.start()
    await service.subscribe(receiver.url(), subscription_id="s")
    types = EventTypeServiceStub(service.channel)
    schema = {"required": ["amount"]}
    shown = EventType(name="billing.paid", resource_type="invoice")
    shown.schema.update(schema)
    shown.example.update({"amount": 42})
    bare = EventType(name="billing.refused")
    bare.schema.update(schema)
    for event_type in (shown, bare):
        await types.CreateEventType(CreateEventTypeRequest(event_type=event_type))
    await run_test(service, event_type_name="billing.paid")
    [request] = receiver.requests
    assert (request.json["event_type"], request.json["payload"]) == ("billing.paid", {"amount": 42})
    assert request.json["resource"]["type"] == "invoice"
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await run_test(service, event_type_name="billing.refused")
    assert refusal.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert (refusal.value.details() or "").startswith("event_type_name: ")
    assert len(receiver.requests) == 1


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
        (
            {"event": Event(resource=Resource(id="x"), webhook_test=WebhookTest())},
            "event.webhook_test",
        ),
        (
            {
                "event": Event(
                    tenant_id="other",
                    resource=Resource(id="x"),
                    account_connected=AccountConnected(integration="gmail"),
                )
            },
            "event.tenant_id",
        ),
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


async def test_all_that_is_wrong_with_an_event_is_told_at_once(
    service: Service, receiver: Receiver
) -> None:
    await service.start()
    await service.subscribe(receiver.url(), subscription_id="s")
    event = Event(event_id="not ok", tenant_id="other", custom=Custom(name="no.such"))
    failure = await failure_of(run_test(service, event=event))
    assert failure.violations == {
        "event.tenant_id": "FIELD_INVALID",
        "event.event_id": "FIELD_INVALID",
        "event.resource": "FIELD_INVALID",
        "event.custom.name": "EVENT_TYPE_UNKNOWN",
    }


async def test_a_test_of_what_is_not_there_is_not_found(service: Service) -> None:
    await service.start()
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await run_test(service)
    assert refusal.value.code() == grpc.StatusCode.NOT_FOUND


async def test_the_trace_of_the_call_goes_on(service: Service, receiver: Receiver) -> None:
    await service.start()
    await service.subscribe(receiver.url(), subscription_id="s")
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await service.subscriptions.TestSubscription(
        rpc.TestSubscriptionRequest(subscription_id="s"), metadata=(("traceparent", traceparent),)
    )
    assert receiver.requests[0].headers["traceparent"] == traceparent


async def test_a_call_that_is_cancelled_ends_its_request(
    service: Service, authority: Authority
) -> None:
    arrived, ended = asyncio.Event(), asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await reader.read()
        ended.set()
        writer.close()

    await service.start()
    async with await asyncio.start_server(hold, "127.0.0.1", 0, ssl=authority.context) as server:
        port = server.sockets[0].getsockname()[1]
        await service.subscribe(f"https://localhost:{port}/", subscription_id="s")
        call = service.subscriptions.TestSubscription(
            rpc.TestSubscriptionRequest(subscription_id="s")
        )
        calling = asyncio.ensure_future(call)
        await arrived.wait()
        assert not ended.is_set()
        calling.cancel()
        async with asyncio.timeout(10):
            await ended.wait()


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
