"""How fast events become durable: unary, batches of 100, and a stream."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import uuid4

from google.protobuf.timestamp_pb2 import Timestamp

from signalpost.v1.event_pb2 import Event, Resource
from signalpost.v1.event_service_pb2 import PublishRequest, PublishStreamRequest
from signalpost.v1.payloads_pb2 import AccountConnected
from tests.bench.figures import Figures, loads, percentiles
from tests.bench.server import Server

BATCH = 100
CALLERS = 32


def event(tenant: str = "") -> Event:
    """An event like most: a small typed payload."""
    return Event(
        event_id=uuid4().hex,
        tenant_id=tenant,
        timestamp=Timestamp(seconds=1778068800),
        resource=Resource(id="acc_42"),
        account_connected=AccountConnected(
            integration="gmail",
            user_id="user_7",
            auth_scheme="OAUTH2",
            scopes=["gmail.readonly", "gmail.send"],
        ),
    )


async def unary(server: Server, calls: int) -> Figures:
    """One event a call."""
    requests = [PublishRequest(events=[event()]) for _ in range(calls)]
    return await _measure(server, requests, callers=CALLERS)


async def batches(server: Server, calls: int) -> Figures:
    """A hundred events a call."""
    requests = [PublishRequest(events=[event() for _ in range(BATCH)]) for _ in range(calls)]
    return await _measure(server, requests, callers=4)


async def _measure(server: Server, requests: list[PublishRequest], *, callers: int) -> Figures:
    latencies: list[float] = []
    remaining = iter(requests)

    async def work() -> None:
        for request in remaining:
            began = time.perf_counter()
            await server.events.Publish(request)
            latencies.append(time.perf_counter() - began)

    events = sum(len(request.events) for request in requests)
    rate = await _timed(server, lambda: _gather(work, callers), events)
    return rate | percentiles(latencies)


async def stream(server: Server, requests: int) -> Figures:
    """A hundred events a request, over one call."""
    prepared = [
        PublishStreamRequest(events=[event() for _ in range(BATCH)]) for _ in range(requests)
    ]

    async def send() -> AsyncIterator[PublishStreamRequest]:
        for request in prepared:
            yield request

    async def work() -> None:
        answers = 0
        async for _ in server.events.PublishStream(send()):
            answers += 1
        assert answers == requests

    return await _timed(server, work, requests * BATCH)


async def _gather(work: Callable[[], Awaitable[None]], callers: int) -> None:
    await asyncio.gather(*(work() for _ in range(callers)))


async def _timed(server: Server, work: Callable[[], Awaitable[None]], events: int) -> Figures:
    cpu = await server.settled()
    began, publisher_cpu = time.perf_counter(), time.process_time()
    await work()
    elapsed = time.perf_counter() - began
    publisher_used = time.process_time() - publisher_cpu
    used = server.cpu_seconds() - cpu
    return {
        "events_per_second": events / elapsed,
        "cpu_us": used / events * 1e6,
    } | loads(elapsed, server=used, publisher=publisher_used)
