"""Whatever bytes come in: a documented failure, nothing of our insides, nothing stored."""

import logging

import grpc
import pytest

from signalpost import failpoints
from signalpost.v1.event_service_pb2 import PublishRequest
from tests.api.service import Service, event, failure_of

INVALID = grpc.StatusCode.INVALID_ARGUMENT
PUBLISH = "EventService/Publish"


def field(number: int, content: bytes) -> bytes:
    """Encode a length-delimited field."""
    length, size = b"", len(content)
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return (
        bytes([number << 3 & 0x7F | 2 | (0x80 if number > 15 else 0)])
        + (bytes([number >> 4]) if number > 15 else b"")
        + length
        + bytes([size])
        + content
    )


def deep_struct(levels: int) -> bytes:
    """Encode an event whose details hold so many objects within one another."""
    value = b"\x20\x01"
    for _ in range(levels):
        value = field(5, field(1, field(1, b"k") + field(2, value)))
    details = field(1, field(1, b"k") + field(2, value))
    alert = field(1, b"kind") + b"\x10\x01" + field(10, details)
    return field(1, field(4, field(2, b"res")) + field(50, alert))


SOUND = PublishRequest(events=[event(event_id="e1")]).SerializeToString()
SOUND_EVENT = event(event_id="e1").SerializeToString()


async def test_the_bytes_these_cases_start_from_are_accepted(service: Service) -> None:
    await service.raw(PUBLISH, SOUND)
    await service.raw(PUBLISH, field(1, SOUND_EVENT.replace(b"e1", b"e2")))
    await service.raw(PUBLISH, deep_struct(15))
    assert len(await service.stored()) == 3


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 40,
        b"\x0a",
        SOUND[:-1],
        SOUND[:5],
        field(1, field(1, b"\xff\xfe") + SOUND_EVENT),
        field(1, field(1, b"\xed\xa0\x80") + SOUND_EVENT),
        deep_struct(1000),
        SOUND + b"\x0b",
    ],
    ids=[
        "garbage",
        "no length",
        "last byte missing",
        "cut early",
        "not UTF-8",
        "surrogate",
        "deep beyond parsing",
        "group without end",
    ],
)
async def test_what_is_no_message_is_refused(service: Service, data: bytes) -> None:
    failure = await failure_of(service.raw(PUBLISH, data))
    assert failure.code is INVALID
    assert failure.message == "the request is not a valid protobuf message of its type"
    assert failure.reason == "FIELD_INVALID"
    assert failure.violations == {"": "FIELD_INVALID"}
    assert await service.stored() == []


@pytest.mark.parametrize(
    ("data", "path", "reason"),
    [
        (SOUND + b"\x98\x06\x01", "99", "FIELD_INVALID"),
        (SOUND + b"\x9b\x06\x9c\x06", "99", "FIELD_INVALID"),
        (field(1, SOUND_EVENT + b"\x48\x01"), "events[0].9", "FIELD_INVALID"),
        (field(1, SOUND_EVENT + field(4, b"\x18\x01")), "events[0].resource.3", "FIELD_INVALID"),
        (field(1, SOUND_EVENT + b"\x10\x7f"), "events[0].event_type", "EVENT_TYPE_UNKNOWN"),
        (deep_struct(16), 'events[0].anomaly_alert.details["k"]' + '["k"]' * 15, "FIELD_INVALID"),
        (deep_struct(30), 'events[0].anomaly_alert.details["k"]' + '["k"]' * 15, "FIELD_INVALID"),
    ],
)
async def test_what_a_newer_client_might_send_is_refused_by_its_path(
    service: Service, data: bytes, path: str, reason: str
) -> None:
    failure = await failure_of(service.raw(PUBLISH, data))
    assert failure.code is INVALID
    assert failure.violations == {path: reason}
    assert await service.stored() == []


@pytest.mark.parametrize(
    "method",
    [
        PUBLISH,
        "EventService/GetEvent",
        "EventService/ListEvents",
        "EventService/WatchEvents",
        "EventTypeService/CreateEventType",
        "EventTypeService/GetEventType",
        "EventTypeService/ListEventTypes",
        "EventTypeService/UpdateEventType",
        "EventTypeService/DeleteEventType",
        "SubscriptionService/CreateSubscription",
        "SubscriptionService/GetSubscription",
        "SubscriptionService/ListSubscriptions",
        "SubscriptionService/DeleteSubscription",
        "SubscriptionService/RotateSubscriptionSecret",
        "DeliveryService/GetDelivery",
        "DeliveryService/ListDeliveries",
        "DeliveryService/GetDeliveryStats",
        "DeliveryService/WatchDeliveries",
        "DeliveryService/RetryDelivery",
        "DeliveryService/ReplayDeliveries",
        "DeliveryService/CancelDeliveries",
    ],
)
async def test_every_method_refuses_garbage_and_unknown_fields(
    service: Service, method: str
) -> None:
    failure = await failure_of(service.raw(method, b"\xff" * 9))
    assert (failure.code, failure.reason) == (INVALID, "FIELD_INVALID")
    failure = await failure_of(service.raw(method, b"\xf8\x3f\x01"))
    assert failure.code is INVALID
    assert failure.violations["1023"] == "FIELD_INVALID"


@pytest.mark.parametrize(
    "method",
    [
        "AdminService/GetServerInfo",
    ],
)
async def test_what_this_version_does_not_have_is_unimplemented(
    service: Service, method: str
) -> None:
    failure = await failure_of(service.raw(method, b""))
    assert failure.code is grpc.StatusCode.UNIMPLEMENTED


async def test_thousands_of_mistakes_are_answered_within_the_limits_of_a_client(
    service: Service,
) -> None:
    failure = await failure_of(service.raw(PUBLISH, field(1, b"") * 1000))
    assert failure.code is INVALID
    assert failure.reason == "FIELD_INVALID"
    assert len(failure.violations) > 20


async def test_a_failure_of_ours_tells_an_id_and_nothing_else(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(failpoints._armed, "handler", "raise")
    with caplog.at_level(logging.ERROR, "signalpost"):
        failure = await failure_of(service.raw(PUBLISH, SOUND))
    assert failure.code is grpc.StatusCode.INTERNAL
    assert failure.reason == "INTERNAL"
    assert failure.details == ["ErrorInfo"]
    (record,) = [one for one in caplog.records if one.message == "call failed"]
    assert failure.metadata == {"errorId": vars(record)["error_id"]}
    assert vars(record)["rpc"] == "signalpost.v1.EventService.Publish"
    assert record.exc_info is not None
    assert record.exc_info[0] is failpoints.InjectedFault
    for insides in (b"InjectedFault", b"Traceback", b"boundary", b"handler"):
        assert insides not in failure.raw + failure.message.encode()


async def test_a_call_that_ends_before_its_request_is_refused(service: Service) -> None:
    call: grpc.aio.StreamUnaryMultiCallable[bytes, bytes]
    call = service.channel.stream_unary(f"/signalpost.v1.{PUBLISH}")
    failure = await failure_of(call(iter(())))
    assert (failure.code, failure.reason) == (INVALID, "FIELD_INVALID")
    assert failure.message == "there is no request"


async def test_a_client_that_goes_away_before_its_request_leaves_no_trace(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    kind: grpc.aio.StreamUnaryMultiCallable[bytes, bytes]
    kind = service.channel.stream_unary(f"/signalpost.v1.{PUBLISH}")
    call = kind()
    await call.wait_for_connection()
    call.cancel()
    assert await service.stored() == []
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []
