"""Takes turns: requests that calls make to a host, outside of all lanes, are few at once.

And few in a second where the host takes nothing: whoever named it may not own it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

MOST_AT_ONCE: Final = 8
"""So many at most, over all callers: endpoints that callers name may be those of others."""

KEPT_SECONDS: Final = 1.0
"""For so long nobody else has a turn that did not work."""


@dataclass(slots=True)
class Turn:
    """One turn with a host: whether that took what it was sent."""

    worked: bool = False


@dataclass(slots=True)
class _Host:
    """Those that are under way to a host, or wait for their turn."""

    turns: asyncio.Semaphore
    callers: int = 0


class Turns:
    """Knows a host as long as somebody calls it, or did so in vain a moment ago."""

    def __init__(
        self, *, most_at_once: int = MOST_AT_ONCE, kept_seconds: float = KEPT_SECONDS
    ) -> None:
        self._most = most_at_once
        self._kept_seconds = kept_seconds
        self._hosts: dict[str, _Host] = {}

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[Turn]:
        """Wait for a turn with a host, and have it while the context lasts.

        It is the next one's at once if it worked, and otherwise after a while, also if the
        caller went away.
        """
        host = self._hosts.setdefault(name, _Host(asyncio.Semaphore(self._most)))
        host.callers += 1
        try:
            await host.turns.acquire()
        except BaseException:
            self._leave(name, host)
            raise
        turn = Turn()
        try:
            yield turn
        finally:
            if turn.worked:
                self._end(name, host)
            else:
                loop = asyncio.get_running_loop()
                loop.call_later(self._kept_seconds, self._end, name, host)

    def _end(self, name: str, host: _Host) -> None:
        host.turns.release()
        self._leave(name, host)

    def _leave(self, name: str, host: _Host) -> None:
        host.callers -= 1
        if not host.callers:
            del self._hosts[name]

    def __len__(self) -> int:
        """Return how many hosts are called."""
        return len(self._hosts)
