"""Reads requests, once it is known that reading them cannot take long.

What a map costs to read grows faster than its size, and every field has its price, whatever
becomes of it. So a request is weighed before: as a whole, and of one that publishes much also
its fields, one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message

from signalpost.domain.errors import Reason, RequestInvalid, Violation
from signalpost.domain.event import MAX_EVENTS
from signalpost.v1.event_service_pb2 import PublishRequest, PublishStreamRequest

MAX_PUBLISH_BYTES: Final = 4 * 1024 * 1024
"""Largest request that publishes; that of the transport is larger, so that we can say so."""

MAX_EVENT_BYTES: Final = 1024 * 1024
"""Largest event; its webhook body is bound to much less."""

MAX_REQUEST_BYTES: Final = 512 * 1024
"""Largest request of any other kind."""

_PUBLISHING: Final = (PublishRequest.DESCRIPTOR, PublishStreamRequest.DESCRIPTOR)
_EVENTS: Final = PublishRequest.DESCRIPTOR.fields_by_name["events"].number
_MOST_FIELDS: Final = 2 * MAX_EVENTS

_Request = TypeVar("_Request", bound=Message)


def parse(kind: type[_Request], data: bytes) -> _Request:
    """Read a request. Raises RequestInvalid."""
    limit = MAX_PUBLISH_BYTES if kind.DESCRIPTOR in _PUBLISHING else MAX_REQUEST_BYTES
    if len(data) > limit:
        raise _too_large("", "the request", len(data), limit)
    if len(data) > MAX_EVENT_BYTES:
        _weigh_events(data)
    try:
        return kind.FromString(data)
    except DecodeError:
        description = "the request is not a valid protobuf message of its type"
        raise RequestInvalid([Violation("", Reason.FIELD_INVALID, description)]) from None


def _weigh_events(data: bytes) -> None:
    """Refuse a request with an event that is too large, or with too many fields."""
    events = 0
    for count, (number, size) in enumerate(_fields(data)):
        if count == _MOST_FIELDS:
            description = f"the request has more than {_MOST_FIELDS} fields"
            raise RequestInvalid([Violation("", Reason.FIELD_INVALID, description)])
        if number == _EVENTS:
            if size > MAX_EVENT_BYTES:
                raise _too_large(f"events[{events}]", "the event", size, MAX_EVENT_BYTES)
            events += 1


def _fields(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield number and size of each field, to the end or to the first that is none.

    Of a group, which has no size of its own, all that is in it follows.
    """
    at, end = 0, len(data)
    try:
        while at < end:
            tag, at = _varint(data, at)
            match tag & 7:
                case 0:  # a number
                    start = at
                    _, at = _varint(data, at)
                    size = at - start
                case 1:
                    size = 8
                    at += size
                case 2:  # its size comes first
                    size, at = _varint(data, at)
                    at += size
                case 3 | 4:  # a group begins or ends
                    size = 0
                case 5:
                    size = 4
                    at += size
                case _:
                    return
            yield tag >> 3, size
    except IndexError:
        return


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a number; return it with where it ends. Raises IndexError."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError


def _too_large(path: str, what: str, size: int, limit: int) -> RequestInvalid:
    metadata = {"sizeBytes": str(size), "limitBytes": str(limit)}
    description = f"{what} has {size} bytes, {limit} at most"
    return RequestInvalid([Violation(path, Reason.TOO_LARGE, description, metadata)])
