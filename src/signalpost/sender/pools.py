"""The connections of all endpoints, bounded."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager

from signalpost.sender.transport import EndpointTransport

MAX_ENDPOINTS = 1000
"""Most endpoints whose connections are kept while nothing is sent to them."""

IDLE_SECONDS = 60.0
"""How long an endpoint's connections are kept while nothing is sent to it."""


class _Pool:
    """An endpoint's transport: how many use it, and since when nobody does."""

    __slots__ = ("idle_since", "transport", "users")

    def __init__(self, transport: EndpointTransport) -> None:
        self.transport = transport
        self.users = 0
        self.idle_since = 0.0


class Pools:
    """Lends the transport of an endpoint; those unused for longest come first to be dropped."""

    def __init__(self, make: Callable[[], EndpointTransport]) -> None:
        self._make = make
        self._pools: OrderedDict[Hashable, _Pool] = OrderedDict()

    def __len__(self) -> int:
        """Return how many endpoints have connections, or had them a moment ago."""
        return len(self._pools)

    @asynccontextmanager
    async def lend(self, key: Hashable) -> AsyncIterator[EndpointTransport]:
        """Lend the transport of the endpoint with this key."""
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = _Pool(self._make())
        pool.users += 1
        try:
            yield pool.transport
        finally:
            pool.users -= 1
            pool.idle_since = asyncio.get_running_loop().time()
            if self._pools.get(key) is pool:
                self._pools.move_to_end(key)
            if len(self._pools) > MAX_ENDPOINTS:
                await self._drop_idle(len(self._pools) - MAX_ENDPOINTS)

    async def sweep(self, *, idle_seconds: float = IDLE_SECONDS) -> None:
        """Close the connections of endpoints that nothing was sent to for so long."""
        limit = asyncio.get_running_loop().time() - idle_seconds
        stale = [
            key for key, pool in self._pools.items() if not pool.users and pool.idle_since <= limit
        ]
        await self._drop(stale)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._drop(list(self._pools))

    async def _drop_idle(self, count: int) -> None:
        idle = [key for key, pool in self._pools.items() if not pool.users]
        await self._drop(idle[:count])

    async def _drop(self, keys: list[Hashable]) -> None:
        dropped = [self._pools.pop(key) for key in keys]
        for pool in dropped:
            await pool.transport.aclose()
