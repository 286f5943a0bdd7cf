"""Streams without end: the log of events, and the changes of deliveries.

A stream holds one response at a time and reads on once its client took that: a client that does
not read costs a bounded amount of memory. All streams take turns in making responses, so that
however many there are, a call in between waits for a part of one response only.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar

from google.protobuf.message import Message

from signalpost.domain.errors import QuotaExceeded
from signalpost.settings import DEFAULT_WATCH_LIMIT

PAGE_EVENTS: Final = 100
PAGE_BYTES: Final = 128 * 1024
"""What a response has at most, as stored, unless a single event is larger.

As a message, a `Struct` can be seven times as large. A client that does not read costs about
three responses: one here, and what lies in the buffers of its connection.
"""

_SLICE_SECONDS: Final = 0.002
_LARGE_BYTES: Final = 8 * 1024
_PACE: Final = timedelta(milliseconds=20)

_Item = TypeVar("_Item")
_Shown = TypeVar("_Shown", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchLimits:
    """How many streams may be open, half of them for one tenant, and how long one is silent."""

    streams: int = DEFAULT_WATCH_LIMIT
    keep_alive: timedelta = timedelta(seconds=15)


class Watchers:
    """The streams that are open."""

    def __init__(self, limits: WatchLimits) -> None:
        self.keep_alive = limits.keep_alive
        self.turn = asyncio.Semaphore(1)
        self._most = limits.streams
        self._open: Counter[str] = Counter()

    @contextmanager
    def join(self, tenant_id: str) -> Iterator[None]:
        """Be one of them; `tenant_id` as the request has it. Raises QuotaExceeded."""
        of_one = max(1, self._most // 2)
        if self._open.total() >= self._most:
            raise QuotaExceeded("streams", f"{self._most} streams are open, the most there may be")
        if self._open[tenant_id] >= of_one:
            message = f'{of_one} streams are open for tenant "{tenant_id}", the most it may have'
            raise QuotaExceeded("streams", message)
        self._open[tenant_id] += 1
        try:
            yield
        finally:
            self._open[tenant_id] -= 1
            self._open += Counter()  # forgets those at zero


class Pulse:
    """When a stream must say something, and when it may look for more."""

    def __init__(self, keep_alive: timedelta) -> None:
        self._keep_alive = keep_alive.total_seconds()
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time()
        self._rested = self._due

    @property
    def is_due(self) -> bool:
        """Tell whether the client has heard nothing for so long, or not at all."""
        return self._loop.time() >= self._due

    def beat(self) -> None:
        """Note that the client hears something now."""
        self._due = self._loop.time() + self._keep_alive

    async def wait(self, until: Callable[[], Awaitable[object]]) -> None:
        """Wait for something, until a keep-alive is due at the latest.

        Many small things soon after one another make few responses.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._due):
                await until()
        await asyncio.sleep(self._rested - self._loop.time())
        self._rested = self._loop.time() + _PACE.total_seconds()


async def shown(
    items: Iterable[_Item],
    show: Callable[[_Item], _Shown],
    *,
    size: Callable[[_Item], int] = lambda _: 0,
) -> list[_Shown]:
    """Make messages of items while other calls go on. A large item takes a while for itself."""
    loop = asyncio.get_running_loop()
    messages: list[_Shown] = []
    rest = loop.time() + _SLICE_SECONDS
    for item in items:
        large = size(item) > _LARGE_BYTES
        messages.append(await asyncio.to_thread(show, item) if large else show(item))
        if loop.time() >= rest:
            await asyncio.sleep(0)
            rest = loop.time() + _SLICE_SECONDS
    return messages
