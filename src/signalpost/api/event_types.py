"""EventTypeService: the catalogue."""

from __future__ import annotations

from typing import Final

from signalpost.api.boundary import Call
from signalpost.api.checks import check, demand
from signalpost.api.convert_event_types import event_type_draft, event_type_message
from signalpost.api.findings import MAX_VIOLATIONS
from signalpost.api.masks import chosen, mask_violations, merged
from signalpost.api.paging import Pager, fitting
from signalpost.domain.errors import RequestInvalid, Violation
from signalpost.domain.event_type import EventType
from signalpost.ports import Page, PageRequest
from signalpost.publishing.catalogue import Catalogue
from signalpost.publishing.event_types import EventTypes
from signalpost.v1.event_type_service_pb2 import (
    CreateEventTypeRequest,
    CreateEventTypeResponse,
    DeleteEventTypeRequest,
    DeleteEventTypeResponse,
    GetEventTypeRequest,
    GetEventTypeResponse,
    ListEventTypesRequest,
    ListEventTypesResponse,
    UpdateEventTypeRequest,
    UpdateEventTypeResponse,
)

_UNCHANGED: Final = frozenset({"name", "builtin", "create_time", "update_time", "etag"})
"""Fields that no update changes: the identifier, and what is output only."""


class EventTypeServicer:
    """Registers, gets, lists, changes and deletes event types."""

    def __init__(self, event_types: EventTypes, *, catalogue: Catalogue, pager: Pager) -> None:
        self._event_types = event_types
        self._catalogue = catalogue
        self._pager = pager

    async def CreateEventType(
        self, request: CreateEventTypeRequest, _: Call
    ) -> CreateEventTypeResponse:
        """Register an event type."""
        found = check(request)
        if len(found) >= MAX_VIOLATIONS or any(map(_is_unreadable, found)):
            raise RequestInvalid(found)
        made = await self._event_types.create(
            event_type_draft(request.event_type), found=found, validate_only=request.validate_only
        )
        return CreateEventTypeResponse(event_type=event_type_message(made))

    async def GetEventType(self, request: GetEventTypeRequest, _: Call) -> GetEventTypeResponse:
        """Show an event type."""
        demand(request)
        return GetEventTypeResponse(
            event_type=event_type_message(self._catalogue.get(request.name))
        )

    async def ListEventTypes(
        self, request: ListEventTypesRequest, _: Call
    ) -> ListEventTypesResponse:
        """Show a page of event types."""
        demand(request)

        async def fetch(page: PageRequest) -> Page[EventType]:
            return self._catalogue.page(page)

        shown, next_after = await fitting(self._pager.page(request), fetch, event_type_message)
        token = self._pager.token(request, next_after)
        return ListEventTypesResponse(event_types=shown, next_page_token=token)

    async def UpdateEventType(
        self, request: UpdateEventTypeRequest, _: Call
    ) -> UpdateEventTypeResponse:
        """Change the fields of the mask."""
        given = request.event_type
        if found := [*check(request), *mask_violations(given, request.update_mask)]:
            raise RequestInvalid(found)
        mask = chosen(given, request.update_mask, ignored=_UNCHANGED)

        def draw(former: EventType) -> EventType:
            drawn = merged(event_type_message(former), given, mask)
            return event_type_draft(drawn, former=former)

        changed = await self._event_types.update(
            given.name, draw, etag=given.etag or None, validate_only=request.validate_only
        )
        return UpdateEventTypeResponse(event_type=event_type_message(changed))

    async def DeleteEventType(
        self, request: DeleteEventTypeRequest, _: Call
    ) -> DeleteEventTypeResponse:
        """Delete an event type."""
        demand(request)
        await self._event_types.delete(
            request.name, etag=request.etag or None, allow_missing=request.allow_missing
        )
        return DeleteEventTypeResponse()


def _is_unreadable(violation: Violation) -> bool:
    """Tell whether a violation of the shape keeps an event type from being looked at further."""
    parts = ("event_type.schema", "event_type.example")
    return violation.field in {"", "event_type"} or violation.field.startswith(parts)
