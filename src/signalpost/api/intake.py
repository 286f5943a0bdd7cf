"""How much of requests may be in memory at once.

A large request costs several times its size: as it came, as a message, as events, as rows. Many
at once would have the system end the process. So requests come in a few at a time, for nothing
says how large one is before it is there: until it is read, flow control of HTTP/2 holds it back
at the client. A large one then waits for its turn to be worked on, and if too much waits
already, it is refused at once. What is small is not held up by those that wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from signalpost.api.parsing import MAX_PUBLISH_BYTES
from signalpost.domain.errors import Overloaded
from signalpost.process import Share

SMALL_BYTES: Final = 32 * 1024
"""Requests up to this size are not counted."""

PATIENCE_SECONDS: Final = 0.5
"""How long those that come in slowly hold up others."""

STREAM_PATIENCE_SECONDS: Final = 5.0
"""How long a stream waits for another one to end."""

_TOO_MANY: Final = "there are too many requests at once for the memory there is"

_Read = TypeVar("_Read")


class Intake:
    """Lets requests in, and large ones be worked on, one after the other."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._most_waiting = share.request_bytes
        # Each is there twice for a moment: with gRPC, and as it is handed over.
        self._most_arriving = max(1, share.request_bytes // (2 * MAX_PUBLISH_BYTES))
        self._most_work = max(MAX_PUBLISH_BYTES, share.request_bytes // 4)
        self._arriving = 0
        self._before: deque[asyncio.Future[None]] = deque()
        self._streams = asyncio.Semaphore(share.streams)
        self._work = 0
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self._waiting_bytes = 0

    async def arrive(self, read: Callable[[], Awaitable[_Read]]) -> _Read:
        """Read a request; if many come in just now, after those before it. Raises Overloaded."""
        if self._arriving < self._most_arriving:
            self._arriving += 1
        else:
            await self._until_others_are_there()
        try:
            return await read()
        finally:
            self._leave()

    async def join(self) -> None:
        """Become one of the streams of requests, once there is room; `leave` it then.

        The next request of any of them may come at any time. Raises Overloaded.
        """
        try:
            async with asyncio.timeout(STREAM_PATIENCE_SECONDS):
                await self._streams.acquire()
        except TimeoutError:
            most = self._share.streams
            message = f"{most} streams publish, the most there is memory for"
            raise Overloaded(message) from None

    def leave(self) -> None:
        """Give room to the next stream."""
        self._streams.release()

    @asynccontextmanager
    async def work(self, size: int, *, bounded: bool) -> AsyncIterator[None]:
        """Work on a request of so many bytes, after those before it.

        Raises Overloaded if too much waits. What is `bounded` already is not refused.
        """
        if self._waiting or not self._has_room(size):
            if not bounded and self._waiting_bytes + size > self._most_waiting:
                raise Overloaded(_TOO_MANY)
            await self._turn(size)
        else:
            self._work += size
        try:
            yield
        finally:
            self._work -= size
            self._begin_next()

    async def _until_others_are_there(self) -> None:
        """Take the place of one that arrived, or one more if none does for long."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._before.append(place)
        try:
            await asyncio.wait([place], timeout=PATIENCE_SECONDS)
        except asyncio.CancelledError:
            if not place.cancel():
                self._leave()
            raise
        if not place.cancel():
            return
        # Those that send nothing take no memory: nobody has to wait for them.
        if not self._share.has_plenty():
            raise Overloaded(_TOO_MANY)
        self._arriving += 1

    def _leave(self) -> None:
        """Give the place of a request that arrived to the next one that still waits for it."""
        while self._before and self._arriving <= self._most_arriving:
            place = self._before.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._arriving -= 1

    async def _turn(self, size: int) -> None:
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((begun, size))
        self._waiting_bytes += size
        try:
            await begun
        except asyncio.CancelledError:
            if not begun.cancelled():
                self._work -= size
            self._begin_next()
            raise

    def _begin_next(self) -> None:
        """Begin what has room now; forget those whose callers are gone."""
        while self._waiting:
            begun, size = self._waiting[0]
            if not begun.cancelled():
                if not self._has_room(size):
                    return
                self._work += size
                begun.set_result(None)
            self._waiting.popleft()
            self._waiting_bytes -= size

    def _has_room(self, size: int) -> bool:
        return not self._work or self._work + size <= self._most_work
