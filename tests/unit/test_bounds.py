"""No request, whatever is in it, takes long to look through."""

from __future__ import annotations

import asyncio
import threading

import pytest
from google.protobuf.descriptor import Descriptor

from signalpost.api.aside import LARGE_BYTES, Aside
from signalpost.api.checks import check
from signalpost.api.constraints import CONSTRAINTS
from signalpost.api.parsing import MAX_EVENT_BYTES, MAX_REQUEST_BYTES, parse
from signalpost.api.rules import Rule
from signalpost.domain.errors import Reason, RequestInvalid, Violation
from signalpost.v1 import (
    delivery_service_pb2,
    event_service_pb2,
    event_type_service_pb2,
    subscription_service_pb2,
)
from signalpost.v1.event_pb2 import Event
from signalpost.v1.event_service_pb2 import PublishRequest, PublishStreamRequest
from signalpost.v1.payloads_pb2 import AccountConnected, Custom
from signalpost.v1.subscription_pb2 import Subscription
from signalpost.v1.subscription_service_pb2 import CreateSubscriptionRequest

PATIENCE_SECONDS = 30
SERVICES = (
    delivery_service_pb2,
    event_service_pb2,
    event_type_service_pb2,
    subscription_service_pb2,
)
UNKNOWN = b"\x78\x01"
GROUP = b"\x7b\x7c"
"""One that is unknown, with nothing between its beginning and its end."""


def event(text: str = "") -> Event:
    return Event(account_connected=AccountConnected(integration=text))


def refused(kind: type[PublishRequest | CreateSubscriptionRequest], data: bytes) -> Violation:
    with pytest.raises(RequestInvalid) as caught:
        parse(kind, data)
    [violation] = caught.value.violations
    return violation


def requests_and_what_they_hold() -> list[Descriptor]:
    """Return all messages that requests consist of, but for those of free shape."""
    found = [
        method.input_type
        for module in SERVICES
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]
    for message in found:
        for field in message.fields:
            within = field.message_type
            if within is None or within.GetOptions().map_entry or within in found:
                continue
            if within.full_name != "google.protobuf.Struct":
                found.append(within)
    return found


def test_whatever_may_come_many_times_has_a_bound() -> None:
    unbound = {
        f"{message.name}.{field.name}"
        for message in requests_and_what_they_hold()
        for field in message.fields
        if field.is_repeated
        and message.file.name != "signalpost/v1/payloads.proto"  # bound by the size of an event
        and CONSTRAINTS.get(message.name, {}).get(field.name, Rule()).most is None
    }
    assert unbound == {"Subscription.headers"}  # counted where they are judged


def test_fields_that_are_unknown_at_length_are_not_even_named() -> None:
    custom = Custom.FromString(UNKNOWN * 50_000)
    (violation,) = check(Event(custom=custom))
    assert violation.field == ""
    assert "bytes in fields unknown to this server" in violation.description


@pytest.mark.parametrize("kind", [PublishRequest, PublishStreamRequest])
def test_an_event_is_weighed_before_it_is_read(kind: type[PublishRequest]) -> None:
    sound, large = event("x" * 1000), event("x" * MAX_EVENT_BYTES)
    data = kind(events=[sound, large]).SerializeToString()
    violation = refused(kind, data)
    assert (violation.field, violation.reason) == ("events[1]", Reason.TOO_LARGE)
    assert violation.metadata["limitBytes"] == str(MAX_EVENT_BYTES)
    parse(kind, kind(events=[event("x" * (MAX_EVENT_BYTES - 100))] * 3).SerializeToString())


def test_a_group_hides_no_event_from_being_weighed() -> None:
    large = PublishRequest(events=[event("x" * MAX_EVENT_BYTES)]).SerializeToString()
    violation = refused(PublishRequest, GROUP + large)
    assert (violation.field, violation.reason) == ("events[0]", Reason.TOO_LARGE)


@pytest.mark.parametrize("unknown", [UNKNOWN * 1001, GROUP * 501])
def test_a_large_request_of_very_many_fields_is_not_read(unknown: bytes) -> None:
    plain = PublishRequest(events=[event("x" * 2000)] * 1000).SerializeToString()
    parse(PublishRequest, plain)
    assert "more than 2000 fields" in refused(PublishRequest, plain + unknown).description


@pytest.mark.parametrize("tail", [b"\xff" * 12, b"\x0a\xff\xff\xff\x7f", b"\x0b", b"\x0d\x01"])
def test_what_is_no_message_is_refused_as_such_whatever_its_size(tail: bytes) -> None:
    head = PublishRequest(events=[event("x" * 2000)] * 600).SerializeToString()
    assert len(head) > MAX_EVENT_BYTES
    violation = refused(PublishRequest, head + tail)
    assert violation.reason in (Reason.FIELD_INVALID, Reason.TOO_LARGE)


def test_a_request_that_publishes_nothing_is_small() -> None:
    large = Subscription(display_name="x" * MAX_REQUEST_BYTES)
    data = CreateSubscriptionRequest(subscription=large).SerializeToString()
    violation = refused(CreateSubscriptionRequest, data)
    assert (violation.field, violation.reason) == ("", Reason.TOO_LARGE)


async def test_the_loop_goes_on_while_something_large_is_looked_through() -> None:
    loop_goes_on = threading.Event()
    asyncio.get_running_loop().call_later(0, loop_goes_on.set)
    seen = await Aside().do(lambda: loop_goes_on.wait(PATIENCE_SECONDS), size=LARGE_BYTES + 1)
    assert seen


async def test_something_small_is_looked_through_at_once() -> None:
    here = threading.get_ident()
    assert await Aside().do(threading.get_ident, size=LARGE_BYTES) == here
