"""EventService: takes events in and shows them."""

from __future__ import annotations

from collections.abc import Sequence

from signalpost.api.boundary import Context
from signalpost.api.checks import check, demand
from signalpost.api.constraints import TRACEPARENT
from signalpost.api.convert_events import event_drafts, event_filter, listed_tenant
from signalpost.api.convert_times import moment
from signalpost.api.findings import MAX_VIOLATIONS
from signalpost.api.paging import Pager, fitting
from signalpost.api.rendering import event_from
from signalpost.domain.errors import RequestInvalid, Violation
from signalpost.domain.ids import EventId, TenantId
from signalpost.ports import EventQuery, EventStore, PageRequest
from signalpost.publishing.publish import Published, Publisher
from signalpost.v1.event_service_pb2 import (
    GetEventRequest,
    GetEventResponse,
    ListEventsRequest,
    ListEventsResponse,
    PublishRequest,
    PublishResponse,
    PublishResult,
)


class EventServicer:
    """Publishes, gets and lists events."""

    def __init__(self, publisher: Publisher, *, events: EventStore, pager: Pager) -> None:
        self._publisher = publisher
        self._events = events
        self._pager = pager

    async def Publish(self, request: PublishRequest, context: Context) -> PublishResponse:
        """Store all events of the request, or none."""
        found = check(request)
        if _unreadable(found):
            raise RequestInvalid(found)
        drafts = event_drafts(request, found=found, traceparent=_traceparent(context))
        published = await self._publisher.publish(
            drafts, found=found, validate_only=request.validate_only
        )
        return PublishResponse(results=[_result(one) for one in published])

    async def GetEvent(self, request: GetEventRequest, _: Context) -> GetEventResponse:
        """Show an event."""
        demand(request)
        tenant_id, event_id = TenantId(request.tenant_id), EventId(request.event_id)
        event = await self._events.get_event(tenant_id, event_id)
        return GetEventResponse(event=event_from(event))

    async def ListEvents(self, request: ListEventsRequest, _: Context) -> ListEventsResponse:
        """Show a page of events."""
        demand(request)
        query = EventQuery(
            tenant_id=listed_tenant(request.tenant_id),
            filter=event_filter(request.filter),
            start=moment(request, "start_time"),
            end=moment(request, "end_time"),
        )

        async def answer(asked: PageRequest) -> ListEventsResponse:
            page = await self._events.list_events(query, asked)
            return ListEventsResponse(
                events=[event_from(one) for one in page.items],
                next_page_token=self._pager.token(request, page.next_after),
            )

        return await fitting(self._pager.page(request), answer)


def _unreadable(found: Sequence[Violation]) -> bool:
    """Tell whether events were left unchecked, so that nothing more can be said of them."""
    return len(found) >= MAX_VIOLATIONS or any(one.field == "events" for one in found)


def _traceparent(context: Context) -> str:
    """Return the one of the call, empty if it has none or a malformed one."""
    value = dict(context.invocation_metadata() or ()).get("traceparent", "")
    return value if isinstance(value, str) and TRACEPARENT(value) is None else ""


def _result(published: Published) -> PublishResult:
    duplicate, accepted = PublishResult.Outcome.DUPLICATE, PublishResult.Outcome.ACCEPTED
    return PublishResult(
        event_id=published.event_id,
        outcome=duplicate if published.duplicate else accepted,
        delivery_count=published.delivery_count,
        webhook_body=published.webhook_body.decode(),
    )
