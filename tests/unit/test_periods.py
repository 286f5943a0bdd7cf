"""Periods in requests: one that ends before it begins would silently choose nothing."""

from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from signalpost.api.checks import MAX_SECONDS, check
from signalpost.v1 import (
    delivery_service_pb2,
    event_service_pb2,
    event_type_service_pb2,
    subscription_service_pb2,
)

SERVED = (
    delivery_service_pb2,
    event_service_pb2,
    event_type_service_pb2,
    subscription_service_pb2,
)
METHODS: list[MethodDescriptor] = [
    method
    for module in SERVED
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
REQUESTS = [
    method.input_type
    for method in METHODS
    if {"start_time", "end_time"} <= set(method.input_type.fields_by_name)
]


def request(kind: Descriptor, **times: Timestamp) -> Message:
    given: dict[str, Any] = dict(times)
    if "subscription_id" in kind.fields_by_name:
        given["subscription_id"] = "s"
    return GetMessageClass(kind)(**given)


def told(message: Message) -> list[tuple[str, str]]:
    return [(violation.field, violation.description) for violation in check(message)]


def test_requests_with_a_period_are_found() -> None:
    assert {kind.name for kind in REQUESTS} == {
        "ListEventsRequest",
        "ListDeliveriesRequest",
        "ReplayDeliveriesRequest",
    }


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    ("start", "end"),
    [
        (Timestamp(seconds=2), Timestamp(seconds=1)),
        (Timestamp(seconds=2), Timestamp(seconds=2)),
        (Timestamp(seconds=2, nanos=2000), Timestamp(seconds=2, nanos=1000)),
        (Timestamp(seconds=-1), Timestamp(seconds=-2, nanos=999_999_999)),
        # Time is kept in microseconds: nothing is between these either.
        (Timestamp(seconds=2, nanos=1001), Timestamp(seconds=2, nanos=1999)),
        (Timestamp(seconds=MAX_SECONDS), Timestamp()),
    ],
)
def test_a_period_that_holds_nothing_is_refused(
    kind: Descriptor, start: Timestamp, end: Timestamp
) -> None:
    period = request(kind, start_time=start, end_time=end)
    assert told(period) == [("end_time", "must be after start_time")]


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    "times",
    [
        {"start_time": Timestamp(seconds=2), "end_time": Timestamp(seconds=2, nanos=1)},
        {"start_time": Timestamp(seconds=-2), "end_time": Timestamp(seconds=-1)},
        {"start_time": Timestamp(seconds=2)},
    ],
)
def test_a_period_that_may_hold_something_is_taken(
    kind: Descriptor, times: dict[str, Timestamp]
) -> None:
    assert check(request(kind, **times)) == []


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.name)
def test_what_is_no_time_is_told_as_that(kind: Descriptor) -> None:
    period = request(kind, start_time=Timestamp(seconds=2**62), end_time=Timestamp(nanos=-1))
    assert [violation.field for violation in check(period)][:2] == ["start_time", "end_time"]
