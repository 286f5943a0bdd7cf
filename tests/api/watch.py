"""A client that follows the log of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from signalpost.v1.event_service_pb2 import WatchEventsRequest, WatchEventsResponse
from tests.api.service import Service


class Follower:
    """Reads one stream; keeps the events it got, and the last cursor."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.events: list[str] = []
        self.cursor = ""

    async def read(self) -> WatchEventsResponse:
        response = await self.call.read()
        assert isinstance(response, WatchEventsResponse), "the stream ended"
        self.events += [event.event_id for event in response.events]
        self.cursor = response.cursor
        return response

    async def until(self, count: int) -> list[str]:
        """Read until there were so many events; return their IDs."""
        while len(self.events) < count:
            await self.read()
        return self.events


async def first(service: Service, request: WatchEventsRequest) -> WatchEventsResponse:
    """Return the first response of a stream, and end that."""
    call = service.events.WatchEvents(request)
    response = await Follower(call).read()
    call.cancel()
    return response


async def eventually(condition: Callable[[], object]) -> None:
    """Return once something holds that nobody tells of."""
    while not condition():  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0.001)


@asynccontextmanager
async def following(service: Service, **request: Any) -> AsyncIterator[Follower]:
    """Follow the log; what happens from now on comes."""
    follower = Follower(service.events.WatchEvents(WatchEventsRequest(**request)))
    await follower.read()
    try:
        yield follower
    finally:
        follower.call.cancel()
