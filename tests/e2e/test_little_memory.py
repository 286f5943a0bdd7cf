"""A service that may have little memory, and much to send to those who are slow to take it."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest

from signalpost.process import Share
from signalpost.v1.delivery_pb2 import Delivery
from signalpost.v1.event_pb2 import Event
from signalpost.v1.subscription_pb2 import Subscription
from signalpost.v1.subscription_service_pb2 import CreateSubscriptionRequest
from tests.conftest import Require
from tests.e2e.control_group import MemoryGroup, can_bound_memory
from tests.e2e.receiver import Receiver
from tests.e2e.service import Service, connected
from tests.e2e.test_publish_stream import resident_bytes

ROUNDS = int(os.environ.get("SIGNALPOST_TEST_MEMORY_ROUNDS", "2"))
"""How often all is sent. Make it 60 before a release, which takes ten minutes."""

MEMORY = 256 * 2**20
TENANTS = ("", "acme", "beta")
"""One of them alone would have half of the slots."""

SLOW = 60
EVENTS = 10
SLOW_SECONDS = 0.5

SHARE = Share.of(files=65_536, memory=MEMORY, attempts=512, kept=2000)
AT_ONCE = SHARE.attempts
MOST_GROWTH_BYTES = SHARE.cache_bytes + 12 * 2**20
"""From the first round on: caches fill, and what is free lies between what is not."""

MOST_LATE_GROWTH_BYTES = 8 * 2**20
"""In the second half of all rounds."""


@dataclass
class Slow:
    """Endpoints that take their time; `most` requests were under way at once."""

    port: int = 0
    now: int = 0
    most: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self.take(head, reader)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async def take(self, head: bytes, reader: asyncio.StreamReader) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
        await asyncio.sleep(SLOW_SECONDS)
        self.now -= 1


@pytest.fixture
def group(require: Require) -> Iterator[MemoryGroup]:
    require(can_bound_memory(), "needs root and control groups")
    with MemoryGroup.of(MEMORY) as group:
        yield group


@pytest.fixture
async def slow() -> AsyncIterator[Slow]:
    slow = Slow()
    server = await asyncio.start_server(slow.serve, "127.0.0.1", 0, backlog=1000)
    slow.port = server.sockets[0].getsockname()[1]
    yield slow
    server.close()


def large(event_id: str, *, tenant: str) -> Event:
    event = connected(event_id)
    event.tenant_id = tenant
    event.account_connected.user_id = "u" * 250_000
    return event


async def subscribe(service: Service, slow: Slow, receiver: Receiver) -> None:
    for number in range(SLOW):
        subscription = Subscription(
            endpoint_uri=f"http://127.0.0.1:{slow.port}/{number}",
            tenant_id=TENANTS[number % len(TENANTS)],
        )
        await service.subscriptions.CreateSubscription(
            CreateSubscriptionRequest(subscription=subscription)
        )
    await service.subscribe(receiver.url("/healthy"))


async def test_little_memory_makes_it_slow_and_neither_ends_nor_fills_it(
    group: MemoryGroup, service: Service, receiver: Receiver, slow: Slow
) -> None:
    service.within = group.within
    await service.start()
    await subscribe(service, slow, receiver)
    sizes = []
    for round_ in range(ROUNDS):
        for tenant in TENANTS:
            names = (f"{round_}-{number}" for number in range(EVENTS))
            await service.publish(*(large(name, tenant=tenant) for name in names))
        await service.drained()
        sizes.append(resident_bytes(service))
    deliveries = await service.drained()
    assert group.kills() == 0
    assert await service.stop() == 0
    assert {delivery.state for delivery in deliveries} == {Delivery.SUCCEEDED}
    assert len(deliveries) == ROUNDS * EVENTS * (SLOW + 1)
    assert AT_ONCE / 2 < slow.most <= AT_ONCE
    assert sizes[-1] < sizes[0] + MOST_GROWTH_BYTES
    assert sizes[-1] < sizes[ROUNDS // 2] + MOST_LATE_GROWTH_BYTES
