"""How much of requests may be in memory at once.

A large request costs several times its size: as it came, as a message, as events, as rows. Many
at once would have the system end the process. So requests come in a few at a time (`arrivals`).
A large one then waits for its turn to be worked on, and if too much waits already, it is refused
at once. What is small is not held up by those that wait.

Streams are not refused: while much of what they sent is in work, nothing more is read from them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, TypeVar

from signalpost.api.arrivals import REQUEST_BYTES, TOO_MANY, Arrivals, Latecomers
from signalpost.api.parsing import MAX_PUBLISH_BYTES
from signalpost.domain.errors import Overloaded
from signalpost.process import Share

SMALL_BYTES: Final = 32 * 1024
"""Requests up to this size do not wait for their turn."""

CALL_BYTES: Final = 8 * 1024
"""What a call counts for besides its request."""

PATIENCE_SECONDS: Final = 0.5
"""How long those that come in slowly hold up others."""

STREAM_PATIENCE_SECONDS: Final = 0.1
"""The same for streams, of which many are idle."""

_Read = TypeVar("_Read")


class Intake:
    """Lets requests in, and large ones be worked on, one after the other."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._most_waiting = share.request_bytes
        self._most_work = max(MAX_PUBLISH_BYTES, share.request_bytes // 4)
        self._late = Latecomers(share)
        self._calls = self._arrivals(PATIENCE_SECONDS)
        self._stream_arrivals = self._arrivals(STREAM_PATIENCE_SECONDS)
        self.probes = self._arrivals(PATIENCE_SECONDS)
        self.streamed = Streamed(share.request_bytes)
        self._streams = 0
        self._small, self._most_small = 0, share.request_bytes // 2
        self._work = 0
        self._waiting: dict[asyncio.Future[None], int] = {}
        self._waiting_bytes = 0

    def _arrivals(self, patience: float) -> Arrivals:
        return Arrivals(
            max(1, self._share.request_bytes // REQUEST_BYTES),
            most_waiting=self._share.callers,
            patience=patience,
            late=self._late,
        )

    async def arrive(self, read: Callable[[], Awaitable[_Read]]) -> _Read:
        """Read a request; if many come in just now, after those before it. Raises Overloaded."""
        return await self._calls.read(read)

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Be one of the streams of requests. Raises Overloaded."""
        most = self._share.streams
        if self._streams >= most:
            raise Overloaded(f"{most} streams publish, the most there is memory for")
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    async def arrive_next(self, read: Callable[[], Awaitable[_Read]], *, after: int) -> _Read:
        """Read a request of a stream after one of so many bytes, 0 for the first.

        It may come at any time, so nothing waits for it: unless it is likely to be large, as
        the one before was, or memory runs short. Raises Overloaded.
        """
        if after <= SMALL_BYTES and self._late.have_plenty:
            return await self._late.read(read)
        return await self._stream_arrivals.read(read)

    def begin_small(self, size: int) -> None:
        """Begin to work on a small request; `end_small` it then. Raises Overloaded.

        Small ones do not wait. But where storage is slow, there may be very many of them.
        """
        weight = size + CALL_BYTES
        if self._small + weight > self._most_small:
            raise Overloaded(TOO_MANY)
        self._small += weight

    def end_small(self, size: int) -> None:
        """Note that a small request is done with."""
        self._small -= size + CALL_BYTES

    @asynccontextmanager
    async def work(self, size: int, *, bounded: bool) -> AsyncIterator[None]:
        """Work on a request of so many bytes, after those before it.

        Raises Overloaded if too much waits. What is `bounded` already is not refused.
        """
        if self._waiting or not self._has_room(size):
            if not bounded and self._waiting_bytes + size > self._most_waiting:
                raise Overloaded(TOO_MANY)
            await self._turn(size)
        else:
            self._work += size
        try:
            yield
        finally:
            self._work -= size
            self._begin_next()

    async def _turn(self, size: int) -> None:
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[begun] = size
        self._waiting_bytes += size
        try:
            await begun
        except asyncio.CancelledError:
            if self._waiting.pop(begun, None) is None:
                self._work -= size
            else:
                self._waiting_bytes -= size
            self._begin_next()
            raise

    def _begin_next(self) -> None:
        while self._waiting:
            begun, size = next(iter(self._waiting.items()))
            if not self._has_room(size):
                return
            del self._waiting[begun]
            self._waiting_bytes -= size
            self._work += size
            if not begun.done():  # else it is about to give that back
                begun.set_result(None)

    def _has_room(self, size: int) -> bool:
        return not self._work or self._work + size <= self._most_work


class Streamed:
    """What all streams of requests together have in work."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._room = asyncio.Event()
        self._room.set()

    async def room(self) -> None:
        """Return once more may be read."""
        await self._room.wait()

    def begin(self, size: int) -> None:
        """Count a request of so many bytes."""
        self._bytes += size
        if self._bytes >= self._most:
            self._room.clear()

    def end(self, size: int) -> None:
        """Count it no longer."""
        self._bytes -= size
        if self._bytes < self._most:
            self._room.set()
