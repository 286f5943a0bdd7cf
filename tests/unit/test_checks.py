import math
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import NULL_VALUE, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from signalpost.api.checks import MAX_SECONDS, MIN_SECONDS, check
from signalpost.api.constraints import CONSTRAINTS
from signalpost.api.findings import MAX_VIOLATIONS
from signalpost.domain.errors import Reason
from signalpost.v1 import (
    delivery_service_pb2,
    event_pb2,
    event_service_pb2,
    event_type_service_pb2,
    payloads_pb2,
    subscription_pb2,
    subscription_service_pb2,
)
from signalpost.v1.delivery_pb2 import Delivery
from signalpost.v1.delivery_service_pb2 import GetDeliveryRequest, ListDeliveriesRequest
from signalpost.v1.event_pb2 import Event, EventFilter, Resource
from signalpost.v1.event_service_pb2 import GetEventRequest, ListEventsRequest, PublishRequest
from signalpost.v1.payloads_pb2 import AnomalyAlert, Custom, UsageQuotaAlert
from signalpost.v1.subscription_pb2 import RateLimits, RetryPolicy, Subscription
from signalpost.v1.subscription_service_pb2 import (
    CreateSubscriptionRequest,
    ListSubscriptionsRequest,
    RotateSubscriptionSecretRequest,
)

HOOK = "https://example.com/hook"


def paths(message: Message) -> list[str]:
    return [violation.field for violation in check(message)]


def varint(number: int) -> bytes:
    encoded = b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


def with_unknown(message: Message, number: int) -> bytes:
    return message.SerializeToString() + varint(number << 3) + b"\x01"


def event(**fields: Any) -> Event:
    defaults: dict[str, Any] = {"resource": Resource(id="acc_1")}
    if not set(fields) & {"custom", "usage_quota_alert", "anomaly_alert"}:
        defaults["account_connected"] = {"integration": "gmail"}
    return Event(**(defaults | fields))


def anomaly(**details: Value) -> Event:
    return event(
        anomaly_alert=AnomalyAlert(
            kind="k", severity=AnomalyAlert.LOW, details=Struct(fields=details)
        )
    )


def nested(levels: int, *, by_list: bool = False) -> Value:
    value = Value(string_value="core")
    for _ in range(levels):
        outer = Value()
        if by_list:
            outer.list_value.values.append(value)
        else:
            outer.struct_value.fields["k"].CopyFrom(value)
        value = outer
    return value


def test_table_names_only_messages_and_fields_of_the_contract() -> None:
    modules = (
        delivery_service_pb2,
        event_pb2,
        event_service_pb2,
        event_type_service_pb2,
        payloads_pb2,
        subscription_pb2,
        subscription_service_pb2,
    )
    messages = {
        name: descriptor
        for module in modules
        for name, descriptor in module.DESCRIPTOR.message_types_by_name.items()
    }
    for name, rules in CONSTRAINTS.items():
        descriptor = FieldMask.DESCRIPTOR if name == "FieldMask" else messages[name]
        for field in rules:
            assert field in descriptor.fields_by_name or field in descriptor.oneofs_by_name, field


def test_five_mistakes_are_five_paths_at_once() -> None:
    request = PublishRequest(
        events=[
            event(event_id="not ok"),
            event(resource=Resource(type="Upper", id="")),
            event(),
            Event(resource=Resource(id="x")),
            event(tenant_id="-", account_connected={}),
        ]
    )
    assert paths(request) == [
        "events[0].event_id",
        "events[1].resource.type",
        "events[1].resource.id",
        "events[3].payload",
        "events[4].tenant_id",
        "events[4].account_connected.integration",
    ]


@pytest.mark.parametrize(
    "message",
    [
        event(event_id="A" * 64),
        event(tenant_id="a" + "." * 62),
        event(resource=Resource(type="t" * 63, id="ü" * 256)),
        event(traceparent="00-" + "0" * 31 + "1-" + "0" * 15 + "1-00"),
        event(timestamp=Timestamp(seconds=MIN_SECONDS)),
        event(timestamp=Timestamp(seconds=MAX_SECONDS, nanos=10**9 - 1)),
        event(publish_time=Timestamp(seconds=1), event_type_name="ignored"),
        event(custom=Custom(name="billing.invoice_paid")),
        event(
            usage_quota_alert=UsageQuotaAlert(
                metric="m", level=UsageQuotaAlert.WARNING, used=0, limit=0
            )
        ),
        anomaly(n=Value(number_value=2.0**53), z=Value(null_value=NULL_VALUE)),
        anomaly(k=nested(15)),
        anomaly(k=nested(15, by_list=True)),
        EventFilter(event_types=["account.*", "billing.invoice_paid", "a.b.c_d"] * 33),
        ListEventsRequest(page_size=1000, tenant_id="-"),
        RetryPolicy(max_attempts=50, backoff_multiplier=1, max_backoff=Duration(seconds=86400)),
        RetryPolicy(min_backoff=Duration(seconds=1), max_backoff=Duration(seconds=1)),
        RotateSubscriptionSecretRequest(subscription_id="a", overlap=Duration()),
        Subscription(
            endpoint_uri=HOOK,
            timeout=Duration(seconds=30),
            labels={"k" * 63: "v" * 255},
            allowed_ip_ranges=["203.0.113.0/24", "2001:db8::/32"],
        ),
    ],
)
def test_values_at_their_bounds_pass(message: Message) -> None:
    assert check(message) == []


@pytest.mark.parametrize(
    ("message", "path"),
    [
        (PublishRequest(), "events"),
        (event(event_id="A" * 65), "event_id"),
        (event(event_id="a\n"), "event_id"),
        (event(tenant_id=".a"), "tenant_id"),
        (event(tenant_id="a" * 64), "tenant_id"),
        (event(resource=Resource(id="x" * 257)), "resource.id"),
        (event(resource=Resource(id="a\x00b")), "resource.id"),
        (event(resource=Resource(id="a\x85b")), "resource.id"),
        (event(traceparent="00-" + "0" * 32 + "-" + "1" * 16 + "-00"), "traceparent"),
        (event(traceparent="ff-" + "1" * 32 + "-" + "1" * 16 + "-00"), "traceparent"),
        (event(traceparent="00-" + "A" * 32 + "-" + "1" * 16 + "-00"), "traceparent"),
        (event(custom=Custom(name="NoDots")), "custom.name"),
        (event(custom=Custom(name="a." + "b" * 127)), "custom.name"),
        (event(timestamp=Timestamp(seconds=MIN_SECONDS - 1)), "timestamp"),
        (event(timestamp=Timestamp(seconds=MAX_SECONDS + 1)), "timestamp"),
        (event(timestamp=Timestamp(nanos=-1)), "timestamp"),
        (event(timestamp=Timestamp(nanos=10**9)), "timestamp"),
        (
            event(
                usage_quota_alert=UsageQuotaAlert(
                    metric="m", level=UsageQuotaAlert.WARNING, limit=1
                )
            ),
            "usage_quota_alert.used",
        ),
        (
            event(
                anomaly_alert=AnomalyAlert(kind="k", severity=AnomalyAlert.LOW, observed=math.nan)
            ),
            "anomaly_alert.observed",
        ),
        (anomaly(n=Value(number_value=math.nan)), 'anomaly_alert.details["n"]'),
        (anomaly(n=Value(number_value=-math.inf)), 'anomaly_alert.details["n"]'),
        (anomaly(n=Value(number_value=2.0**53 + 2)), 'anomaly_alert.details["n"]'),
        (anomaly(n=Value()), 'anomaly_alert.details["n"]'),
        (anomaly(k=nested(16)), 'anomaly_alert.details["k"]' + '["k"]' * 15),
        (anomaly(k=nested(16, by_list=True)), 'anomaly_alert.details["k"]' + "[0]" * 15),
        (EventFilter(event_types=["a.b"] * 101), "event_types"),
        (EventFilter(event_types=["a.b", "*"]), "event_types[1]"),
        (EventFilter(event_types=["a.b.*"]), "event_types[0]"),
        (EventFilter(resource_ids=["ok", ""]), "resource_ids[1]"),
        (GetEventRequest(), "event_id"),
        (GetEventRequest(event_id="e", tenant_id="-"), "tenant_id"),
        (GetDeliveryRequest(), "delivery_id"),
        (GetDeliveryRequest(delivery_id="d" * 65), "delivery_id"),
        (ListEventsRequest(page_size=1001), "page_size"),
        (ListEventsRequest(page_size=-1), "page_size"),
        (ListSubscriptionsRequest(event_type_name="account.*"), "event_type_name"),
        (ListDeliveriesRequest(states=[Delivery.FAILED, Delivery.STATE_UNSPECIFIED]), "states[1]"),
        (Subscription(endpoint_uri=HOOK, subscription_id="1a"), "subscription_id"),
        (Subscription(endpoint_uri=HOOK, display_name="n" * 64), "display_name"),
        (Subscription(endpoint_uri=HOOK, timeout=Duration()), "timeout"),
        (Subscription(endpoint_uri=HOOK, timeout=Duration(seconds=31)), "timeout"),
        (
            Subscription(endpoint_uri=HOOK, timeout=Duration(seconds=2, nanos=-1)),
            "timeout",
        ),
        (Subscription(endpoint_uri=HOOK, timeout=Duration(seconds=2**62)), "timeout"),
        (Subscription(endpoint_uri=HOOK, labels={"": "v"}), 'labels[""]'),
        (Subscription(endpoint_uri=HOOK, labels={"k": "v" * 256}), 'labels["k"]'),
        (
            Subscription(endpoint_uri=HOOK, labels={str(n): "" for n in range(65)}),
            "labels",
        ),
        (
            Subscription(endpoint_uri=HOOK, allowed_ip_ranges=["10.0.0.1/8"]),
            "allowed_ip_ranges[0]",
        ),
        (
            Subscription(endpoint_uri=HOOK, allowed_ip_ranges=["10.0.0.1"]),
            "allowed_ip_ranges[0]",
        ),
        (RetryPolicy(max_attempts=51), "max_attempts"),
        (RetryPolicy(max_attempts=-1), "max_attempts"),
        (RetryPolicy(max_retry_duration=Duration(seconds=59)), "max_retry_duration"),
        (RetryPolicy(min_backoff=Duration(nanos=999_999_999)), "min_backoff"),
        (RetryPolicy(max_backoff=Duration(seconds=86400, nanos=1)), "max_backoff"),
        (
            RetryPolicy(min_backoff=Duration(seconds=9, nanos=1), max_backoff=Duration(seconds=9)),
            "max_backoff",
        ),
        (RetryPolicy(backoff_multiplier=math.nan), "backoff_multiplier"),
        (RetryPolicy(backoff_multiplier=10.5), "backoff_multiplier"),
        (RateLimits(max_concurrent_attempts=257), "max_concurrent_attempts"),
        (RateLimits(max_attempts_per_second=0.0009), "max_attempts_per_second"),
        (RateLimits(max_attempts_per_second=1000.5), "max_attempts_per_second"),
        (RateLimits(max_attempts_per_second=-1), "max_attempts_per_second"),
        (
            RotateSubscriptionSecretRequest(
                subscription_id="a", overlap=Duration(seconds=7 * 86400, nanos=1)
            ),
            "overlap",
        ),
        (
            RotateSubscriptionSecretRequest(subscription_id="a", overlap=Duration(seconds=-1)),
            "overlap",
        ),
        (
            CreateSubscriptionRequest(
                subscription=Subscription(endpoint_uri=HOOK), secret="whsec_c2hvcnQ="
            ),
            "secret",
        ),
    ],
)
def test_a_value_out_of_bounds_is_named_by_its_path(message: Message, path: str) -> None:
    assert paths(message) == [path]


def test_a_secret_is_not_repeated_in_what_is_said_about_it() -> None:
    secret = "whsec_" + "not*base64" * 5
    request = RotateSubscriptionSecretRequest(subscription_id="a", secret=secret)
    (violation,) = check(request)
    assert "not*base64" not in violation.description


@pytest.mark.parametrize(
    ("message", "number", "path"),
    [
        (PublishRequest(events=[event()]), 77, "77"),
        (Resource(id="a"), 3, "3"),
        (Timestamp(seconds=1), 3, "timestamp.3"),
    ],
)
def test_unknown_field_is_refused(message: Message, number: int, path: str) -> None:
    changed = type(message).FromString(with_unknown(message, number))
    if isinstance(changed, Timestamp):
        changed = event(timestamp=changed)
    assert paths(changed) == [path]


@pytest.mark.parametrize("kind", ["struct", "value", "list", "entry"])
def test_unknown_field_within_a_struct_is_refused(kind: str) -> None:
    value = Value(string_value="v")
    match kind:
        case "struct":
            raw = with_unknown(Struct(fields={"k": value}), 9)
        case "value":
            inner = Value.FromString(with_unknown(value, 9))
            raw = Struct(fields={"k": inner}).SerializeToString()
        case "list":
            inner = Value()
            inner.list_value.ParseFromString(b"\x48\x01")
            raw = Struct(fields={"k": inner}).SerializeToString()
        case _:
            entry = b"\x0a\x01k\x12\x03\x1a\x01v\x48\x01"
            raw = b"\x0a" + bytes([len(entry)]) + entry
    details = Struct.FromString(raw)
    alert = AnomalyAlert(kind="k", severity=AnomalyAlert.LOW, details=details)
    (violation,) = check(event(anomaly_alert=alert))
    assert violation.field.startswith("anomaly_alert.details")
    assert "unknown" in violation.description


def test_unknown_fields_of_repeated_messages_are_found_in_their_place() -> None:
    strange = Event.FromString(with_unknown(event(), 9))
    assert paths(PublishRequest(events=[event(), strange])) == ["events[1].9"]


def test_payload_of_a_newer_contract_is_an_unknown_type_and_nothing_else() -> None:
    bare = Event(resource=Resource(id="a"))
    number = 999
    assert number not in Event.DESCRIPTOR.fields_by_number
    (violation,) = check(Event.FromString(with_unknown(bare, number)))
    assert violation.reason is Reason.EVENT_TYPE_UNKNOWN
    assert violation.metadata == {"eventType": "999"}


def test_unknown_enum_values_are_refused() -> None:
    strange = GetMessageClass(Event.DESCRIPTOR).FromString(
        event().SerializeToString() + b"\x10\x99\x07"
    )
    (violation,) = check(strange)
    assert violation.field == "event_type"
    assert violation.reason is Reason.EVENT_TYPE_UNKNOWN
    alert = AnomalyAlert.FromString(b"\x0a\x01k\x10\x63")
    (violation,) = check(event(anomaly_alert=alert))
    assert violation.field == "anomaly_alert.severity"
    assert violation.reason is Reason.FIELD_INVALID


def test_too_many_events_are_not_looked_at() -> None:
    assert paths(PublishRequest(events=[Event()] * 1001)) == ["events"]


def test_a_request_of_nothing_but_mistakes_is_not_walked_to_its_end() -> None:
    garbage = b"".join(varint(number << 3) + b"\x01" for number in range(1000, 10_000))
    assert len(check(PublishRequest.FromString(garbage))) == MAX_VIOLATIONS


def test_long_keys_are_cut_in_paths() -> None:
    details = {"k" * 5000: Value()}
    (path,) = paths(anomaly(**details))
    assert len(path) < 100
