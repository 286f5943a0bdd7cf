"""Tenants with more endpoints that never answer than there are slots, and endpoints that answer."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Self

import pytest

from tests.e2e.receiver import Receiver
from tests.e2e.service import Service, connected

FILES = 256
SLOTS = FILES // 4
"""A quarter of the files is for attempts."""

SLOW_SLOTS = SLOTS * 3 // 4
"""Most that endpoints have that do not answer; one tenant alone has half of those."""


class Mutes:
    """Endpoints that take connections and never answer, each a host of its own."""

    def __init__(self) -> None:
        self.opened = self.closed = 0
        self._changed = asyncio.Condition()
        self._stack = AsyncExitStack()
        self._count = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def subscribe(self, service: Service, count: int, *, tenant: str) -> None:
        for _ in range(count):
            self._count += 1
            host = f"127.1.{self._count // 250}.{self._count % 250 + 1}"
            server = await asyncio.start_server(self._accept, host, 0)
            self._stack.callback(server.close)
            address, port = server.sockets[0].getsockname()
            await service.subscribe(
                f"http://{address}:{port}/",
                subscription_id=f"mute-{self._count}",
                tenant_id=tenant,
            )

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        async with self._changed:
            self._changed.notify_all()
        while await reader.read(65536):
            pass
        self.closed += 1
        writer.close()

    async def until_opened(self, count: float) -> None:
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: self.opened >= count)


async def publish(service: Service, tenant: str, event_id: str) -> None:
    event = connected(event_id)
    event.tenant_id = tenant
    await service.publish(event)


@pytest.fixture
async def crowded(service: Service) -> Service:
    """A service with few slots."""
    service.within = ("prlimit", f"--nofile={FILES}:{FILES}")
    await service.start()
    return service


async def test_mute_endpoints_of_one_tenant_leave_slots_for_others(
    crowded: Service, receiver: Receiver
) -> None:
    async with Mutes() as mutes:
        await mutes.subscribe(crowded, 100, tenant="loud")
        await crowded.subscribe(receiver.url(), tenant_id="quiet")
        await publish(crowded, "loud", "e1")
        await mutes.until_opened(SLOW_SLOTS / 2)
        await publish(crowded, "quiet", "e2")
        await receiver.until(lambda: receiver.requests)
        assert (mutes.opened, mutes.closed) == (SLOW_SLOTS / 2, 0)
        await crowded.kill()


async def test_mute_endpoints_leave_slots_for_those_of_their_tenant_that_answer(
    crowded: Service, receiver: Receiver
) -> None:
    async with Mutes() as mutes:
        await crowded.subscribe(receiver.url(), tenant_id="loud")
        await publish(crowded, "loud", "e0")
        await receiver.until(lambda: receiver.requests)
        await mutes.subscribe(crowded, 100, tenant="loud")
        await publish(crowded, "loud", "e1")
        await mutes.until_opened(SLOW_SLOTS / 2)
        for number in range(2, 12):
            await publish(crowded, "loud", f"e{number}")
            expected = number + 1
            await receiver.until(lambda: len(receiver.requests) >= expected)  # noqa: B023 - here
        assert (mutes.opened, mutes.closed) == (SLOW_SLOTS / 2, 0)
        await crowded.kill()


async def test_mute_endpoints_of_many_tenants_leave_slots_for_endpoints_that_answer(
    crowded: Service, receiver: Receiver
) -> None:
    async with Mutes() as mutes:
        await crowded.subscribe(receiver.url(), tenant_id="quiet")
        await publish(crowded, "quiet", "e0")
        await receiver.until(lambda: receiver.requests)
        tenants = [f"loud{number}" for number in range(10)]
        for tenant in tenants:
            await mutes.subscribe(crowded, 30, tenant=tenant)
        for tenant in tenants:
            await publish(crowded, tenant, tenant)
        await mutes.until_opened(SLOW_SLOTS)
        await publish(crowded, "quiet", "e1")
        await receiver.until(lambda: len(receiver.requests) == 2)
        assert (mutes.opened, mutes.closed) == (SLOW_SLOTS, 0)
        await crowded.kill()
