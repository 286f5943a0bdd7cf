"""Follows the log of events for one client."""

from __future__ import annotations

from signalpost.api.boundary import Respond
from signalpost.api.convert_events import event_filter, listed_tenant
from signalpost.api.convert_times import moment
from signalpost.api.paging import Pager
from signalpost.api.rendering import event_from
from signalpost.api.watching import PAGE_BYTES, PAGE_EVENTS, Pulse, Watchers, shown
from signalpost.domain.errors import CursorExpired
from signalpost.ports.watching import EventLog, LogPage, LogPosition, LogPruned, LogQuery
from signalpost.v1.event_service_pb2 import WatchEventsRequest, WatchEventsResponse


class EventStreams:
    """Streams of events, out of one log."""

    def __init__(self, log: EventLog, *, watchers: Watchers, pager: Pager) -> None:
        self._log = log
        self._watchers = watchers
        self._pager = pager

    async def run(self, request: WatchEventsRequest, respond: Respond[WatchEventsResponse]) -> None:
        """Send what a checked request asks for, until cancelled.

        Raises RequestInvalid, CursorExpired, QuotaExceeded.
        """
        query = LogQuery(
            tenant_id=listed_tenant(request.tenant_id), filter=event_filter(request.filter)
        )
        with self._watchers.join(request.tenant_id), self._log.log_hints() as hint:
            position, more = await self._begin(request), True
            pulse = Pulse(self._watchers.keep_alive)
            while True:
                hint.clear()
                async with self._watchers.turn:
                    page = await self._read(request, query, after=position)
                    stored = (one.event for one in page.events)
                    events = await shown(stored, event_from, size=lambda event: len(event.body))
                position, more = page.position, page.more
                # Popped, for the client may take its time, and nothing else may hold it then.
                del page, stored
                if events or pulse.is_due:
                    responses = [WatchEventsResponse(events=events)]
                    responses[0].cursor = self._pager.cursor(request, position)
                    del events
                    await respond(responses.pop())
                    pulse.beat()
                if not more:
                    await pulse.wait(hint.wait)

    async def _begin(self, request: WatchEventsRequest) -> LogPosition:
        if request.cursor:
            return self._pager.log_position(request)
        start = moment(request, "start_time")
        return await (self._log.log_end() if start is None else self._log.log_from(start))

    async def _read(
        self, request: WatchEventsRequest, query: LogQuery, *, after: LogPosition
    ) -> LogPage:
        try:
            return await self._log.read_log(
                query, after=after, limit=PAGE_EVENTS, max_bytes=PAGE_BYTES
            )
        except LogPruned as pruned:
            raise CursorExpired(self._pager.cursor(request, pruned.oldest)) from None
