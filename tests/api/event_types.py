"""An event type, and the calls of its service."""

from typing import Any

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from signalpost.v1.event_type_service_pb2 import (
    CreateEventTypeRequest,
    DeleteEventTypeRequest,
    EventType,
    GetEventTypeRequest,
    ListEventTypesRequest,
    UpdateEventTypeRequest,
)
from tests.api.service import Service

INVALID = grpc.StatusCode.INVALID_ARGUMENT
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
NAME = "billing.invoice_paid"


def struct(**values: Any) -> Struct:
    return ParseDict(values, Struct())


SCHEMA = struct(type="object", required=["amount"], properties={"amount": {"type": "integer"}})
EXAMPLE = struct(amount=42)


def full() -> dict[str, Any]:
    """Return every field that a caller may set but the name."""
    return {
        "resource_type": "invoice",
        "description": "An invoice was paid.",
        "schema": SCHEMA,
        "example": EXAMPLE,
        "deprecated": True,
    }


async def create(service: Service, *, validate_only: bool = False, **fields: Any) -> EventType:
    event_type = EventType(**({"name": NAME} | fields))
    request = CreateEventTypeRequest(event_type=event_type, validate_only=validate_only)
    return (await service.event_types.CreateEventType(request)).event_type


async def get(service: Service, name: str = NAME) -> EventType:
    return (await service.event_types.GetEventType(GetEventTypeRequest(name=name))).event_type


async def update(
    service: Service, *paths: str, validate_only: bool = False, **fields: Any
) -> EventType:
    request = UpdateEventTypeRequest(
        event_type=EventType(**({"name": NAME} | fields)),
        update_mask=FieldMask(paths=paths),
        validate_only=validate_only,
    )
    return (await service.event_types.UpdateEventType(request)).event_type


async def delete(service: Service, name: str = NAME, **fields: Any) -> None:
    await service.event_types.DeleteEventType(DeleteEventTypeRequest(name=name, **fields))


async def names(service: Service) -> list[str]:
    response = await service.event_types.ListEventTypes(ListEventTypesRequest(page_size=1000))
    return [one.name for one in response.event_types]
