"""EventService: takes events in, shows them and streams them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from signalpost.api import status
from signalpost.api.aside import Aside
from signalpost.api.boundary import Call, Received, Respond
from signalpost.api.checks import check, demand
from signalpost.api.convert_events import (
    event_draft,
    event_drafts,
    event_filter,
    listed_tenant,
)
from signalpost.api.convert_times import moment
from signalpost.api.event_streams import EventStreams
from signalpost.api.findings import MAX_VIOLATIONS
from signalpost.api.intake import SMALL_BYTES, Intake
from signalpost.api.paging import MAX_RESPONSE_BYTES, Pager, fitting
from signalpost.api.pipeline import Pipeline
from signalpost.api.rendering import event_from
from signalpost.domain.errors import RequestInvalid, SignalpostError, Violation
from signalpost.domain.event import EventDraft, UnsoundEvent
from signalpost.domain.ids import EventId, TenantId
from signalpost.ports import EventQuery, EventStore
from signalpost.publishing.publish import Published, Publisher
from signalpost.v1.event_service_pb2 import (
    GetEventRequest,
    GetEventResponse,
    ListEventsRequest,
    ListEventsResponse,
    PublishRequest,
    PublishResponse,
    PublishResult,
    PublishStreamRequest,
    PublishStreamResponse,
    WatchEventsRequest,
    WatchEventsResponse,
)

_ACCEPTED: Final = PublishResult.Outcome.ACCEPTED
_DUPLICATE: Final = PublishResult.Outcome.DUPLICATE

_BYTES_BESIDE_VIOLATIONS: Final = 1536
"""What an error has at most besides its violations."""


class EventServicer:
    """Publishes, gets, lists and streams events."""

    def __init__(
        self,
        publisher: Publisher,
        *,
        events: EventStore,
        streams: EventStreams,
        pager: Pager,
        intake: Intake,
    ) -> None:
        self._publisher = publisher
        self._events = events
        self._streams = streams
        self._pager = pager
        self._intake = intake
        self._aside = Aside()

    async def Publish(self, request: PublishRequest, call: Call) -> PublishResponse:
        """Store all events of the request, or none."""
        traceparent = call.traceparent()
        drafts, found = await self._aside.do(
            lambda: _drafts(request, traceparent=traceparent), size=request.ByteSize()
        )
        published = await self._publisher.publish(
            drafts, found=found, validate_only=request.validate_only
        )
        return PublishResponse(results=[_result(one) for one in published])

    async def PublishStream(
        self,
        requests: AsyncIterator[Received[PublishStreamRequest]],
        respond: Respond[PublishStreamResponse],
        call: Call,
    ) -> None:
        """Store the events of each request, one by one, and answer in order."""
        traceparent = call.traceparent()
        turn = asyncio.Lock()

        async def answer(received: Received[PublishStreamRequest]) -> PublishStreamResponse:
            size = received.size
            async with AsyncExitStack() as work:
                async with turn:  # None may overtake a large one.
                    if size > SMALL_BYTES:
                        await work.enter_async_context(self._intake.work(size, bounded=True))
                    request = received.parse()
                    drafts = await self._aside.do(
                        lambda: _drafts_apart(request, traceparent=traceparent), size=size
                    )
                results = await self._publisher.publish_each(drafts)
            return PublishStreamResponse(items=_items(results))

        await Pipeline(answer, respond, streamed=self._intake.streamed).run(requests)

    async def GetEvent(self, request: GetEventRequest, _: Call) -> GetEventResponse:
        """Show an event."""
        demand(request)
        tenant_id, event_id = TenantId(request.tenant_id), EventId(request.event_id)
        event = await self._events.get_event(tenant_id, event_id)
        return GetEventResponse(event=event_from(event))

    async def ListEvents(self, request: ListEventsRequest, _: Call) -> ListEventsResponse:
        """Show a page of events."""
        demand(request)
        query = EventQuery(
            tenant_id=listed_tenant(request.tenant_id),
            filter=event_filter(request.filter),
            start=moment(request, "start_time"),
            end=moment(request, "end_time"),
        )

        shown, next_after = await fitting(
            self._pager.page(request), partial(self._events.list_events, query), event_from
        )
        token = self._pager.token(request, next_after)
        return ListEventsResponse(events=shown, next_page_token=token)

    async def WatchEvents(
        self, request: WatchEventsRequest, respond: Respond[WatchEventsResponse], _: Call
    ) -> None:
        """Send events as they are stored."""
        demand(request)
        await self._streams.run(request, respond)


def _drafts(
    request: PublishRequest, *, traceparent: str
) -> tuple[list[EventDraft | UnsoundEvent], list[Violation]]:
    """Make drafts of events, with what is wrong with them. Raises RequestInvalid."""
    found = check(request)
    if _unreadable(found):
        raise RequestInvalid(found)
    return event_drafts(request, found=found, traceparent=traceparent), found


def _drafts_apart(
    request: PublishStreamRequest, *, traceparent: str
) -> list[EventDraft | UnsoundEvent]:
    """Make drafts of events, each of them or what is wrong with it. Raises RequestInvalid."""
    demand(request)
    return [event_draft(one, traceparent=traceparent) for one in request.events]


def _unreadable(found: Sequence[Violation]) -> bool:
    """Tell whether events were left unchecked, so that nothing more can be said of them."""
    return len(found) >= MAX_VIOLATIONS or any(one.field in ("", "events") for one in found)


def _items(
    results: Sequence[Published | SignalpostError],
) -> list[PublishStreamResponse.Item]:
    # So many long errors that no client would take them are cut short.
    most_bytes = MAX_RESPONSE_BYTES // len(results) - _BYTES_BESIDE_VIOLATIONS
    return [
        PublishStreamResponse.Item(error=status.publish_error(one, most_bytes=most_bytes))
        if isinstance(one, SignalpostError)
        else PublishStreamResponse.Item(result=_result(one))
        for one in results
    ]


def _result(published: Published) -> PublishResult:
    return PublishResult(
        event_id=published.event_id,
        outcome=_DUPLICATE if published.duplicate else _ACCEPTED,
        delivery_count=published.delivery_count,
        webhook_body=published.webhook_body.decode(),
    )
