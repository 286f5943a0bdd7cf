"""Event types between the contract and the domain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from google.protobuf.struct_pb2 import Struct

from signalpost.api.convert_times import timestamp
from signalpost.api.examples import example
from signalpost.api.rendering import render, struct_from
from signalpost.domain.catalogue import DESCRIPTIONS, RESOURCE_TYPES
from signalpost.domain.event_type import EventType
from signalpost.v1.event_type_service_pb2 import EventType as EventTypeMessage

_DAY_OF_EXAMPLES: Final = datetime(2026, 3, 5, 12, tzinfo=UTC)


def builtin_event_types() -> Mapping[str, EventType]:
    """Return the event types of the contract by name, each with an example of its payload."""
    return {
        name: EventType(
            name=name,
            resource_type=resource_type,
            description=DESCRIPTIONS[name],
            example=_example(name),
            builtin=True,
        )
        for name, resource_type in RESOURCE_TYPES.items()
    }


def _example(name: str) -> bytes | None:
    event = example(name, now=_DAY_OF_EXAMPLES)
    return None if event is None else render(getattr(event, name.replace(".", "_", 1)))


def event_type_draft(message: EventTypeMessage, *, former: EventType | None = None) -> EventType:
    """Make an event type of a checked message; what callers cannot set is that of `former`."""
    return replace(
        former or EventType(name=message.name),
        resource_type=message.resource_type,
        description=message.description,
        schema=render(message.schema) if message.HasField("schema") else None,
        example=render(message.example) if message.HasField("example") else None,
        deprecated=message.deprecated,
    )


def event_type_message(event_type: EventType) -> EventTypeMessage:
    """Show an event type; a built-in one has no etag, for nothing changes it."""
    return EventTypeMessage(
        name=event_type.name,
        resource_type=event_type.resource_type,
        description=event_type.description,
        schema=_struct(event_type.schema),
        example=_struct(event_type.example),
        deprecated=event_type.deprecated,
        builtin=event_type.builtin,
        create_time=timestamp(event_type.create_time),
        update_time=timestamp(event_type.update_time),
        etag="" if event_type.builtin else event_type.etag,
    )


def _struct(text: bytes | None) -> Struct | None:
    return None if text is None else struct_from(text)
