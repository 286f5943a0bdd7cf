"""The log of events from the real service: over kills, in bounded memory, until it stops."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from signalpost.v1.event_pb2 import Event
from signalpost.v1.event_service_pb2 import (
    GetEventRequest,
    WatchEventsRequest,
    WatchEventsResponse,
)
from signalpost.v1.event_service_pb2_grpc import EventServiceStub
from tests.e2e.service import Service, connected
from tests.e2e.test_publish_stream import resident_bytes, stored

if TYPE_CHECKING:
    from signalpost.v1.event_service_pb2_grpc import EventServiceAsyncStub

EVENTS = int(os.environ.get("SIGNALPOST_TEST_WATCHED_EVENTS", "6000"))
"""How many events lie before clients that do not read. Raise it before a release."""

STUCK = 20
MOST_GROWTH_BYTES = 64 * 1024 * 1024
KILLS = 3
PUBLISHERS = 4


class Follower:
    """Reads the log, over any number of streams, by its cursor."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.cursor = ""

    async def follow(self, events: EventServiceAsyncStub, *, count: int) -> None:
        """Read until so many events were seen in all, or the stream breaks."""
        request = WatchEventsRequest(cursor=self.cursor)
        if not self.cursor:
            request.start_time.seconds = 1
        call = events.WatchEvents(request)
        while len(self.seen) < count:
            response = await call.read()
            assert isinstance(response, WatchEventsResponse)
            self.seen += [event.event_id for event in response.events]
            self.cursor = response.cursor
        call.cancel()


async def publish_until_dead(service: Service, name: str, acknowledged: list[str]) -> None:
    number = 0
    while True:
        number += 1
        try:
            [result] = await service.publish(connected(f"{name}-{number}"))
        except (grpc.aio.AioRpcError, asyncio.CancelledError):
            return  # Calls are cancelled if the channel is closed before they hear of the kill.
        acknowledged.append(result.event_id)


async def test_a_follower_sees_every_event_once_and_in_order_over_kills(service: Service) -> None:
    follower, acknowledged = Follower(), list[str]()
    for run in range(KILLS):
        await service.start()
        publishers = [
            asyncio.create_task(publish_until_dead(service, f"e{run}-{name}", acknowledged))
            for name in range(PUBLISHERS)
        ]
        await follower.follow(service.events, count=len(follower.seen) + 150)
        await service.kill()
        await asyncio.gather(*publishers)
    await service.start()
    in_order = await stored(service)
    await follower.follow(service.events, count=len(in_order))
    assert follower.seen == in_order
    assert set(acknowledged) <= set(in_order)


def large(number: int) -> Event:
    event = connected(f"e{number}")
    event.account_connected.user_id = "u" * 2000
    return event


async def publish_large(service: Service, first: int, last: int) -> None:
    for start in range(first, last, 200):
        await service.publish(*map(large, range(start, min(start + 200, last))))


@asynccontextmanager
async def own_connection(service: Service) -> AsyncIterator[EventServiceAsyncStub]:
    """A connection whose windows no other stream takes up."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(service.address, options=options) as channel:
        stub: EventServiceAsyncStub = EventServiceStub(channel)
        yield stub


async def test_clients_that_do_not_read_cost_little_and_miss_nothing(service: Service) -> None:
    await service.start()
    await publish_large(service, 0, 200)
    warm = Follower()
    await warm.follow(service.events, count=200)
    before = resident_bytes(service)
    async with own_connection(service) as events, own_connection(service) as others:
        start = Timestamp(seconds=1)
        stuck = [others.WatchEvents(WatchEventsRequest(start_time=start)) for _ in range(STUCK)]
        for call in stuck:
            await call.wait_for_connection()
        await publish_large(service, 200, EVENTS)
        await warm.follow(events, count=EVENTS)
        assert warm.seen == [f"e{number}" for number in range(EVENTS)]
        assert resident_bytes(service) - before < MOST_GROWTH_BYTES
        await service.events.GetEvent(GetEventRequest(event_id="e0"))
        first, *rest = stuck
        for call in rest:
            call.cancel()
        late = 0
        while late < EVENTS:
            response = await first.read()
            assert isinstance(response, WatchEventsResponse)
            for event in response.events:
                assert event.event_id == f"e{late}"
                late += 1
    assert await service.stop() == 0


async def read_to_the_end(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


async def test_a_service_that_stops_ends_streams_also_those_that_nobody_reads(
    service: Service,
) -> None:
    await service.start()
    await publish_large(service, 0, 2000)
    async with own_connection(service) as events, own_connection(service) as others:
        stuck = others.WatchEvents(WatchEventsRequest(start_time=Timestamp(seconds=1)))
        await stuck.wait_for_connection()
        idle = events.WatchEvents(WatchEventsRequest())
        await idle.read()
        stopping = asyncio.create_task(service.stop())
        for call in (idle, stuck):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await read_to_the_end(call)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await stopping == 0
    assert not [line for line in service.log if "call failed" in line]
