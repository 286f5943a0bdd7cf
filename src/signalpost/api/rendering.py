"""Payloads as the JSON that subscribers receive, and stored events back as messages.

Fields stand in the order of their numbers under the names of the contract; what is unset,
empty text and empty lists are left out; optional numbers stay if set; a number without a
fraction is an integer up to 2^53 and negative zero is zero. Keys of a `Struct` are sorted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from signalpost.api.structs import MAX_INTEGER
from signalpost.domain.catalogue import FAMILIES
from signalpost.domain.event import Event
from signalpost.v1 import event_pb2

PAYLOADS: Final[Mapping[str, int]] = {
    field.name: field.number
    for field in event_pb2.Event.DESCRIPTOR.oneofs_by_name["payload"].fields
}
"""The members of the oneof `payload`, with the numbers of their types."""

_logger: Final = logging.getLogger(__name__)

_Writer = Callable[[Any], object]


def render(message: Message) -> bytes:
    """Write a message, checked before, as canonical JSON."""
    write = _MESSAGES.get(message.DESCRIPTOR.full_name, _object)
    return orjson.dumps(write(message))


def struct_from(text: bytes) -> Struct:
    """Read an object that `render` wrote of a `Struct`."""
    return ParseDict(orjson.loads(text), Struct())


def event_from(event: Event) -> event_pb2.Event:
    """Make the message of a stored event, its payload read from the body.

    Parsed leniently: an event stored by a newer version is shown as far as it is known, and one
    that is damaged without its payload, so that lists and streams go on.
    """
    message = event_pb2.Event()
    try:
        _read_body(event, message)
    except (ValueError, TypeError, LookupError, ParseError):
        _logger.exception(
            "a stored event is damaged: its payload is not shown", extra=_names(event)
        )
        message.Clear()
    message.event_id = readable(event.event_id)
    message.event_type_name = readable(event.event_type)
    message.resource.type = readable(event.resource.type)
    message.resource.id = readable(event.resource.id)
    message.tenant_id = readable(event.tenant_id)
    message.traceparent = readable(event.traceparent)
    message.publish_time.FromDatetime(event.publish_time)
    return message


def readable(text: str) -> str:
    """Return a stored text, what is damaged of it replaced: no message takes that as it is."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="surrogateescape").decode(errors="replace")
    return text


def _read_body(event: Event, message: event_pb2.Event) -> None:
    body = orjson.loads(event.body)
    member = event.event_type.replace(".", "_", 1)
    if member in PAYLOADS:
        ParseDict({member: body["payload"]}, message, ignore_unknown_fields=True)
        message.event_type = event_pb2.Event.Type.Value(member.upper())
    elif event.event_type.partition(".")[0] not in FAMILIES:
        ParseDict(_custom(event.event_type, body["payload"]), message)
        message.event_type = event_pb2.Event.CUSTOM
    message.timestamp.FromJsonString(body["timestamp"])


def _names(event: Event) -> dict[str, str]:
    return {"event_id": readable(event.event_id), "tenant_id": readable(event.tenant_id)}


def _custom(name: str, payload: dict[str, object]) -> dict[str, object]:
    return {"custom": {"name": name, "data": payload} if payload else {"name": name}}


def _object(message: Message) -> dict[str, object]:
    writers = _writers(message.DESCRIPTOR)
    rendered: dict[str, object] = {}
    for field, value in message.ListFields():
        name, write = writers[field.number]
        rendered[name] = write(value)
    return rendered


@cache
def _writers(descriptor: Descriptor) -> Mapping[int, tuple[str, _Writer]]:
    return {field.number: (field.name, _writer(field)) for field in descriptor.fields}


def _writer(field: FieldDescriptor) -> _Writer:
    write = _value_writer(field)
    if not field.is_repeated:
        return write
    return lambda values: [write(value) for value in values]


def _value_writer(field: FieldDescriptor) -> _Writer:
    if field.enum_type is not None:
        names = {number: value.name for number, value in field.enum_type.values_by_number.items()}
        return names.__getitem__
    if field.message_type is not None:
        return _MESSAGES.get(field.message_type.full_name, _object)
    return _number if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE else _as_is


def _as_is(value: object) -> object:
    return value


def _number(value: float) -> float:
    return int(value) if value.is_integer() and abs(value) <= MAX_INTEGER else value


def _struct(struct: Struct) -> dict[str, object]:
    return {key: _value(struct.fields[key]) for key in sorted(struct.fields)}


def _list(values: ListValue) -> list[object]:
    return [_value(value) for value in values.values]


def _value(value: Value) -> object:
    match value.WhichOneof("kind"):
        case "number_value":
            return _number(value.number_value)
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return _struct(value.struct_value)
        case "list_value":
            return _list(value.list_value)
        case _:
            return None


_MESSAGES: Mapping[str, _Writer] = {
    Struct.DESCRIPTOR.full_name: _struct,
    Timestamp.DESCRIPTOR.full_name: Timestamp.ToJsonString,
}
