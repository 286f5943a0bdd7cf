import json
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from signalpost.api.checks import MAX_SECONDS, MIN_SECONDS
from signalpost.api.rendering import PAYLOADS, event_from, render
from signalpost.domain.event import Event, Resource, render_body
from signalpost.domain.ids import EventId, TenantId
from signalpost.v1 import event_pb2
from signalpost.v1.payloads_pb2 import (
    AccountConnected,
    Actor,
    AnomalyAlert,
    ToolListChanged,
    UsageQuotaAlert,
)
from tests.unit.test_golden_bodies import MEMBERS, NOW

RESOURCE = Resource("account", "acc_1")
NUMBERS = st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: str(x) != "-0.0")
SMALL_NUMBERS = st.floats(-(2.0**53), 2.0**53).filter(lambda x: str(x) != "-0.0")
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | SMALL_NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
TIMESTAMPS = st.builds(
    Timestamp, seconds=st.integers(MIN_SECONDS, MAX_SECONDS), nanos=st.integers(0, 10**9 - 1)
)


def struct(values: dict[str, Any]) -> Struct:
    made = Struct()
    made.update(values)
    return made


STRUCTS = st.dictionaries(st.text(), JSON, max_size=4).map(struct)
SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_STRING: st.text(),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_DOUBLE: NUMBERS,
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
}


def values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.enum_type is not None:
        one: st.SearchStrategy[Any] = st.sampled_from(sorted(field.enum_type.values_by_number))
    elif field.message_type is Struct.DESCRIPTOR:
        one = STRUCTS
    elif field.message_type is Timestamp.DESCRIPTOR:
        one = TIMESTAMPS
    elif field.message_type is not None:
        one = messages(field.message_type)
    else:
        one = SCALARS[field.cpp_type]
    return st.lists(one, max_size=3) if field.is_repeated else one


def messages(descriptor: Descriptor) -> st.SearchStrategy[Message]:
    fields = {field.name: values(field) for field in descriptor.fields}
    return st.fixed_dictionaries({}, optional=fields).map(
        lambda chosen: GetMessageClass(descriptor)(**chosen)
    )


PAYLOAD = st.sampled_from(MEMBERS).flatmap(
    lambda member: st.tuples(
        st.just(member),
        messages(type(getattr(event_pb2.Event(), member)).DESCRIPTOR),
    )
)


def read_back(member: str, payload: bytes) -> Message:
    event_type = member.replace("_", ".", 1)
    body = render_body(
        EventId("e"),
        event_type,
        timestamp="2026-01-01T00:00:00Z",
        resource=RESOURCE,
        payload=payload,
    )
    stored = Event(
        event_id=EventId("e"),
        tenant_id=TenantId(""),
        event_type=event_type,
        resource=RESOURCE,
        body=body,
        digest=b"",
        traceparent="",
        publish_time=NOW,
    )
    message: Message = getattr(event_from(stored), member)
    return message


@given(PAYLOAD)
def test_what_is_rendered_is_read_back_equal(pair: tuple[str, Message]) -> None:
    member, message = pair
    assert read_back(member, render(message)) == message


@given(PAYLOAD)
def test_rendering_does_not_depend_on_how_a_message_came_about(pair: tuple[str, Message]) -> None:
    _, message = pair
    assert render(type(message).FromString(message.SerializeToString())) == render(message)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (42.0, "42"),
        (-0.0, "0"),
        (0.5, "0.5"),
        (2.0**53, "9007199254740992"),
        (-(2.0**53), "-9007199254740992"),
        (1e300, "1e+300"),
    ],
)
def test_numbers_without_a_fraction_are_integers(number: float, text: str) -> None:
    payload = UsageQuotaAlert(used=number)
    assert render(payload) == b'{"used":' + text.encode() + b"}"


def test_keys_of_a_struct_are_sorted_by_code_point() -> None:
    details = struct({"b": 1, "a": {"ü": 1, "z": 2}, "A": 3, "\U0001f600": 4, "\uffff": 5})
    rendered = render(AnomalyAlert(details=details)).decode()
    expected = '{"details":{"A":3,"a":{"z":2,"ü":1},"b":1,"\uffff":5,"\U0001f600":4}}'
    assert rendered == expected


def test_what_is_empty_is_left_out_and_what_is_set_stays() -> None:
    payload = ToolListChanged(integration="", added=[], tool_count=0)
    payload.actor.SetInParent()
    assert json.loads(render(payload)) == {"tool_count": 0, "actor": {}}


def test_an_event_of_a_newer_version_is_shown_as_far_as_it_is_known() -> None:
    payload = b'{"integration":"gmail","user_id":"u","mood":"fine","actor":{"kind":"ROBOT"}}'
    read = read_back("account_connected", payload)
    assert read == AccountConnected(integration="gmail", user_id="u", actor=Actor())


def test_type_numbers_are_those_of_the_payload_fields() -> None:
    assert {name.upper(): number for name, number in PAYLOADS.items()} == {
        name: number for name, number in event_pb2.Event.Type.items() if number
    }
