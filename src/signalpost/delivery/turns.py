"""Takes turns: requests that calls make to a host, outside of all lanes, are few at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

MOST_AT_ONCE: Final = 8
"""So many at most, over all callers: endpoints that callers name may be those of others."""


@dataclass(slots=True)
class _Host:
    """Those that are under way to a host, or wait for their turn."""

    turns: asyncio.Semaphore
    callers: int = 0


class Turns:
    """Knows a host as long as somebody calls it."""

    def __init__(self, *, most_at_once: int = MOST_AT_ONCE) -> None:
        self._most = most_at_once
        self._hosts: dict[str, _Host] = {}

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """Wait for a turn with a host, and have it while the context lasts."""
        host = self._hosts.setdefault(name, _Host(asyncio.Semaphore(self._most)))
        host.callers += 1
        try:
            async with host.turns:
                yield
        finally:
            host.callers -= 1
            if not host.callers:
                del self._hosts[name]

    def __len__(self) -> int:
        """Return how many hosts are called."""
        return len(self._hosts)
