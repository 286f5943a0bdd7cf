"""PublishStream: one answer for each request, in order, and refusals in their place."""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct

from signalpost import failpoints
from signalpost.api.paging import MAX_RESPONSE_BYTES
from signalpost.api.pipeline import MOST_UNANSWERED, MOST_UNANSWERED_BYTES
from signalpost.v1.errors_pb2 import ErrorReason
from signalpost.v1.event_pb2 import Event, Resource
from signalpost.v1.event_service_pb2 import (
    PublishError,
    PublishResult,
    PublishStreamRequest,
    PublishStreamResponse,
)
from signalpost.v1.payloads_pb2 import AccountConnected, AnomalyAlert, Custom, WebhookTest
from tests.api.service import Service, event, failure_of
from tests.contract.writing import held_writer

ACCEPTED, DUPLICATE = PublishResult.ACCEPTED, PublishResult.DUPLICATE
INVALID = grpc.StatusCode.INVALID_ARGUMENT
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
METHOD = "/signalpost.v1.EventService/PublishStream"


def request(*events: Event) -> PublishStreamRequest:
    return PublishStreamRequest(events=events)


async def answers(
    service: Service, *requests: PublishStreamRequest, metadata: Any = None
) -> list[PublishStreamResponse]:
    call = service.events.PublishStream(iter(requests), metadata=metadata)
    return [response async for response in call]


async def until_failure(
    service: Service, *requests: bytes
) -> tuple[list[PublishStreamResponse], grpc.StatusCode, str]:
    """Send bytes as they are; return what was answered, and how the call ended."""
    stream: grpc.aio.StreamStreamMultiCallable[bytes, bytes]
    stream = service.channel.stream_stream(METHOD)
    call = stream()
    # The client stays: what it wrote beyond the end would hide how the call ended.
    for data in requests:
        await call.write(data)
    seen: list[PublishStreamResponse] = []

    async def read_all() -> None:
        while isinstance(data := await call.read(), bytes):
            seen.append(PublishStreamResponse.FromString(data))

    failure = await failure_of(read_all())
    return seen, failure.code, failure.reason


def ids(responses: Sequence[PublishStreamResponse]) -> list[list[str]]:
    return [[item.result.event_id for item in one.items] for one in responses]


async def test_each_request_is_answered_in_order_and_then_the_call_ends(service: Service) -> None:
    await service.subscribe()
    requests = [request(event(event_id=f"{n}a"), event(event_id=f"{n}b")) for n in range(100)]
    found = await answers(service, *requests)
    assert ids(found) == [[f"{n}a", f"{n}b"] for n in range(100)]
    results = [item.result for one in found for item in one.items]
    assert {(one.outcome, one.delivery_count) for one in results} == {(ACCEPTED, 1)}
    stored = [one.event_id for one in await service.stored()]
    assert stored[::-1] == [f"{n}{letter}" for n in range(100) for letter in "ab"]
    assert all(len(lanes) == 1 for lanes, _ in service.lanes.noticed)


async def test_a_stream_without_requests_just_ends(service: Service) -> None:
    assert await answers(service) == []


async def test_an_answer_comes_while_the_stream_stays_open(service: Service) -> None:
    call = service.events.PublishStream()
    for name in ("first", "second"):
        await call.write(request(event(event_id=name)))
        response = await call.read()
        assert isinstance(response, PublishStreamResponse)
        assert response.items[0].result.event_id == name
        assert name in [one.event_id for one in await service.stored()]
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


LONG = AccountConnected(integration="g", user_id="u" * 300_000)


async def test_refused_events_are_answered_in_place_with_all_that_is_wrong(
    service: Service,
) -> None:
    await service.publish(event(event_id="taken"))
    [response] = await answers(
        service,
        request(
            event(event_id="sound"),
            event(event_id="not ok", tenant_id="?", resource=Resource()),
            event(event_id="taken", resource=Resource(id="other")),
            event(webhook_test=WebhookTest()),
            event(custom=Custom(name="billing.invoice_paid")),
            event(event_type=Event.TOOL_LIST_CHANGED),
            event(account_connected=LONG),
            event(event_id="also-sound"),
        ),
    )
    sound, shape, conflict, reserved, unknown, mismatch, large, also_sound = response.items
    assert [one.result.event_id for one in (sound, also_sound)] == ["sound", "also-sound"]
    assert shape.error.code == INVALID.value[0]
    assert shape.error.reason == ErrorReason.FIELD_INVALID
    assert [(one.field, one.reason) for one in shape.error.violations] == [
        ("event_id", ErrorReason.FIELD_INVALID),
        ("resource.id", ErrorReason.FIELD_INVALID),
        ("tenant_id", ErrorReason.FIELD_INVALID),
    ]
    assert shape.error.message.endswith("(and 2 more)")
    assert conflict.error == PublishError(
        code=grpc.StatusCode.ALREADY_EXISTS.value[0],
        reason=ErrorReason.EVENT_ID_CONFLICT,
        message='event "taken" is stored with other content',
    )
    assert told(reserved) == {"webhook_test": "EVENT_TYPE_RESERVED"}
    assert reserved.error.metadata == {"eventType": "webhook.test"}
    assert told(unknown) == {"custom.name": "EVENT_TYPE_UNKNOWN"}
    assert told(mismatch) == {"event_type": "EVENT_TYPE_MISMATCH"}
    assert told(large) == {"": "TOO_LARGE"}
    assert large.error.metadata["limitBytes"] == "262144"
    stored = {one.event_id for one in await service.stored()}
    assert stored == {"taken", "sound", "also-sound"}


def told(item: PublishStreamResponse.Item) -> dict[str, str]:
    assert item.error.code == INVALID.value[0]
    return {one.field: ErrorReason.Name(one.reason) for one in item.error.violations}


async def test_same_id_again_is_a_duplicate_or_a_conflict_wherever_it_comes(
    service: Service,
) -> None:
    same, other = event(event_id="e"), event(event_id="e", resource=Resource(id="x"))
    within, later = await answers(service, request(same, other, same), request(other, same))
    assert [one.result.outcome or one.error.reason for one in within.items] == [
        ACCEPTED,
        ErrorReason.EVENT_ID_CONFLICT,
        DUPLICATE,
    ]
    assert later.items[0].error.reason == ErrorReason.EVENT_ID_CONFLICT
    assert later.items[1].result.outcome == DUPLICATE
    assert len(await service.stored()) == 1


async def test_requests_at_once_are_accepted_in_their_order(service: Service) -> None:
    pairs = [
        request(event(event_id=f"e{n}", resource=Resource(id=name)))
        for n in range(100)
        for name in ("first", "second")
    ]
    found = await answers(service, *pairs)
    assert all(one.items[0].HasField("result") for one in found[::2])
    assert all(one.items[0].HasField("error") for one in found[1::2])
    assert {one.resource.id for one in await service.stored()} == {"first"}


async def test_nothing_overtakes_a_request_that_takes_long_to_look_through(
    service: Service,
) -> None:
    text = AccountConnected(integration="u" * 200_000)
    large = request(*[event(event_id="e", account_connected=text)] * 5)
    small = request(event(event_id="e"))
    found = await answers(service, large, small)
    assert found[0].items[0].result.outcome == ACCEPTED
    assert found[1].items[0].error.reason == ErrorReason.EVENT_ID_CONFLICT


async def test_only_refused_events_store_nothing_and_go_on(service: Service) -> None:
    refused, accepted = await answers(service, request(Event()), request(event(event_id="e")))
    assert set(told(refused.items[0])) == {"resource", "payload"}
    assert accepted.items[0].result.event_id == "e"


async def test_trace_of_the_call_holds_for_events_without_one(service: Service) -> None:
    await answers(service, request(event()), metadata=[("traceparent", TRACE)])
    [stored] = await service.stored()
    assert stored.traceparent == TRACE


SOUND = request(event(event_id="sound")).SerializeToString()


@pytest.mark.parametrize(
    ("malformed", "reason"),
    [
        (b"", "FIELD_INVALID"),
        (b"\xff" * 9, "FIELD_INVALID"),
        (b"\xf8\x3f\x01", "FIELD_INVALID"),
        (request(*[event()] * 1001).SerializeToString(), "FIELD_INVALID"),
        (
            request(
                *[event(account_connected=AccountConnected(integration="u" * 250_000))] * 17
            ).SerializeToString(),
            "TOO_LARGE",
        ),
    ],
    ids=["no event", "garbage", "unknown field", "1001 events", "4 MiB"],
)
async def test_malformed_request_ends_the_call_after_the_answers_before_it(
    service: Service, malformed: bytes, reason: str
) -> None:
    found, code, named = await until_failure(service, SOUND, malformed)
    assert ids(found) == [["sound"]]
    assert (code, named) == (INVALID, reason)
    as_unary = await failure_of(service.raw("EventService/Publish", malformed))
    assert (as_unary.code, as_unary.reason) == (code, named)


async def test_thousand_wrong_events_are_answered_within_what_any_client_takes(
    service: Service,
) -> None:
    details = Struct()
    details.update({f"{n:03}" + "k" * 25: float("nan") for n in range(100)})
    wrong = event(anomaly_alert=AnomalyAlert(kind="k", severity=AnomalyAlert.LOW, details=details))
    few = 4_000_000 // (wrong.ByteSize() + 4)
    [response] = await answers(
        service, request(*[wrong] * few, *[event(tenant_id="?")] * (1000 - few))
    )
    assert len(response.items) == 1000
    assert response.ByteSize() <= MAX_RESPONSE_BYTES
    assert all(one.error.violations for one in response.items)


@pytest.mark.parametrize(
    ("size", "most"),
    [(60_000, MOST_UNANSWERED), (250_000, MOST_UNANSWERED_BYTES // 250_000 + 1)],
)
async def test_no_more_is_read_than_may_be_unanswered(
    service: Service, *, size: int, most: int
) -> None:
    sent = 0

    def requests() -> Iterator[PublishStreamRequest]:
        nonlocal sent
        # Far more bytes than the windows of HTTP/2 hold.
        big = AccountConnected(integration="g", user_id="u" * size)
        for number in range(400):
            sent += 1
            yield request(event(event_id=f"e{number}", account_connected=big))

    async with held_writer(service.store) as held:
        call = service.events.PublishStream(requests())
        await held.submitted(most)
        before = -1
        while before != sent:
            before = sent
            # What may still be sent, is sent meanwhile: this takes many turns of the loop.
            await asyncio.gather(*(service.stored() for _ in range(20)))
        assert held.waiting == most
        assert sent < 200
    assert [len(one.items) async for one in call] == [1] * 400


async def test_client_that_goes_away_leaves_whole_requests_or_nothing(service: Service) -> None:
    lane = await service.subscribe()
    assert lane.secret
    requests = [request(*[event(event_id=f"e{n}-{m}") for m in range(20)]) for n in range(50)]
    call = service.events.PublishStream(iter(requests))
    await call.read()
    call.cancel()
    await service.store.check_writable()
    by_request: dict[str, int] = {}
    for one in await service.stored():
        name = one.event_id.partition("-")[0]
        by_request[name] = by_request.get(name, 0) + 1
    assert by_request["e0"] == 20
    assert set(by_request.values()) == {20}
    again = await answers(service, *requests)
    outcomes = [one.items[0].result.outcome for one in again]
    assert outcomes.count(ACCEPTED) + outcomes.count(DUPLICATE) == 50
    assert len(await service.stored()) == 1000


async def test_draining_ends_a_stream_once_what_was_read_is_answered(service: Service) -> None:
    call = service.events.PublishStream()
    await call.write(request(event(event_id="first")))
    await call.read()
    async with held_writer(service.store) as held:
        await call.write(request(event(event_id="second")))
        await held.submitted(1)
        draining = asyncio.create_task(service.server.drain(timedelta(seconds=60)))
    response = await call.read()
    assert isinstance(response, PublishStreamResponse)
    assert response.items[0].result.event_id == "second"
    failure = await failure_of(call.read())
    assert failure.code is grpc.StatusCode.UNAVAILABLE
    assert failure.reason == "OVERLOADED"
    assert failure.details == ["ErrorInfo", "RetryInfo"]
    await draining


async def test_failure_of_ours_ends_the_stream_with_an_id_and_nothing_else(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    canary = "canary-8d1f"
    monkeypatch.setitem(failpoints._armed, "handler", "raise")
    data = request(event(event_id=canary, resource=Resource(id=canary))).SerializeToString()
    with caplog.at_level(logging.DEBUG, "signalpost"):
        found, code, reason = await until_failure(service, data)
    assert (found, code, reason) == ([], grpc.StatusCode.INTERNAL, "INTERNAL")
    [record] = [one for one in caplog.records if one.message == "call failed"]
    assert vars(record)["rpc"] == "signalpost.v1.EventService.PublishStream"
    assert canary not in caplog.text
