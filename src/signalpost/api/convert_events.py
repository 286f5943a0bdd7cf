"""Events and filters between the contract and the domain."""

from __future__ import annotations

import re
from dataclasses import replace

from signalpost.api.checks import check
from signalpost.api.constraints import WIRE_NAME
from signalpost.api.rendering import PAYLOADS, render
from signalpost.domain.catalogue import RESOURCE_TYPES
from signalpost.domain.errors import Reason, Violation
from signalpost.domain.event import EventDraft, Resource, UnsoundEvent
from signalpost.domain.filter import EventFilter
from signalpost.domain.ids import EventId, TenantId
from signalpost.v1.event_pb2 import Event
from signalpost.v1.event_pb2 import EventFilter as EventFilterMessage
from signalpost.v1.event_service_pb2 import PublishRequest
from signalpost.v1.payloads_pb2 import Custom

ALL_TENANTS = "-"

_TYPE_NAMES = {number: name for name, number in Event.Type.items() if number}

_PLACE = re.compile(r"events\[(\d+)\]")


def event_drafts(
    request: PublishRequest, *, found: list[Violation], traceparent: str
) -> list[EventDraft | UnsoundEvent]:
    """Make the drafts of a request whose shape was checked, and of which `found` tells.

    What contradicts within an event is added to `found`. `traceparent` holds for events that
    have none.
    """
    places = (_PLACE.match(violation.field) for violation in found)
    spoiled = {int(place[1]) for place in places if place}
    drafts: list[EventDraft | UnsoundEvent] = []
    for index, event in enumerate(request.events):
        violation = _mismatch(event)
        if violation is not None:
            violation = replace(violation, field=f"events[{index}].{violation.field}")
            found.append(violation)
            drafts.append(UnsoundEvent(""))
        elif index in spoiled:
            drafts.append(UnsoundEvent(_sound_type(event)))
        else:
            drafts.append(_event_draft(event, traceparent=traceparent))
    return drafts


def event_draft(event: Event, *, traceparent: str) -> EventDraft | UnsoundEvent:
    """Make the draft of an unchecked event, or say all that is wrong with its shape."""
    found = check(event)
    if violation := _mismatch(event):
        return UnsoundEvent("", (*found, violation))
    if found:
        return UnsoundEvent(_sound_type(event), tuple(found))
    return _event_draft(event, traceparent=traceparent)


def _mismatch(event: Event) -> Violation | None:
    """Say where the type of an event contradicts its payload, if both are known."""
    member = event.WhichOneof("payload")
    if member is None:
        return None
    name = _TYPE_NAMES.get(event.event_type)
    if name and event.event_type != PAYLOADS[member]:
        description = f"is {name}, but the payload is {member}"
        return Violation("event_type", Reason.EVENT_TYPE_MISMATCH, description)
    if member == "custom" and event.custom.name in RESOURCE_TYPES:
        description = "is a built-in type, which has a payload of its own"
        return Violation("custom.name", Reason.EVENT_TYPE_MISMATCH, description)
    return None


def _sound_type(event: Event) -> str:
    """Return the wire name of an event's type, empty if it has none."""
    member = event.WhichOneof("payload") or ""
    if member == "custom":
        return "" if WIRE_NAME(event.custom.name) else event.custom.name
    return member.replace("_", ".", 1)


def _event_draft(event: Event, *, traceparent: str) -> EventDraft:
    member = event.WhichOneof("payload") or ""
    payload = getattr(event, member)
    if isinstance(payload, Custom):
        event_type, payload = payload.name, payload.data
    else:
        event_type = member.replace("_", ".", 1)
    resource = event.resource
    resource_type = resource.type or RESOURCE_TYPES.get(event_type, "")
    return EventDraft(
        event_id=EventId(event.event_id) if event.event_id else None,
        tenant_id=TenantId(event.tenant_id),
        event_type=event_type,
        resource=Resource(resource_type, resource.id),
        timestamp=event.timestamp.ToJsonString() if event.HasField("timestamp") else None,
        payload=render(payload),
        traceparent=event.traceparent or traceparent,
    )


def event_filter(message: EventFilterMessage) -> EventFilter:
    """Make the filter of a checked request."""
    return EventFilter(
        event_types=frozenset(message.event_types),
        resource_types=frozenset(message.resource_types),
        resource_ids=frozenset(message.resource_ids),
    )


def filter_message(chosen: EventFilter) -> EventFilterMessage:
    """Show a filter, its values sorted."""
    return EventFilterMessage(
        event_types=sorted(chosen.event_types),
        resource_types=sorted(chosen.resource_types),
        resource_ids=sorted(chosen.resource_ids),
    )


def listed_tenant(text: str) -> TenantId | None:
    """Return the tenant a list is asked for, None for all of them."""
    return None if text == ALL_TENANTS else TenantId(text)
