"""Events, and the body of the webhook they become."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

import orjson

from signalpost.domain.errors import Violation
from signalpost.domain.ids import EventId, TenantId

MAX_BODY_BYTES = 256 * 1024
"""Largest webhook body that is accepted."""

MAX_EVENTS = 1000
"""Most events in one request."""


@dataclass(frozen=True, slots=True)
class Resource:
    """What an event is about."""

    type: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDraft:
    """An event as its publisher sent it, checked for shape.

    `event_type` is the wire name, `timestamp` RFC 3339 text in UTC or None if the
    publisher left it to the server, `payload` a JSON object as it will be sent.
    """

    event_id: EventId | None
    tenant_id: TenantId
    event_type: str
    resource: Resource
    timestamp: str | None
    payload: bytes
    traceparent: str


@dataclass(frozen=True, slots=True)
class UnsoundEvent:
    """An event that is refused for its shape.

    `event_type` is its wire name, empty if that cannot be told; there may be more wrong with it.
    `violations` are what is wrong with the shape, unless that is told elsewhere.
    """

    event_type: str
    violations: tuple[Violation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event that is, or is about to be, stored.

    `body` is the webhook body: the one copy of its timestamp and payload.
    `digest` tells whether another event has the same content.
    """

    event_id: EventId
    tenant_id: TenantId
    event_type: str
    resource: Resource
    body: bytes
    digest: bytes
    traceparent: str
    publish_time: datetime


def render_body(
    event_id: EventId, event_type: str, *, timestamp: str, resource: Resource, payload: bytes
) -> bytes:
    """Write the webhook body: five keys in fixed order, compact UTF-8 JSON."""
    head = orjson.dumps(
        {
            "event_id": event_id,
            "event_type": event_type,
            "timestamp": timestamp,
            "resource": {"type": resource.type, "id": resource.id},
        }
    )
    return head[:-1] + b',"payload":' + payload + b"}"


def content_digest(draft: EventDraft) -> bytes:
    """Return the SHA-256 (32 bytes) of what the publisher set: two events with the same are equal.

    The event's ID, its `traceparent` and what the server fills in do not count.
    """
    head = orjson.dumps([draft.event_type, draft.resource.type, draft.resource.id, draft.timestamp])
    return hashlib.sha256(head + draft.payload).digest()


def complete(
    draft: EventDraft, *, event_id: EventId, now: datetime, wall: datetime | None = None
) -> Event:
    """Make the event that is stored from what the publisher sent; `now` is the time of receipt.

    `wall` is what the wall clock says, where that may differ: receivers compare an event's
    `timestamp` with their own.
    """
    return Event(
        event_id=event_id,
        tenant_id=draft.tenant_id,
        event_type=draft.event_type,
        resource=draft.resource,
        body=render_body(
            event_id,
            draft.event_type,
            timestamp=draft.timestamp or rfc3339(wall or now),
            resource=draft.resource,
            payload=draft.payload,
        ),
        digest=content_digest(draft),
        traceparent=draft.traceparent,
        publish_time=now,
    )


def rfc3339(moment: datetime) -> str:
    """Write an aware UTC time as RFC 3339 with `Z`, in milliseconds or, if it has them, micro."""
    unit = "milliseconds" if moment.microsecond % 1000 == 0 else "microseconds"
    return moment.isoformat(timespec=unit).replace("+00:00", "Z")
