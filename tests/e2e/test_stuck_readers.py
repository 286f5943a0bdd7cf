"""Clients that open streams and never read, and calls that wait: memory, others, and the end."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from signalpost.v1.delivery_service_pb2 import (
    ListDeliveriesRequest,
    ReplayDeliveriesRequest,
    WatchDeliveriesRequest,
)
from signalpost.v1.delivery_service_pb2_grpc import DeliveryServiceStub
from signalpost.v1.event_service_pb2 import WatchEventsRequest
from signalpost.v1.event_service_pb2_grpc import EventServiceStub
from signalpost.v1.subscription_service_pb2 import PauseSubscriptionRequest
from tests.e2e.receiver import Receiver
from tests.e2e.service import Service, connected
from tests.e2e.test_publish_stream import resident_bytes
from tests.e2e.test_watch_events import read_to_the_end

EVENTS = int(os.environ.get("SIGNALPOST_TEST_STUCK_EVENTS", "2000"))
STUCK = int(os.environ.get("SIGNALPOST_TEST_STUCK_STREAMS", "40"))
"""What lies before how many streams that nobody reads. Raise them before a release."""

BATCH = 200
MISSED = 4000
MOST_GROWTH_BYTES = (96 + STUCK) * 1024 * 1024
"""What the service needs for its work, and for each stream."""


async def publish(service: Service, first: int, last: int) -> None:
    for start in range(first, last, BATCH):
        numbers = range(start, min(start + BATCH, last))
        events = [connected(f"e{number}") for number in numbers]
        for event in events:
            event.account_connected.user_id = "u" * 1000
        await service.publish(*events)


@asynccontextmanager
async def stuck_streams(service: Service) -> AsyncIterator[list[Any]]:
    """Streams of both kinds, each on a connection of its own, that are opened and never read."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(service.address, options=options) for _ in range(STUCK)]
    calls: list[Any] = []
    for number, channel in enumerate(channels):
        if number % 2:
            deliveries = DeliveryServiceStub(channel)
            calls.append(deliveries.WatchDeliveries(WatchDeliveriesRequest(tenant_id="-")))
        else:
            events = EventServiceStub(channel)
            calls.append(events.WatchEvents(WatchEventsRequest(start_time=Timestamp(seconds=1))))
    try:
        for call in calls:
            await call.wait_for_connection()
        yield calls
    finally:
        for channel in channels:
            await channel.close()


async def end_of(call: Any) -> grpc.StatusCode:
    """Read what was sent before a stream ended; return how it did."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read_to_the_end(call)
    return caught.value.code()


async def test_streams_that_nobody_reads_cost_little_and_hold_up_nothing(
    service: Service, receiver: Receiver
) -> None:
    await service.start()
    await service.subscribe(receiver.url())
    await publish(service, 0, BATCH)
    await receiver.until(lambda: len(receiver.requests) == BATCH)
    before = resident_bytes(service)
    async with stuck_streams(service) as calls:
        await publish(service, BATCH, EVENTS)
        await receiver.until(lambda: len(receiver.requests) >= EVENTS, seconds=300)
        growth = resident_bytes(service) - before
        assert not any(call.done() for call in calls)
        assert growth < MOST_GROWTH_BYTES
        assert await service.stop() == 0
        assert {await end_of(call) for call in calls} == {grpc.StatusCode.UNAVAILABLE}
    taken = Counter(request.event_id for request in receiver.requests)
    assert taken == dict.fromkeys((f"e{number}" for number in range(EVENTS)), 1)
    assert not [line for line in service.log if "call failed" in line]


async def test_a_service_that_stops_leaves_a_replay_that_is_waited_for_to_its_next_start(
    service: Service, receiver: Receiver
) -> None:
    await service.start()
    await publish(service, 0, MISSED)
    await service.subscribe(receiver.url(), subscription_id="s")
    await service.subscriptions.PauseSubscription(PauseSubscriptionRequest(subscription_id="s"))
    request = ReplayDeliveriesRequest(
        subscription_id="s",
        scope=ReplayDeliveriesRequest.MISSING,
        start_time=Timestamp(seconds=1),
        request_id=str(uuid4()),
    )
    waiting = asyncio.ensure_future(service.deliveries.ReplayDeliveries(request))
    with closing(sqlite3.connect(service.folder / "signalpost.db", isolation_level=None)) as other:
        first = ListDeliveriesRequest(page_size=1)
        while not (await service.deliveries.ListDeliveries(first)).deliveries:
            pass
        other.execute("BEGIN IMMEDIATE")  # Now the replay cannot go on.
        stopping = asyncio.create_task(service.stop())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await waiting
        other.execute("ROLLBACK")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert await stopping == 0
    assert not [line for line in service.log if "call failed" in line]
    await service.start()
    replay = await service.deliveries.ReplayDeliveries(request)
    assert replay.delivery_count == MISSED
